"""Runs a command in Debian's stock kernel, on this machine's own files, in a virtual machine.

    python -m homeport_netns_fixtures.debian_kernel -- COMMAND...

For what the machine's kernel lacks: bridge VLAN filtering, bridge conntrack, bonding. The file system is this one,
read-only or with writes that vanish; only the directory given as writable keeps them. Needs no root: inside, the
command runs as root of a kernel of its own.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from homeport_netns_fixtures import accel
from homeport_netns_fixtures.programs import (
    Flavour,
    find_busybox,
    find_kernel,
    find_program,
    missing_programs,
    search_path,
)

# Loaded before the command: a module that is loaded on demand would race with the first rule that needs it.
MODULES = (
    "bridge",
    "8021q",
    "veth",
    "tun",
    "macvlan",
    "bonding",
    "dummy",
    "br_netfilter",
    "nf_tables",
    "nf_conntrack_bridge",
    "nft_meta_bridge",
    "nft_ct",
    "nft_log",
    "nfnetlink_log",
    "nft_limit",
    "nf_conntrack_netlink",
    "af_packet",
)
LIMIT_SECONDS = 1800
# What the kernel tier is told of the world outside.
_PASSED_ON = ("CI", "HOME", "LANG", "TERM", "HYPOTHESIS_PROFILE", "XDG_CACHE_HOME")


def lacks() -> str | None:
    """Why this machine cannot boot it, with the remedy; None when it can."""
    reason = missing_programs("qemu-system-x86_64", "modprobe", "strings", "file")
    if reason is None and _vng() is None:
        reason = "no virtme-ng: `make setup` puts it into .venv"
    if reason is None and find_busybox() is None:
        reason = "no static busybox: `make setup` unpacks one"
    if reason is None and find_kernel(Flavour.STOCK) is None:
        reason = "no Debian stock kernel with its modules: `make setup` unpacks one"
    return reason


def run(command: Sequence[str], *, writable: Path, limit: float = LIMIT_SECONDS) -> int:
    """The command's exit code; its output comes as it is written. 124 when `limit` seconds were not enough."""
    kernel = find_kernel(Flavour.STOCK)
    vng, busybox = _vng(), find_busybox()
    assert kernel is not None and vng is not None and busybox is not None, lacks()
    # Modules are asked for one by one: one that a kernel has built in, or lacks, must not keep the rest out.
    script = "".join(f"modprobe -q {module}; " for module in MODULES)
    # One whose bridges hand frames to iptables would judge every test by it; tests that want that turn it on.
    script += "sysctl -q -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 2>/dev/null; "
    passed_on = [f"{name}={os.environ[name]}" for name in _PASSED_ON if name in os.environ]
    # virtme-ng calls its own programs by name.
    path = os.pathsep.join([os.fspath(Path(sys.executable).parent), search_path()])
    inside = ["env", f"PATH={path}", "PYTHONUNBUFFERED=1", *passed_on, *command]
    script += f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join(inside)}"
    # By way of a file: a kernel command line, on which virtme-ng puts what it is to run, ends at 2,048 bytes.
    start = writable / "start-in-debian-kernel"
    start.write_text(script + "\n")
    argv = [vng, "--run", os.fspath(kernel.image), "--cpus", str(min(os.cpu_count() or 1, 4)), "--memory", "2G"]
    argv += ["--user", "root", "--busybox", os.fspath(busybox), "--rwdir", os.fspath(writable)]
    if accel.choose() is accel.Accel.TCG:
        argv.append("--disable-kvm")
    # QEMU opens what it is given for output anew, which would cut a file back to nothing: so it is given a pipe.
    with subprocess.Popen(
        [*argv, "--", f"sh {shlex.quote(os.fspath(start))}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=os.environ | {"PATH": path},
    ) as machine:
        assert machine.stdout is not None
        watchdog = threading.Timer(limit, os.killpg, (machine.pid, signal.SIGKILL))
        watchdog.start()
        try:
            while chunk := os.read(machine.stdout.fileno(), 65536):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            code = machine.wait()
        finally:
            watchdog.cancel()
            if machine.poll() is None:
                os.killpg(machine.pid, signal.SIGKILL)
    if code == -signal.SIGKILL:
        print(f"the Debian kernel's machine did not end within {limit:.0f} s", file=sys.stderr)
        return 124
    return code


def _vng() -> str | None:
    beside = Path(sys.executable).with_name("vng")
    return os.fspath(beside) if beside.exists() else find_program("vng")


def main(argv: Sequence[str]) -> int:
    command = list(argv[1:]) if argv[:1] == ["--"] else list(argv)
    if not command:
        print("usage: python -m homeport_netns_fixtures.debian_kernel -- COMMAND...", file=sys.stderr)
        return 2
    if (reason := lacks()) is not None:
        print(reason, file=sys.stderr)
        return 3
    return run(command, writable=Path.cwd())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
