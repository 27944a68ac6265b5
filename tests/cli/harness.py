"""The command line in this process, over a store in memory, and an agent that answers what it is told to."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from homeport_agent.server import Server
from homeport_cli.main import cli as command
from homeport_cli.session import Session
from homeport_cni.frames import Frame, decode_json, encode_json
from homeport_cni.sockets import Received
from homeport_store.memory import MemoryStore
from homeport_store.objects import Objects


class Cli:
    """Calling it runs one command. Every call is an invocation of its own, with its own session; `now` is its clock."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.environ: dict[str, str] = {"HOMEPORT_CONFIG": "/dev/null"}
        self.now = 1_750_000_000.0

    @property
    def objects(self) -> Objects:
        return Objects(self.store)

    def session(self) -> Session:
        return Session(self.environ, lambda _settings: self.store, lambda: self.now)

    def __call__(self, *arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(command, list(arguments), obj=self.session(), input=stdin)


class Listener:
    """The agent's own server with one answer for everything, and what it was asked."""

    def __init__(self, path: Path) -> None:
        self.asked: list[dict[str, Any]] = []
        self.inodes: list[int | None] = []
        self.answer: Mapping[str, Any] = {"ok": True, "result": {}}
        self._lock = threading.Lock()
        self.server = Server(path, self._handle, lambda received, error: encode_json({"ok": False}), 1, 5.0)

    def _handle(self, received: Received) -> Frame:
        descriptor = received.take()
        with self._lock:
            self.asked.append(decode_json(received.frame.payload))
            self.inodes.append(None if descriptor is None else os.fstat(descriptor).st_ino)
        if descriptor is not None:
            os.close(descriptor)
        return encode_json(self.answer)


NETWORK = """\
{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: lab},
 spec: {type: L2, ipam: {pools: [{cidr: 10.77.0.0/24}]}}}
"""
WEB = """\
{apiVersion: homeport.dev/v1, kind: VirtualMachine, metadata: {name: web},
 spec: {interfaces: [{name: eth0, networkName: lab}]}}
"""
