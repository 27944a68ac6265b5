"""An agent as a real process inside a node's namespace: started, asked whether it is ready, stopped, killed.

It is called as a service manager would, `python -m homeport_agent` with options; nothing of its code is imported here.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from homeport_netns_fixtures.netns import CommandFailed, Namespace

READY_WITHIN = 30.0


@dataclass(slots=True)
class AgentProcess:
    """One agent's place and, while it lives, its process. `start` after `kill` or `stop` is a restart."""

    namespace: Namespace
    run_dir: Path
    log_file: Path
    options: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None, "the agent was never started"
        return self.process.pid

    def start(self, *extra: str) -> None:
        """Returns at once; `wait_ready` waits. `extra` options hold for this start only."""
        assert not self.alive, "the agent is running"
        argv = [sys.executable, "-m", "homeport_agent", *self.options, *extra]
        self.process = self.namespace.popen(*argv, log=self.log_file)

    def wait_ready(self, within: float = READY_WITHIN) -> float:
        """Until `/readyz` answers 200; the seconds it took from here. Fails with the end of the log."""
        started = time.monotonic()
        answer = "nothing yet"
        while time.monotonic() < started + within:
            if not self.alive:
                raise CommandFailed(f"the agent ended with {self.exit_code()}:\n{self.log_tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, answer = self.http_get("/readyz")
                if status == 200:
                    return time.monotonic() - started
            time.sleep(0.02)
        raise CommandFailed(f"the agent is not ready after {within:.0f} s ({answer.strip()}):\n{self.log_tail()}")

    def http_get(self, path: str, timeout: float = 10) -> tuple[int, str]:
        """(status, body) of a request on the agent's `http.sock`."""
        connection = _UnixConnection(self.run_dir / "http.sock", timeout)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def stop(self) -> None:
        """SIGTERM, and waits for the end. Nothing happens when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, no child is told."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: its sockets stay open and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait_exit(self, within: float = READY_WITHIN) -> int:
        """The exit code of an agent that ends by itself."""
        assert self.process is not None, "the agent was never started"
        return self.process.wait(within)

    def exit_code(self) -> int | None:
        return None if self.process is None else self.process.poll()

    def log(self) -> str:
        """All that it and its predecessors here have logged."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def _end(self, signum: int) -> None:
        if not self.alive:
            return
        os.kill(self.pid, signum)
        os.kill(self.pid, signal.SIGCONT)
        try:
            self.wait_exit()
        except subprocess.TimeoutExpired as error:
            os.kill(self.pid, signal.SIGKILL)
            self.wait_exit()
            raise CommandFailed(f"the agent did not end within {READY_WITHIN:.0f} s:\n{self.log_tail()}") from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))
