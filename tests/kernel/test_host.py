"""What the node's own namespace does, with its firewall, br_netfilter and VLANs, leaves the switch alone."""

import contextlib
import json
from collections.abc import Iterator

import pytest

from homeport_netns_fixtures.capture import RARP, send
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.topology import Node

from .lan import Lan, body, frame, ping, ruleset, wait_until

DROP_FORWARDED = """
add table ip filter
add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }
add table ip6 filter
add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }
"""


@contextlib.contextmanager
def bridged_frames_to_a_dropping_firewall(*nodes: Node) -> Iterator[None]:
    """br_netfilter on, as on a Kubernetes node, and Docker's FORWARD policy, in the nodes' own namespaces."""

    def switch(value: int) -> None:
        for node in nodes:
            for tables in ("iptables", "ip6tables"):
                node.namespace.set_sysctl(f"bridge/bridge-nf-call-{tables}", value)

    for node in nodes:
        node.namespace.nft(DROP_FORWARDED)
    switch(1)
    try:
        yield
    finally:
        switch(0)
        for node in nodes:
            node.namespace.run("nft", "flush", "ruleset")


PAIRS = [
    pytest.param("blue1", "eth0", "blue2", id="access to access in the node"),
    pytest.param("blue1", "eth0", "blue3", id="access to access over the uplinks"),
    pytest.param("trunk1", "eth0.100", "blue1", id="trunk to access in the node"),
    pytest.param("trunk1", "eth0.200", "green2", id="trunk to access over the uplinks"),
    pytest.param("office1", "eth0", "office2", id="untagged over the uplinks"),
    pytest.param("trunk1", "eth0", "trunk2", id="native VLAN over the uplinks"),
]


@pytest.fixture(scope="module")
def firewalled(lan: Lan) -> Iterator[None]:
    with bridged_frames_to_a_dropping_firewall(lan.a, lan.b):
        yield


@pytest.mark.parametrize(("source", "device", "target"), PAIRS)
def test_big_pings_pass_whatever_the_host_drops(
    lan: Lan, firewalled: None, source: str, device: str, target: str
) -> None:
    assert ping(lan[source], lan[target].address, device=device, size=4000)
    assert ping(lan[source], lan[target].address6, device=device, size=4000)


def test_big_pings_pass_between_trunks_in_a_tag_of_their_own(lan: Lan, firewalled: None) -> None:
    assert ping(lan["trunk1"], "192.0.2.32", device="eth0.100", size=4000)


def test_the_node_itself_reaches_its_guests_by_a_port_of_its_own(lan: Lan, firewalled: None) -> None:
    """`homeport attach --host`, by the real command line: what the host forwards is dropped, what is its own is not."""
    result = json.loads(lan.homeport(lan.a, "attach", "self", "--network", "blue", "--host", "--ip", "192.0.2.60"))
    (link,) = [each["name"] for each in result["interfaces"] if each["name"].startswith("hp-")]
    for target in ("blue1", "blue3"):
        argv = ("ping", "-n", "-q", "-c", "1", "-W", "5", "-s", "4000", "-I", link, lan[target].address)
        lan.a.namespace.run(*argv)
    lan.homeport(lan.a, "detach", "self")
    assert link not in lan.a.namespace.links()


def test_the_switch_keeps_br_netfilter_off(lan: Lan, firewalled: None) -> None:
    for tables in ("iptables", "ip6tables", "arptables"):
        assert lan.a.switch.get_sysctl(f"bridge/bridge-nf-call-{tables}") == "0"


def test_a_flush_of_the_hosts_ruleset_changes_nothing(lan: Lan) -> None:
    rules = ruleset(lan.a.switch)
    guest = lan["blue1"]
    with lan.wires() as wires, lan.steady_ping("blue1", "blue3") as steady:
        lan.a.namespace.nft(DROP_FORWARDED)
        lan.a.namespace.run("nft", "flush", "ruleset")
        spoof, control = frame(0x8100, RARP, source=guest.mac, tags=(200,)), frame(RARP, source=guest.mac)
        send(guest.namespace, "eth0", spoof)
        send(guest.namespace, "eth0", control)
        wires.wait_sent(lan.a, control)
        assert body(spoof) not in {body(each.data) for each in wires.sent(lan.a)}
    assert steady.lost == 0
    assert ruleset(lan.a.switch) == rules


@contextlib.contextmanager
def sub_interface(node: Node, vlan: int, address: str) -> Iterator[str]:
    """The host's own VLAN on its uplink."""
    name = f"host{vlan}"
    node.namespace.ip(
        f"link add link {node.uplink} name {name} type vlan id {vlan}",
        f"address add {address} dev {name}",
        f"link set {name} up",
    )
    try:
        yield name
    finally:
        node.namespace.ip(f"link delete {name}")


@pytest.fixture(scope="module")
def office_router(lan: Lan) -> Namespace:
    """A host of the company in VLAN 300, where the node has an address."""
    return lan.world.outside("router", "10.30.0.1/24", vlan=300)


def test_the_hosts_own_vlan_works_beside_networks_and_is_refused_to_them(lan: Lan, office_router: Namespace) -> None:
    with sub_interface(lan.a, 300, "10.30.0.2/24") as name:
        office_router.wait_ping("10.30.0.2")
        assert office_router.pings("10.30.0.2", size=4000)
        assert ping(lan["blue1"], lan["blue3"].address)
        lan.apply("hosts", vlan=300, pool="10.30.0.0/24")
        with lan.unattached(lan.a) as namespace:
            answer = lan.cni("ADD", lan.a, "hosts", "greedy", namespace)
            assert answer.error == 105
            assert name in answer.result["msg"]
            assert "300" in answer.result["msg"]
        lan.wait_report(lan.a, "hosts", lambda report: not report.ready and name in report.reason, "a is not ready")
        lan.wait_report(lan.b, "hosts", lambda report: report.ready, "b, which has no such link, is ready")
        office_router.wait_ping("10.30.0.2")
    lan.wait_report(lan.a, "hosts", lambda report: report.ready, "a is ready once the link is gone")
    lan.delete_network("hosts")


def test_a_later_vlan_of_the_host_is_a_condition_and_breaks_no_running_port(lan: Lan) -> None:
    vlans = lan.vlans(lan.a)
    with lan.steady_ping("blue1", "blue3") as steady:
        with sub_interface(lan.a, 200, "10.20.0.2/24") as name:
            for network in ("green", "trunk"):
                lan.wait_report(
                    lan.a,
                    network,
                    lambda report: not report.ready and name in report.reason and "200" in report.reason,
                    f"{network} is not ready on a",
                )
            assert ping(lan["trunk1"], lan["green1"].address, device="eth0.200"), "within the node"
            assert ping(lan["trunk1"], lan["trunk2"].address), "the trunk's other VLANs"
            assert lan.vlans(lan.a) == vlans
        for network in ("green", "trunk"):
            lan.wait_report(lan.a, network, lambda report: report.ready, f"{network} is ready again")
        wait_until(lambda: ping(lan["green1"], lan["green2"].address), "VLAN 200 is the guests' again")
    assert steady.lost == 0
