"""A real libvirtd starts a domain on a tap, and leaves nothing behind."""

from collections.abc import Callable

from homeport_netns_fixtures.libvirt import Libvirt
from homeport_netns_fixtures.netns import Namespace


def test_a_domain_on_a_bridge(netns: Callable[[str], Namespace], libvirt: Callable[[Namespace], Libvirt]) -> None:
    host = netns("host")
    host.ip("link add br0 type bridge", "link set br0 up", "address add 192.0.2.1/24 dev br0")
    hypervisor = libvirt(host)
    mac = "02:00:00:00:00:05"
    hypervisor.create(
        "web",
        f"<interface type='ethernet'><mac address='{mac}'/><target dev='vm0'/><model type='virtio'/></interface>",
        ["192.0.2.5/24"],
    )
    assert hypervisor.domains() == ["web"]
    host.ip("link set vm0 master br0 up")
    host.wait_ping("192.0.2.5")
    assert [entry["lladdr"] for entry in host.show("neigh") if entry["dst"] == "192.0.2.5"] == [mac]
    hypervisor.virsh("destroy", "web")
    assert host.links() == {"lo", "br0"}
