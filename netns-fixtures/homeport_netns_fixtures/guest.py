"""A real virtual machine as a guest of a test: QEMU, Debian's cloud kernel, and a root file system of one busybox.

It boots in two to three seconds where it is emulated, takes its addresses from the kernel command line and runs shell
commands that arrive on its second serial port. Its NIC is a tap that QEMU opens by name in the namespace given, as a
hypervisor does: the link is there once the process runs, and gone with it. Or one that was opened for it (`open_tap`),
as libvirt does: so its address can be known before the guest boots.

    with Guest(namespace, directory, "web", [Nic("tap0", "02:00:00:00:00:01")], addresses=["192.0.2.7/24"]) as web:
        web.wait_ready()
        assert web.run("ping -c 1 192.0.2.8").code == 0
"""

import contextlib
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from homeport_netns_fixtures import accel, initramfs
from homeport_netns_fixtures.netns import CommandFailed, Namespace
from homeport_netns_fixtures.programs import Flavour, find_busybox, find_kernel, missing_programs

READY = b"homeport-guest-ready\n"
_ANSWERED = re.compile(rb"\x01(\d+)\x01\n")
BOOT_SECONDS = 60.0
# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000


@dataclass(frozen=True, slots=True)
class Nic:
    """`script` and `downscript` are called by QEMU with the tap's name, as in its own options; empty: none. `opened` is
    the descriptor of a tap that was opened for QEMU; it is closed here once QEMU has it, so it serves one start."""

    tap: str
    mac: str
    script: str = ""
    downscript: str = ""
    opened: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    output: str


def lacks() -> str | None:
    """Why no guest can boot here, with the remedy; None when one can."""
    if reason := missing_programs("qemu-system-x86_64"):
        return reason
    if find_busybox() is None:
        return "no static busybox: `make setup` unpacks one"
    if find_kernel(Flavour.CLOUD) is None:
        return "no Debian cloud kernel with its modules: `make setup` unpacks one"
    return None


def open_tap(namespace: Namespace, name: str) -> int:
    """A new tap of that name in the namespace, by its descriptor: the link lives while somebody holds that open."""
    with namespace.entered():
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


class Guest:
    """One virtual machine. `start` after `kill` boots it anew, with the same NICs; leaving the context kills it."""

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        name: str,
        nics: Sequence[Nic],
        *,
        addresses: Sequence[str] = (),
        gateways: Sequence[str] = (),
        mtu: int | None = None,
        memory: str = "160M",
    ) -> None:
        self.namespace, self.name, self.nics = namespace, name, tuple(nics)
        self.console = directory / f"{name}.console"
        self._directory, self._memory = directory, memory
        self._words = [f"homeport.address={','.join(addresses)}"] if addresses else []
        self._words += [f"homeport.gateway={','.join(gateways)}"] if gateways else []
        self._words += [f"homeport.mtu={mtu}"] if mtu is not None else []
        self._words += [] if nics else ["homeport.nics=0"]
        self._process: subprocess.Popen[bytes] | None = None
        self._serial: socket.socket | None = None
        self._received = bytearray()

    @property
    def pid(self) -> int:
        assert self._process is not None, f"guest {self.name} was never started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when QEMU runs and its taps exist, so that they can be wired while the guest boots."""
        assert not self.alive, f"guest {self.name} is running"
        path = self._directory / f"{self.name}.serial"
        path.unlink(missing_ok=True)
        self._received.clear()
        opened = tuple(nic.opened for nic in self.nics if nic.opened is not None)
        log = self._directory / f"{self.name}.qemu"
        self._process = self.namespace.popen(*self._command(path), log=log, descriptors=opened)
        for descriptor in opened:
            os.close(descriptor)
        # What the guest writes before somebody listens is lost, so listen before it boots.
        self._serial = self._connect(path)
        missing = {nic.tap for nic in self.nics if nic.opened is None}
        end = time.monotonic() + 30
        while missing := missing - self.namespace.links():
            self._check_alive()
            if any(nic.script for nic in self.nics):
                return  # the script may have moved the tap to another namespace already
            if time.monotonic() > end:
                raise CommandFailed(f"guest {self.name}: no tap {sorted(missing)} after 30 s")

    def wait_ready(self, within: float = BOOT_SECONDS) -> float:
        """Until the guest takes commands; the seconds it took from here."""
        started = time.monotonic()
        self._read_until(re.compile(re.escape(READY)), within)
        return time.monotonic() - started

    def run(self, command: str, within: float = 30) -> Answer:
        """One line of shell in the guest, to its end."""
        assert "\n" not in command
        assert self._serial is not None, f"guest {self.name} was never started"
        self._serial.sendall(command.encode() + b"\n")
        output, found = self._read_until(_ANSWERED, within)
        return Answer(int(found[1]), output.decode(errors="replace"))

    def pings(self, address: str, *, wait: int = 2, attempts: int = 1) -> bool:
        """True when one of `attempts` echo requests is answered; the guest's own busybox sends them."""
        return any(self.run(f"ping -c 1 -W {wait} {address}").code == 0 for _ in range(attempts))

    def power_off(self, within: float = 30) -> None:
        """The guest switches itself off, and QEMU ends in its own time, with its downscripts called."""
        assert self._serial is not None and self._process is not None, f"guest {self.name} was never started"
        self._serial.sendall(b"poweroff -f\n")
        self._process.wait(within)

    def kill(self) -> None:
        """SIGKILL, as a crash or a host's out-of-memory killer; the taps go with the process. May be repeated."""
        if self._serial is not None:
            self._serial.close()
            self._serial = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            self._process.wait(30)

    def __enter__(self) -> "Guest":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _command(self, serial: Path) -> list[str]:
        kernel, busybox = find_kernel(Flavour.CLOUD), find_busybox()
        assert kernel is not None and busybox is not None, lacks()
        archive = self._directory / "guest.initramfs"
        if not archive.exists():
            archive.write_bytes(initramfs.build(kernel, busybox))
        argv = ["qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-name", self.name]
        argv += [*accel.choose().arguments, "-smp", "1", "-m", self._memory]
        argv += ["-kernel", os.fspath(kernel.image), "-initrd", os.fspath(archive)]
        argv += ["-append", " ".join(["console=ttyS0", "quiet", "panic=-1", *self._words])]
        argv += ["-serial", f"file:{self.console}"]
        argv += ["-chardev", f"socket,id=commands,path={serial},server=on,wait=off", "-serial", "chardev:commands"]
        for position, nic in enumerate(self.nics):
            scripts = f"script={nic.script or 'no'},downscript={nic.downscript or 'no'}"
            tap = f"ifname={nic.tap},{scripts}" if nic.opened is None else f"fd={nic.opened}"
            argv += ["-netdev", f"tap,id=nic{position},{tap}"]
            # No option ROM: nothing boots from the network here.
            argv += ["-device", f"virtio-net-pci,netdev=nic{position},mac={nic.mac},romfile="]
        return argv

    def _connect(self, path: Path) -> socket.socket:
        end = time.monotonic() + 30
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(os.fspath(path))
            except OSError:
                connection.close()
                self._check_alive()
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
            else:
                return connection

    def _read_until(self, pattern: re.Pattern[bytes], within: float) -> tuple[bytes, re.Match[bytes]]:
        assert self._serial is not None, f"guest {self.name} was never started"
        end = time.monotonic() + within
        while (found := pattern.search(self._received)) is None:
            self._serial.settimeout(max(0.01, end - time.monotonic()))
            try:
                received = self._serial.recv(65536)
            except TimeoutError as error:
                raise CommandFailed(f"guest {self.name} is silent after {within:.0f} s:\n{self._tail()}") from error
            if not received:
                raise CommandFailed(f"guest {self.name} ended:\n{self._tail()}")
            self._received += received
        before = bytes(self._received[: found.start()])
        matched = pattern.search(bytes(self._received))
        del self._received[: found.end()]
        assert matched is not None
        return before, matched

    def _check_alive(self) -> None:
        if not self.alive:
            raise CommandFailed(f"QEMU of guest {self.name} ended:\n{self._tail()}")

    def _tail(self) -> str:
        logs = (self._directory / f"{self.name}.qemu", self.console)
        return "\n".join(log.read_text(errors="replace")[-1500:] for log in logs if log.exists())
