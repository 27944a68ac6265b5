"""Calls of CNI executables, as runtimes make them: directly with the environment of the specification, or by cnitool.

Nothing is judged here: a refusal is an answer like any other, with its code and the error object that was printed.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeport_netns_fixtures.netns import Namespace

RESULTS = Path("/var/lib/cni/results")
"""Where libcni keeps the result of each attachment until its DEL, compiled into the reference client."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`result` is the JSON on stdout: a result, an error object, or empty when nothing was printed."""

    exit_code: int
    result: dict[str, Any]
    stderr: str

    @property
    def error(self) -> int:
        """The CNI error code; 0 when the call succeeded."""
        return 0 if self.exit_code == 0 else int(self.result.get("code", -1))

    @property
    def addresses(self) -> list[str]:
        return [str(entry["address"]) for entry in self.result.get("ips", [])]


def call(
    executable: Path,
    command: str,
    configuration: Mapping[str, Any],
    *,
    inside: Namespace,
    container_id: str | None = None,
    netns: Namespace | None = None,
    ifname: str | None = None,
    args: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Answer:
    """One executable, once, in the namespace of its node. What is None is not in its environment."""
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": None if netns is None else os.fspath(netns.path),
        "CNI_IFNAME": ifname,
        "CNI_ARGS": None if args is None else ";".join(f"{key}={value}" for key, value in args.items()),
        "CNI_PATH": os.fspath(executable.parent),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CNI_")}
    environment = kept | {name: value for name, value in variables.items() if value is not None}
    done = inside.run(
        os.fspath(executable), stdin=json.dumps(configuration), check=False, env=environment, timeout=timeout
    )
    return _answer(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class CniTool:
    """The reference client: it reads configuration lists from `conf_dir` and runs every plugin of a list. Results it
    keeps where all of CNI does, below /var/lib/cni, by container ID, until their DEL."""

    program: str
    bin_dir: Path
    conf_dir: Path

    def __call__(
        self,
        command: str,
        network: str,
        netns: Namespace,
        *,
        inside: Namespace,
        ifname: str = "eth0",
        args: Mapping[str, str] | None = None,
        capabilities: Mapping[str, Any] | None = None,
    ) -> Answer:
        """`command` is cnitool's word: add, check, del, gc, status."""
        environment = os.environ | {
            "CNI_PATH": os.fspath(self.bin_dir),
            "NETCONFPATH": os.fspath(self.conf_dir),
            "CNI_IFNAME": ifname,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in (args or {}).items()),
            "CAP_ARGS": json.dumps(capabilities or {}),
        }
        done = inside.run(self.program, command, network, os.fspath(netns.path), check=False, env=environment)
        return _answer(done.returncode, done.stdout, done.stderr)


def _answer(code: int, stdout: str, stderr: str) -> Answer:
    try:
        decoded = json.loads(stdout) if stdout.strip() else {}
    except json.JSONDecodeError as error:
        raise AssertionError(f"no JSON on stdout: {stdout!r} ({stderr!r})") from error
    return Answer(code, decoded, stderr)
