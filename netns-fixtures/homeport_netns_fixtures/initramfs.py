"""The root file system of a test guest: a static busybox, the few modules a guest needs, and the init beside this file.

Pure but for reading those files: the archive is built in memory in the format that the kernel unpacks ("newc", the
kernel's Documentation/driver-api/early-userspace/buffer-format.rst).
"""

import stat
from pathlib import Path

from homeport_netns_fixtures.programs import Kernel

# virtio_net brings failover and net_failover; 8021q is for guests on trunks.
MODULES = ("virtio_pci", "virtio_net", "8021q", "af_packet")
INIT = Path(__file__).with_name("guest-init.sh")


def build(kernel: Kernel, busybox: Path) -> bytes:
    """The whole archive, uncompressed: it is read once, by an emulated machine."""
    modules = modules_in_order(kernel, MODULES)
    archive = bytearray()
    inode = 0
    files = [(f"modules/{position:02}-{path.name}", path.read_bytes(), 0o644) for position, path in enumerate(modules)]
    files += [("bin/busybox", busybox.read_bytes(), 0o755), ("init", INIT.read_bytes(), 0o755)]
    for directory in ("bin", "dev", "etc", "modules", "proc", "run", "sys", "tmp"):
        inode += 1
        archive += _entry(inode, directory, stat.S_IFDIR | 0o755, b"")
    for name, content, mode in files:
        inode += 1
        archive += _entry(inode, name, stat.S_IFREG | mode, content)
    # Without a console node the init has nowhere to write before it has mounted /dev.
    archive += _entry(inode + 1, "dev/console", stat.S_IFCHR | 0o600, b"", device=(5, 1))
    archive += _entry(0, "TRAILER!!!", 0, b"")
    return bytes(archive)


def modules_in_order(kernel: Kernel, wanted: tuple[str, ...]) -> list[Path]:
    """The module files with what they depend on, each after its own; one that is built in has no file."""
    depends: dict[str, list[str]] = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[path] = needs.split()
    by_name = {Path(path).name.removesuffix(".ko").replace("-", "_"): path for path in depends}
    ordered: list[str] = []
    for name in wanted:
        if name in by_name:
            # modules.dep lists dependencies from the nearest to the deepest.
            for path in [*reversed(depends[by_name[name]]), by_name[name]]:
                if path not in ordered:
                    ordered.append(path)
    return [kernel.modules / path for path in ordered]


def _entry(inode: int, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
