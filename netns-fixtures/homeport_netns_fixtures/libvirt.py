"""A libvirtd of a test's own: inside a namespace, with its directories mounted over those of the machine.

libvirtd has its paths and its user compiled in, so it gets a mount namespace in which they are directories and files
below the test's own.
Domains are emulated guests like those of `guest`, described by XML; they end with the context.
"""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from homeport_netns_fixtures import accel, initramfs
from homeport_netns_fixtures.accel import Accel
from homeport_netns_fixtures.netns import CommandFailed, Namespace
from homeport_netns_fixtures.programs import Flavour, find_busybox, find_kernel, find_program, missing_programs

_QEMU_DRIVER = Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so")
_OWN = ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt", "/run/libvirt")
_QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
"""
_DAEMON_CONF = """\
unix_sock_dir = "{sockets}"
auth_unix_ro = "none"
auth_unix_rw = "none"
"""
# It looks for this user before it reads that it should use another. Debian makes it where libvirtd is a service.
_USERS = {
    "/etc/passwd": "libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin\n",
    "/etc/group": "libvirt-qemu:x:64055:\n",
}
# The directories are made on the machine where they are missing, and only covered.
_START = """\
set -e
for own in {directories}; do mkdir -p "$own"; done
for own in {directories} {files}; do mount --bind {directory}/"$own" "$own"; done
exec "$@"
"""
_DOMAIN = """\
<domain type='{accel}'>
  <name>{name}</name>
  <memory unit='MiB'>160</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 homeport.address={addresses}</cmdline>
  </os>
  <features><acpi/></features>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>{emulator}</emulator>
    <serial type='file'><source path='{console}'/><target port='0'/></serial>
    <serial type='null'><target port='1'/></serial>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {interface}
  </devices>
</domain>
"""


def lacks() -> str | None:
    """Why no libvirtd can run here, with the remedy; None when one can."""
    if reason := missing_programs("libvirtd", "virsh", "qemu-system-x86_64", "unshare"):
        return reason
    if not _QEMU_DRIVER.exists():
        return f"no {_QEMU_DRIVER}: `make setup` as root installs it"
    if find_busybox() is None or find_kernel(Flavour.CLOUD) is None:
        return "no static busybox or no Debian cloud kernel: `make setup` unpacks them"
    return None


class Libvirt:
    """A running libvirtd; a context manager. Leaving it ends every domain."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self.namespace, self.directory = namespace, directory
        self._log = directory / "libvirtd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when virsh gets an answer."""
        for path in _OWN:
            (self.directory / path.lstrip("/")).mkdir(parents=True)
        (self.directory / "etc/libvirt/qemu.conf").write_text(_QEMU_CONF)
        config = self.directory / "etc/libvirt/libvirtd.conf"
        config.write_text(_DAEMON_CONF.format(sockets=self.directory))
        for path, line in _USERS.items():
            text = Path(path).read_text()
            own = self.directory / path.lstrip("/")
            own.write_text(text if "\nlibvirt-qemu:" in text else text + line)
        script = _START.format(directories=" ".join(_OWN), files=" ".join(_USERS), directory=self.directory)
        daemon = [find_program("libvirtd") or "libvirtd", "--config", os.fspath(config)]
        daemon += ["--pid-file", f"{self.directory}/libvirtd.pid"]
        isolated = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
        self._process = self.namespace.popen(*isolated, *daemon, log=self._log)
        end = time.monotonic() + 30
        while self._virsh("list").returncode != 0:
            if self._process.poll() is not None or time.monotonic() > end:
                raise CommandFailed(f"libvirtd does not answer:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Domains end at once, then the daemon, which would leave them running."""
        if self._process is None or self._process.poll() is not None:
            return
        for name in self.domains():
            self.virsh("destroy", name)
        self._process.terminate()
        self._process.wait(30)

    def virsh(self, *arguments: str) -> str:
        """One command of virsh; its output. A failure raises with what virsh and libvirtd said."""
        done = self._virsh(*arguments)
        if done.returncode != 0:
            raise CommandFailed(f"virsh {' '.join(arguments)}: {done.stderr}{self._log.read_text()[-3000:]}")
        return done.stdout

    def domains(self) -> list[str]:
        """The running ones."""
        return self.virsh("list", "--name").split()

    def create(self, name: str, interface: str, addresses: Sequence[str]) -> None:
        """Starts a transient domain with this `<interface>` and these addresses on its command line; it boots while
        this returns."""
        kernel, busybox = find_kernel(Flavour.CLOUD), find_busybox()
        assert kernel is not None and busybox is not None, lacks()
        initrd = self.directory / "guest.initramfs"
        if not initrd.exists():
            initrd.write_bytes(initramfs.build(kernel, busybox))
        values = {
            "accel": "kvm" if accel.choose() is Accel.KVM else "qemu",
            "name": name,
            "kernel": kernel.image,
            "initrd": initrd,
            "addresses": ",".join(addresses),
            "emulator": find_program("qemu-system-x86_64"),
            "console": self.directory / f"{name}.console",
        }
        xml = self.directory / f"{name}.xml"
        escaped = {key: escape(f"{value}") for key, value in values.items()}
        xml.write_text(_DOMAIN.format(**escaped, interface=interface))
        self.virsh("create", os.fspath(xml))

    def __enter__(self) -> "Libvirt":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _virsh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        uri = f"qemu+unix:///system?socket={self.directory}/libvirt-sock"
        return self.namespace.run("virsh", "--quiet", "--connect", uri, *arguments, check=False, timeout=60)
