"""A Network's status, merged from reports."""

from ipaddress import IPv4Network

from homeport_api.meta import Condition, ObjectMeta
from homeport_api.network import Network, NetworkSpec, NodeReadiness
from homeport_api.node import NodeReport
from homeport_api.pool import PoolStatus
from homeport_api.status import network_status

BLUE = Network(ObjectMeta("blue"))


def conditions(network: Network, *reports: NodeReport, pools: tuple[PoolStatus, ...] = ()) -> list[str]:
    status = network_status(network, reports, pools, 0)
    return [f"{one.type}={one.status} {one.reason}: {one.message}" for one in status.conditions]


def test_ready_is_what_all_nodes_say() -> None:
    good, bad = NodeReport("n1", "blue", True), NodeReport("n2", "blue", False, "uplink bond0 is missing")
    assert conditions(BLUE) == ["Ready=Unknown NoReports: no agent has reported on this Network yet"]
    assert conditions(BLUE, good) == ["Ready=True NodesReady: 1 of 1 nodes are ready"]
    assert conditions(BLUE, good, bad) == ["Ready=False NodesNotReady: n2: uplink bond0 is missing"]
    assert network_status(BLUE, (bad, good), (), 3).nodes == (
        NodeReadiness("n1", True),
        NodeReadiness("n2", False, "uplink bond0 is missing"),
    )


def test_reports_of_other_networks_do_not_count() -> None:
    assert conditions(BLUE, NodeReport("n1", "green", True)) == conditions(BLUE)


def test_a_condition_of_several_nodes_appears_once() -> None:
    reports = [
        NodeReport(node, "blue", True, "", (Condition("FragmentsLost", "True", "BrNetfilter", "switch it off"),))
        for node in ("n1", "n2")
    ]
    assert conditions(BLUE, *reports)[1:] == ["FragmentsLost=True BrNetfilter: n1: switch it off; n2: switch it off"]


def test_what_has_no_effect_and_what_is_full_is_said() -> None:
    network = Network(ObjectMeta("blue"), NetworkSpec(external_dhcp4=True))
    pool = PoolStatus(IPv4Network("10.0.0.0/30"), 2, 2, 0)
    assert conditions(network, pools=(pool,))[1:] == [
        "NotEnforced=True NotBuilt: stored, and without effect in this version: spec.externalDHCP4",
        "PoolExhausted=True NoFreeAddress: no address is free in 10.0.0.0/30",
    ]
