"""What a link is to us, and how it reaches the switch: late, twice, lost and found, and taken by others."""

import shlex
import subprocess

import pytest

from homeport_api.addresses import VlanId
from homeport_api.errors import UplinkUnusable
from homeport_dataplane import links, uplink
from homeport_dataplane.uplink import UplinkKind
from tests.dataplane.conftest import BRIDGE, Box, BoxMaker


@pytest.fixture
def node(box: BoxMaker) -> Box:
    """A node whose NIC `eth1` is one end of a cable; the other end is `wire`."""
    made = box("node")
    made.shell.ip("link add eth1 type veth peer name wire", "link set wire up")
    return made


@pytest.mark.parametrize(
    ("wiring", "name", "kind", "refusal"),
    [
        pytest.param([], "eth9", UplinkKind.MISSING, "does not exist on this node", id="missing"),
        pytest.param([], "lo", UplinkKind.NIC, "loopback", id="loopback"),
        pytest.param([], "eth1", UplinkKind.OTHER, None, id="free"),
        pytest.param(["link add br0 type bridge"], "br0", UplinkKind.BRIDGE, None, id="bridge"),
        pytest.param(
            ["link add br0 type bridge", "address add 192.0.2.5/24 dev br0"],
            "br0",
            UplinkKind.BRIDGE,
            None,
            id="bridge with the node's address",
        ),
        pytest.param(
            ["link add br0 type bridge", "link set eth1 master br0"],
            "eth1",
            UplinkKind.ENSLAVED,
            "is a port of br0: name br0",
            id="port of a bridge",
        ),
        pytest.param(
            ["address add 192.0.2.5/24 dev eth1"],
            "eth1",
            UplinkKind.OTHER,
            "carries the node's own network",
            id="address",
        ),
        pytest.param(
            ["link set eth1 up", "route add default dev eth1"],
            "eth1",
            UplinkKind.OTHER,
            "carries the node's own network",
            id="default route",
        ),
        pytest.param(
            ["link add link eth1 name mv0 type macvlan"],
            "eth1",
            UplinkKind.OTHER,
            "is in use by mv0",
            id="somebody's macvlan",
        ),
    ],
)
def test_what_a_link_is(node: Box, wiring: list[str], name: str, kind: UplinkKind, refusal: str | None) -> None:
    if wiring:
        node.shell.ip(*wiring)
    found = uplink.inspect(node.ns, name)
    assert found.kind is kind
    if refusal is None:
        uplink.require_usable(found)
    else:
        with pytest.raises(UplinkUnusable, match=refusal):
            uplink.require_usable(found)


def test_the_remedy_works_as_written(node: Box) -> None:
    """A NIC with the node's addresses and routes: the commands of the refusal move both to a bridge."""
    node.shell.ip("address add 192.0.2.5/24 dev eth1", "link set eth1 up", "route add default via 192.0.2.1 dev eth1")
    refusal = uplink.inspect(node.ns, "eth1").refusal
    assert refusal is not None
    for command in refusal.split("nodeInterfaceMatcher: ")[1].split(" && "):
        node.shell.run(*shlex.split(command))
    uplink.require_usable(uplink.inspect(node.ns, "br0"))
    (route,) = node.shell.show("route")[:1]
    assert (route["dst"], route["gateway"], route["dev"]) == ("default", "192.0.2.1", "br0")


def test_made_once_and_again(node: Box, switch: Box) -> None:
    first = uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE)
    assert uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE) == first
    shown = next(each for each in switch.shell.show("-d", "link") if each["ifname"] == "hpu-eth1")
    assert (shown["master"], shown["linkinfo"]["info_data"]["mode"]) == (BRIDGE, "passthru")
    assert (first.up, first.promiscuous, first.ipv6) == (True, True, False)
    assert node.shell.links() == {"lo", "eth1", "wire"}
    assert uplink.delete_uplink(switch.ns, "eth1")
    assert not uplink.delete_uplink(switch.ns, "eth1")


def test_missing_then_there_then_gone_then_back(node: Box, switch: Box) -> None:
    with pytest.raises(UplinkUnusable, match="eth2 does not exist"):
        uplink.ensure_uplink(node.ns, switch.ns, "eth2", BRIDGE)
    for _ in range(2):
        node.shell.ip("link add eth2 type veth peer name wire2")
        made = uplink.ensure_uplink(node.ns, switch.ns, "eth2", BRIDGE)
        assert made.up and made.master is not None
        node.shell.ip("link del eth2")
        assert links.find_link(switch.ns, "hpu-eth2") is None


def test_the_mtu_follows_the_nics(node: Box, switch: Box) -> None:
    uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE)
    node.shell.ip("link set eth1 mtu 9000")
    assert uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE).mtu == 9000
    node.shell.ip("link set eth1 mtu 1400")
    assert uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE).mtu == 1400


def test_a_second_taker_elsewhere_is_named_as_the_reason(node: Box, switch: Box, box: BoxMaker) -> None:
    other = box("other")
    node.shell.ip(f"link add link eth1 name mv0 netns {other.shell.name} type macvlan mode passthru")
    with pytest.raises(UplinkUnusable, match="uplink eth1 is taken: another macvlan on it"):
        uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE)
    other.shell.ip("link del mv0")
    assert uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE).up


def test_addresses_that_come_later_do_not_cut_the_guests_off(node: Box, switch: Box) -> None:
    """A NIC in use stays in use; `inspect` tells of the address."""
    first = uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE)
    node.shell.ip("address add 192.0.2.5/24 dev eth1")
    assert uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE) == first
    assert uplink.inspect(node.ns, "eth1").refusal is not None


@pytest.mark.parametrize(
    "damage", ["link set hpu-eth1 down", "link set hpu-eth1 nomaster", "link set hpu-eth1 promisc off"]
)
def test_what_a_hand_changed_is_set_right(node: Box, switch: Box, damage: str) -> None:
    first = uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE)
    switch.shell.ip(damage)
    assert uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE) == first


def test_the_nodes_own_vlans_are_refused(vlan_kernel: None, node: Box, switch: Box) -> None:
    node.shell.ip(
        "link add link eth1 name eth1.42 type vlan id 42",
        "link add link eth1 name storage type vlan id 7",
        "address add 192.0.2.5/24 dev storage",
    )
    found = uplink.inspect(node.ns, "eth1")
    assert found.vlans == {42: "eth1.42", 7: "storage"}
    uplink.require_usable(found)
    uplink.require_vlan(found, VlanId(41))
    with pytest.raises(UplinkUnusable, match="VLAN 7 of uplink eth1 belongs to the node's own link storage"):
        uplink.require_vlan(found, VlanId(7))
    assert uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE).up


def test_a_bond_is_a_bond(vlan_kernel: None, node: Box, switch: Box) -> None:
    subprocess.run(["modprobe", "-q", "bonding"], check=False)
    node.shell.ip("link add bond0 type bond mode active-backup", "link set eth1 master bond0", "link set bond0 up")
    assert uplink.inspect(node.ns, "bond0").kind is UplinkKind.BOND
    assert uplink.inspect(node.ns, "eth1").kind is UplinkKind.ENSLAVED
    assert uplink.ensure_uplink(node.ns, switch.ns, "bond0", BRIDGE).up
