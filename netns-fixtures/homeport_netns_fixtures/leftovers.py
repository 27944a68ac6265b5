"""What a test run left behind: namespaces, links, nft tables of the machine's own namespace, and processes.

Under CI=true the machine is the run's own, and anything new is a leak. Elsewhere others work on the same machine, so
only what names this run counts: namespaces by their name, processes by a variable in their environment, which also
finds those that were orphaned.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from homeport_netns_fixtures import names
from homeport_netns_fixtures.netns import RUN_NETNS, CommandFailed, named
from homeport_netns_fixtures.programs import find_program

SESSION = "HOMEPORT_TEST_SESSION"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What exists at one moment."""

    namespaces: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]
    processes: frozenset[int]

    def since(self, before: "Inventory", *, everything: bool) -> list[str]:
        """What came and stayed, a line each. `everything` counts also what does not carry this run's name."""
        namespaces = {name for name in self.namespaces - before.namespaces if _counts(name, everything)}
        processes = {pid for pid in self.processes - before.processes if Path(f"/proc/{pid}").exists()}
        left = [f"network namespace {name}" for name in sorted(namespaces)]
        left += [f"process {pid}: {_command_line(pid)}" for pid in sorted(processes)]
        if everything:
            left += [f"link {name}" for name in sorted(self.links - before.links)]
            left += [f"nft table {name}" for name in sorted(self.tables - before.tables)]
        return left


def take_inventory() -> Inventory:
    return Inventory(_namespaces(), _links(), _tables(), frozenset(_processes()))


def sweep_dead_runs() -> list[str]:
    """Removes namespaces of test processes that were killed before they could; answers their names."""
    swept = []
    for name in sorted(_namespaces()):
        pid = names.owner(name)
        if pid is not None and pid != os.getpid() and not Path(f"/proc/{pid}").exists():
            named(name).delete()
            swept.append(name)
    return swept


def kill_processes_naming(text: str, within: float = 10) -> None:
    """SIGKILL to this run's processes whose command line or working directory holds `text`, a directory of a test's own
    for instance, and waits until they are gone: an etcd that an agent left behind, for one."""
    end = time.monotonic() + within
    while pids := [pid for pid in _processes() if text in _command_line(pid) or text in _working_directory(pid)]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end:
            raise CommandFailed(f"processes {pids} outlive SIGKILL")
        time.sleep(0.02)


def _counts(name: str, everything: bool) -> bool:
    pid = names.owner(name)
    if pid is not None and pid != os.getpid():
        return False  # another run, beside this one
    return everything or pid == os.getpid()


def _namespaces() -> frozenset[str]:
    return frozenset(path.name for path in RUN_NETNS.iterdir()) if RUN_NETNS.is_dir() else frozenset()


def _links() -> frozenset[str]:
    return frozenset(path.name for path in Path("/sys/class/net").iterdir() if path.is_symlink())


def _tables() -> frozenset[str]:
    nft = find_program("nft")
    if nft is None or os.geteuid() != 0:
        return frozenset()
    done = subprocess.run([nft, "--json", "list", "tables"], capture_output=True, text=True)
    objects = json.loads(done.stdout)["nftables"] if done.returncode == 0 and done.stdout else []
    return frozenset(f"{o['table']['family']} {o['table']['name']}" for o in objects if "table" in o)


def _processes() -> list[int]:
    """Living processes started by this run, however far down, but this one."""
    mark = f"{SESSION}={os.getpid()}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended between the listing and the look
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _working_directory(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.fspath(Path(f"/proc/{pid}/cwd").readlink())
    return ""


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:300]
    return ""
