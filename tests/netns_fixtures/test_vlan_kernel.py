"""The kernel that the kernel tier boots has what it is booted for."""

from collections.abc import Callable

from homeport_netns_fixtures.capture import Capture
from homeport_netns_fixtures.netns import Namespace


def test_vlans_of_a_bridge_keep_apart_and_the_trunk_shows_their_tags(
    vlan_kernel: None, netns: Callable[[str], Namespace], capture: Callable[[Namespace, str], Capture]
) -> None:
    switch = netns("switch")
    switch.ip("link add br0 type bridge vlan_filtering 1 vlan_default_pvid 0", "link set br0 up")
    guests = [netns("guest") for _ in range(3)]
    for position, (guest, vlan) in enumerate(zip(guests, (100, 100, 200), strict=True), 1):
        port = f"port{position}"
        switch.ip(f"link add {port} type veth peer name eth0 netns {guest.name}", f"link set {port} master br0 up")
        switch.bridge(f"vlan add vid {vlan} dev {port} pvid untagged")
        guest.ip(f"address add 192.0.2.{position}/24 dev eth0", "link set eth0 up")
    outside = netns("outside")
    switch.ip(f"link add trunk type veth peer name eth0 netns {outside.name}", "link set trunk master br0 up")
    switch.bridge("vlan add vid 100 dev trunk", "vlan add vid 200 dev trunk")
    outside.ip("link set eth0 up")
    wire = capture(outside, "eth0")

    guests[0].wait_ping("192.0.2.2")
    assert not guests[0].pings("192.0.2.3", wait=1)
    mac = guests[0].mac("eth0")
    assert wire.wait(lambda frame: frame.source == mac and not frame.outgoing).vlan == 100


def test_bridge_tables_know_connections(vlan_kernel: None, netns: Callable[[str], Namespace]) -> None:
    switch, left, right = netns("switch"), netns("left"), netns("right")
    switch.ip("link add br0 type bridge", "link set br0 up")
    for position, guest in enumerate((left, right), 1):
        switch.ip(f"link add p{position} type veth peer name eth0 netns {guest.name}")
        switch.ip(f"link set p{position} master br0 up")
        guest.ip(f"address add 192.0.2.{position}/24 dev eth0", "link set eth0 up")
    left.wait_ping("192.0.2.2")
    switch.nft("""
        table bridge t {
            chain forward {
                type filter hook forward priority -200; policy accept;
                meta protocol ip ct state established accept
                meta protocol ip iifname p2 drop
            }
        }
    """)
    assert left.pings("192.0.2.2")
    assert not right.pings("192.0.2.1", wait=1)
