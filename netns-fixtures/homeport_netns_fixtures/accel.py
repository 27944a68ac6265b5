"""Whether virtual machines are emulated or run by KVM, found out once by booting one.

/dev/kvm that opens proves nothing: there are machines where it opens and a guest then hangs, and QEMU's own fallback
(`-accel kvm:tcg`) only helps where it does not open. So a guest is booted under KVM with a short limit, and the answer
is kept in the cache directory for this kernel. HOMEPORT_ACCEL=kvm or tcg overrides it.
"""

import functools
import os
import platform
import subprocess
import tempfile
from enum import Enum
from pathlib import Path

from homeport_netns_fixtures import initramfs
from homeport_netns_fixtures.programs import Flavour, cache_dir, find_busybox, find_kernel, find_program

PROBE_SECONDS = 10


class Accel(Enum):
    KVM = "kvm"
    TCG = "tcg"

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("-accel", "kvm", "-cpu", "host") if self is Accel.KVM else ("-accel", "tcg", "-cpu", "max")


@functools.cache
def choose() -> Accel:
    """The override, else what was found out before for this kernel, else a trial."""
    if (known := find_known()) is not None:
        return known
    found = Accel.KVM if _boots_under_kvm() else Accel.TCG
    remembered = _remembered()
    remembered.parent.mkdir(parents=True, exist_ok=True)
    remembered.write_text(found.value)
    return found


def find_known() -> Accel | None:
    """What `choose` answers without a trial; None when it would have to try."""
    override = os.environ.get("HOMEPORT_ACCEL", "").lower()
    if override:
        return Accel(override)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Accel.TCG
    remembered = _remembered()
    return Accel(remembered.read_text().strip()) if remembered.exists() else None


def _remembered() -> Path:
    return cache_dir() / f"accel-{platform.release()}"


def _boots_under_kvm() -> bool:
    """True when a guest powers itself off in time: its init does so when it is told to."""
    kernel = find_kernel(Flavour.CLOUD) or find_kernel(Flavour.STOCK)
    busybox, qemu = find_busybox(), find_program("qemu-system-x86_64")
    if kernel is None or busybox is None or qemu is None:
        return False
    with tempfile.TemporaryDirectory(prefix="hpt-kvm-") as directory:
        archive = Path(directory) / "initramfs"
        archive.write_bytes(initramfs.build(kernel, busybox))
        argv = [qemu, "-nodefaults", "-no-reboot", "-display", "none", "-m", "160M", *Accel.KVM.arguments]
        argv += ["-kernel", os.fspath(kernel.image), "-initrd", os.fspath(archive)]
        argv += ["-append", "quiet panic=-1 homeport.nics=0 homeport.probe=1"]
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0
