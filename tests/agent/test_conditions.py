"""What the host can break on its own bridges, from facts alone."""

import pytest

from homeport_agent.conditions import HostFacts, host_conditions, kernel_conditions
from homeport_agent.placement import Place, Placement
from homeport_api.addresses import MacDomain, VlanId
from homeport_dataplane.vlan import PortVlans

FILTERING = Placement(Place.HOST, MacDomain("br0"), "br0", True, PortVlans(VlanId(300)), False, 1500)
PLAIN = Placement(Place.HOST, MacDomain("br0"), "br0", False, PortVlans(), False, 1500)
SWITCH = Placement(Place.SWITCH, MacDomain("bond0"), "bond0", True, PortVlans(VlanId(300)), False, 1500)
DROPS, TRACKS = "ip filter FORWARD", "bridge firewall forward"


@pytest.mark.parametrize(
    ("placement", "facts", "expected"),
    [
        pytest.param(FILTERING, HostFacts(True, DROPS, TRACKS), ["ForwardingDropped", "FragmentsLost"], id="both"),
        pytest.param(FILTERING, HostFacts(True, DROPS), ["ForwardingDropped"], id="dropping chain"),
        pytest.param(FILTERING, HostFacts(True, None, TRACKS), ["FragmentsLost"], id="tracking chain"),
        pytest.param(FILTERING, HostFacts(True), [], id="br_netfilter alone"),
        pytest.param(FILTERING, HostFacts(False, DROPS, TRACKS), [], id="br_netfilter off"),
        pytest.param(PLAIN, HostFacts(True, DROPS, TRACKS), ["ForwardingDropped"], id="no tags, no lost fragments"),
        pytest.param(SWITCH, HostFacts(True, DROPS, TRACKS), [], id="in the switch's namespace"),
    ],
)
def test_conditions_follow_from_facts(placement: Placement, facts: HostFacts, expected: list[str]) -> None:
    found = host_conditions(placement, facts)
    assert [(each.type, each.status) for each in found] == [(kind, "True") for kind in expected]
    assert all("br0" in each.message and "sysctl" in each.message for each in found)


def test_a_condition_names_the_chain_at_fault() -> None:
    dropped, lost = host_conditions(FILTERING, HostFacts(True, DROPS, TRACKS))
    assert DROPS in dropped.message
    assert TRACKS in lost.message


def test_a_kernel_without_connection_tracking_says_what_follows() -> None:
    assert kernel_conditions(tracking=True) == ()
    (condition,) = kernel_conditions(tracking=False)
    assert (condition.type, condition.status) == ("StatefulPolicyUnavailable", "True")
    assert "CONFIG_NF_CONNTRACK_BRIDGE" in condition.message
