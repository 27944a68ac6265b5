"""A network namespace as a value: made, entered, asked, deleted.

Links are described in the words of iproute2, a batch per namespace and so one process for a whole wiring; what a test
asserts is read back as JSON. Processes are started with nsenter, so that they share the mount namespace, and with it
/run/netns, of whoever looks at them.
"""

import contextlib
import ctypes
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeport_netns_fixtures import names
from homeport_netns_fixtures.programs import find_program, search_path

RUN_NETNS = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class CommandFailed(AssertionError):
    """A command that a test relies on did not succeed; the text has its output."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace, by the path of its mount."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def command(self, *argv: str) -> list[str]:
        """`argv` as it must be called to run inside."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    def run(
        self, *argv: str, stdin: str = "", check: bool = True, timeout: float = 30, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs to its end inside. With `check`, a failure raises `CommandFailed` with what it printed."""
        done = subprocess.run(
            self.command(*argv),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=(dict(os.environ) if env is None else dict(env)) | {"PATH": search_path()},
        )
        if check and done.returncode != 0:
            raise CommandFailed(f"{' '.join(argv)} in {self.name}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def popen(
        self, *argv: str, log: Path, cwd: Path | None = None, descriptors: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        """Starts inside, in a session of its own, with its output appended to `log`; the caller ends it. It inherits
        `descriptors` under their numbers."""
        with log.open("ab") as output:
            return subprocess.Popen(
                self.command(*argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                start_new_session=True,
                pass_fds=descriptors,
                env=os.environ | {"PATH": search_path()},
            )

    def ip(self, *commands: str) -> None:
        """iproute2 commands in order, in one process: `ns.ip("link set lo up", "address add 10.0.0.1/24 dev eth0")`."""
        self._batch("ip", commands)

    def bridge(self, *commands: str) -> None:
        """The same for `bridge`: `ns.bridge("vlan add vid 100 dev p1 pvid untagged")`."""
        self._batch("bridge", commands)

    def _batch(self, tool: str, commands: tuple[str, ...]) -> None:
        self.run(find_program(tool) or tool, "-batch", "-", stdin="\n".join(commands) + "\n")

    def show(self, *arguments: str) -> list[dict[str, Any]]:
        """What `ip -json ...` answers: `ns.show("-d", "link")`; empty when nothing is there."""
        answer: list[dict[str, Any]] = json.loads(self.run("ip", "-json", *arguments, "show").stdout or "[]")
        return answer

    def links(self) -> set[str]:
        return {link["ifname"] for link in self.show("link")}

    def mac(self, link: str) -> str:
        return next(str(entry["address"]) for entry in self.show("link") if entry["ifname"] == link)

    def nft(self, ruleset: str) -> None:
        """Applies a ruleset in nft's own language, whole or not at all."""
        self.run("nft", "-f", "-", stdin=ruleset)

    def get_sysctl(self, name: str) -> str:
        """One setting below /proc/sys/net: `ns.get_sysctl("ipv4/ip_forward")`. What is read there is the reader's own
        namespace's, and `sysctl` itself is not on every machine."""
        return self.run("cat", f"/proc/sys/net/{name}").stdout.strip()

    def set_sysctl(self, name: str, value: int | str) -> None:
        self.run("tee", f"/proc/sys/net/{name}", stdin=str(value))

    def pings(self, address: str, *, count: int = 1, wait: float = 2, size: int | None = None) -> bool:
        """True when every one of `count` echo requests is answered within `wait` seconds."""
        extra = [] if size is None else ["-s", str(size)]
        argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", str(wait), *extra, address]
        return self.run(*argv, check=False, timeout=30 + count * wait).returncode == 0

    def wait_ping(self, address: str, *, within: float = 30) -> None:
        """Until one echo request is answered: a bridge port needs a moment after its link came up."""
        attempts = max(1, int(within))
        if not any(self.pings(address, wait=1) for _ in range(attempts)):
            raise CommandFailed(f"{address} does not answer {self.name} within {within:.0f} s")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside; sockets that it opens stay there."""
        with self.path.open("rb") as target, Path("/proc/thread-self/ns/net").open("rb") as home:
            _setns(target.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.entered():
            return socket.socket(family, kind, protocol)

    def delete(self) -> None:
        """Gone, with every link in it. Nothing happens when it is gone already."""
        if self.exists:
            done = subprocess.run(
                [find_program("ip") or "ip", "netns", "delete", self.name], capture_output=True, text=True
            )
            if done.returncode != 0 and self.exists:
                raise CommandFailed(f"ip netns delete {self.name}: {done.stderr}")


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


def create(label: str) -> Namespace:
    """A new namespace with a name of its own and `lo` up."""
    namespace = Namespace(RUN_NETNS / names.unique(label))
    done = subprocess.run(
        [find_program("ip") or "ip", "-batch", "-"],
        input=f"netns add {namespace.name}\n",
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise CommandFailed(f"ip netns add {namespace.name}: {done.stderr}")
    namespace.ip("link set lo up")
    return namespace


def named(name: str) -> Namespace:
    """An existing namespace by name; whether it exists is asked with `exists`."""
    return Namespace(RUN_NETNS / name)
