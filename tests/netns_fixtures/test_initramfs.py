"""A guest's root file system has its modules in loading order, and the kernel's archive format."""

from pathlib import Path

import pytest

from homeport_netns_fixtures import initramfs
from homeport_netns_fixtures.programs import Kernel

DEPENDENCIES = """\
kernel/net/core/failover.ko:
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko
kernel/net/8021q/8021q.ko: kernel/net/802/garp.ko kernel/net/llc/llc.ko
kernel/net/802/garp.ko: kernel/net/llc/llc.ko
kernel/net/llc/llc.ko:
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    (tmp_path / "modules.dep").write_text(DEPENDENCIES)
    for line in DEPENDENCIES.splitlines():
        path = tmp_path / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())
    return Kernel("6.1.0-1-cloud-amd64", tmp_path / "vmlinuz", tmp_path)


def entries(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """{name: (mode, content)} of an archive, read by the format's own description."""
    found, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        start = at + 110 + name_size
        start += -start % 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, archive[start : start + size])
        at = start + size
        at += -at % 4


def test_a_module_comes_after_what_it_needs_and_a_built_in_one_not_at_all(kernel: Kernel) -> None:
    ordered = [path.name for path in initramfs.modules_in_order(kernel, ("virtio_pci", "virtio_net", "8021q"))]
    assert ordered == ["failover.ko", "net_failover.ko", "virtio_net.ko", "llc.ko", "garp.ko", "8021q.ko"]


def test_the_archive_holds_busybox_init_and_modules(kernel: Kernel, tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"odd")
    found = entries(initramfs.build(kernel, busybox))
    assert found["bin/busybox"] == (0o100755, b"odd")
    assert found["init"] == (0o100755, initramfs.INIT.read_bytes())
    assert found["modules/02-virtio_net.ko"] == (0o100644, b"virtio_net.ko")
    assert found["proc"] == (0o040755, b"")
