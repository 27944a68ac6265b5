"""Where a Network's ports go, from facts alone."""

from dataclasses import replace

import pytest

from homeport_agent.placement import Place, UplinkFacts, UplinkKind, collide, place, uplink_vlans
from homeport_api.addresses import VlanId, VlanRange
from homeport_api.errors import HomeportError, MtuTooLarge, UplinkUnusable
from homeport_api.meta import ObjectMeta
from homeport_api.network import L2Config, Lifecycle, Network, NetworkSpec, Trunk
from homeport_dataplane.vlan import PortVlans

NIC = UplinkFacts(UplinkKind.NIC, mtu=1500)
BRIDGE = UplinkFacts(UplinkKind.BRIDGE, mtu=1500, filtering=True, default_pvid=1)


def vlan(number: int) -> VlanId:
    return VlanId(number)


def span(first: int, last: int | None = None) -> VlanRange:
    return VlanRange(vlan(first), vlan(last or first))


def network(name: str, uplink: str | None = "bond0", **l2: object) -> Network:
    return Network(ObjectMeta(name), NetworkSpec(uplink=uplink, l2=L2Config(**l2)))  # type: ignore[arg-type]


BLUE = network("blue", vlan_id=100)
PLAIN = network("plain")
TRUNK = network("trunk", trunk=Trunk((span(100), span(200, 202)), vlan(10)))


def test_the_inner_vlan_collides_with_a_network_that_takes_it_until_it_is_placed_anew() -> None:
    top, elsewhere = network("top", vlan_id=4094), network("elsewhere", uplink="eth1", vlan_id=4094)
    before = place(PLAIN, [PLAIN], NIC, filtering=True)
    of_top = place(top, [PLAIN, top], NIC, filtering=True)
    assert collide(before, of_top)
    assert collide(of_top, before)
    assert not collide(place(PLAIN, [PLAIN, top], NIC, filtering=True), of_top)
    assert not collide(before, place(elsewhere, [PLAIN, elsewhere], NIC, filtering=True))
    assert not collide(before, before)


def test_access_vlan_is_the_ports_pvid_and_tagged_on_the_uplink() -> None:
    placement = place(BLUE, [BLUE], NIC, filtering=True)
    assert placement.place is Place.SWITCH
    assert placement.port == PortVlans(vlan(100))
    assert uplink_vlans([placement]) == PortVlans(None, (span(100),))


def test_untagged_network_uses_the_highest_free_vlan_inside_and_none_on_the_wire() -> None:
    placement = place(PLAIN, [PLAIN, BLUE], NIC, filtering=True)
    assert placement.port == PortVlans(vlan(4094))
    assert uplink_vlans([placement]) == PortVlans(vlan(4094))


def test_internal_vlan_gives_way_to_a_network_and_to_the_host() -> None:
    taken = network("taken", vlan_id=4094)
    facts = replace(NIC, host_vlans={vlan(4093): "bond0.4093"})
    assert place(PLAIN, [PLAIN, taken], facts, filtering=True).port == PortVlans(vlan(4092))


def test_trunk_native_vlan_is_untagged_at_the_guest_and_tagged_on_the_wire() -> None:
    placement = place(TRUNK, [TRUNK], NIC, filtering=True)
    assert placement.port == PortVlans(vlan(10), (span(100), span(200, 202)))
    assert uplink_vlans([placement]) == PortVlans(None, (span(10), span(100), span(200, 202)))


def test_native_vlan_listed_among_the_tagged_ones_stays_untagged_at_the_guest() -> None:
    listed = network("listed", trunk=Trunk((span(10, 11),), vlan(10)))
    assert place(listed, [listed], NIC, filtering=True).port == PortVlans(vlan(10), (span(11),))


def test_uplink_carries_the_union_of_what_its_ports_use() -> None:
    both = [place(each, [BLUE, PLAIN, TRUNK], NIC, filtering=True) for each in (BLUE, PLAIN, TRUNK)]
    assert uplink_vlans(both) == PortVlans(vlan(4094), (span(10), span(100), span(200, 202)))
    assert uplink_vlans([]) == PortVlans()


def test_isolated_network_has_a_bridge_of_its_own_and_needs_no_uplink() -> None:
    placement = place(network("lab", None), [], None, filtering=False)
    assert (placement.place, placement.domain, placement.uplink) == (Place.SWITCH, ":lab", None)


def test_without_vlan_filtering_one_untagged_network_works_on_an_uplink() -> None:
    placement = place(PLAIN, [PLAIN], NIC, filtering=False)
    assert (placement.filtering, placement.port) == (False, PortVlans())


def test_existing_bridge_takes_ports_in_the_host_namespace() -> None:
    assert place(PLAIN, [PLAIN], BRIDGE, filtering=True).port == PortVlans(vlan(1))
    assert place(BLUE, [BLUE], BRIDGE, filtering=True).place is Place.HOST
    one = network("one", vlan_id=1)
    assert place(one, [one], replace(BRIDGE, default_pvid=0), filtering=True).port == PortVlans(vlan(1))


@pytest.mark.parametrize(
    ("wanted", "facts", "filtering", "error", "text"),
    [
        pytest.param(BLUE, None, True, UplinkUnusable, "no link bond0 on this node", id="missing"),
        pytest.param(BLUE, NIC, False, UplinkUnusable, "CONFIG_BRIDGE_VLAN_FILTERING", id="kernel without filtering"),
        pytest.param(TRUNK, NIC, False, UplinkUnusable, "CONFIG_BRIDGE_VLAN_FILTERING", id="trunk without filtering"),
        pytest.param(
            BLUE, replace(NIC, host_vlans={vlan(100): "bond0.100"}), True, UplinkUnusable, "bond0.100", id="host's vlan"
        ),
        pytest.param(
            TRUNK, replace(NIC, host_vlans={vlan(201): "vlan201"}), True, UplinkUnusable, "vlan201", id="within a trunk"
        ),
        pytest.param(BLUE, replace(NIC, problem="bond0 is enslaved"), True, UplinkUnusable, "enslaved", id="problem"),
        pytest.param(
            BLUE, replace(BRIDGE, filtering=False), True, UplinkUnusable, "does not filter", id="plain bridge"
        ),
        pytest.param(
            PLAIN, replace(BRIDGE, default_pvid=0), True, UplinkUnusable, "no default PVID", id="bridge without pvid"
        ),
        pytest.param(
            network("one", vlan_id=1), BRIDGE, True, UplinkUnusable, "untagged network of bridge bond0", id="pvid"
        ),
        pytest.param(
            TRUNK, replace(BRIDGE, default_pvid=201), True, UplinkUnusable, "VLAN 201 is", id="pvid in trunk"
        ),
        pytest.param(
            TRUNK, replace(BRIDGE, default_pvid=10), True, UplinkUnusable, "VLAN 10 is", id="pvid as native"
        ),
        pytest.param(
            replace(BLUE, spec=replace(BLUE.spec, mtu=9000)), NIC, True, MtuTooLarge, "9000 is over the 1500", id="mtu"
        ),
        pytest.param(
            replace(BLUE, spec=replace(BLUE.spec, lifecycle=Lifecycle.USER_MANAGED)),
            NIC, True, UplinkUnusable, "UserManaged", id="user-managed NIC",
        ),
    ],
)  # fmt: skip
def test_refusals_name_the_reason(
    wanted: Network, facts: UplinkFacts | None, filtering: bool, error: type[HomeportError], text: str
) -> None:
    with pytest.raises(error, match=text):
        place(wanted, [wanted], facts, filtering=filtering)
