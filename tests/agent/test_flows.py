"""Which flows end when policies change: those that one of the ports concerned has and that are allowed no longer."""

import socket
from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv6Address, ip_address

import pytest

from homeport_agent.flows import reviews_of
from homeport_agent.placement import Place
from homeport_api.addresses import L2Domain, MacAddress, link_local_of
from homeport_api.interface import InterfaceKey, LearnedAddress
from homeport_dataplane.conntrack import Flow
from homeport_policy.facts import Facts, PortFact
from homeport_policy.guards import mark_of
from tests.policy.records import interface, known

BLUE, RED = L2Domain("bond0:100"), L2Domain("bond0:200")
ZONES = {BLUE: 77, RED: 78}
MACS = {name: MacAddress(f"02:00:00:00:00:0{at}") for at, name in enumerate("abcd", 1)}
LINK_LOCAL = {name: str(link_local_of(mac)) for name, mac in MACS.items()}
GIVEN = {name: f"10.0.0.{at}" for at, name in enumerate("abcd", 1)}
ROUTER, INTERNET = "fe80::1", ("192.0.2.1", "2001:db8::1")
GONE = "of-before"


def network(name: str, vlan: int, *, anti_spoof: bool = True) -> str:
    security = "" if anti_spoof else ", security: {antiSpoof: false}"
    return (
        f"{{apiVersion: homeport.dev/v1, kind: Network, metadata: {{name: {name}}}, spec: {{type: L2, "
        f"nodeInterfaceMatcher: {{interfaceName: bond0}}, l2NetworkConfig: {{vlanID: {vlan}}}{security}}}}}\n"
    )


def deny(direction: str, *vms: str, but: str = "") -> str:
    """Isolates these VMs, but for what `but` allows."""
    values = ", ".join(vms)
    return (
        "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: shop}, spec: "
        f"{{podSelector: {{matchExpressions: [{{key: kubevirt/vm, operator: In, values: [{values}]}}]}}, "
        f"policyTypes: [{direction}]{but}}}}}\n"
    )


def world(policy: str, *, anti_spoof: bool = True) -> Facts:
    """VMs a, b, c and d on a VLAN, d on another node; and x and y with the addresses of a and b on another VLAN."""
    manifests = network("blue", 100, anti_spoof=anti_spoof) + "---\n" + network("red", 200)
    manifests += "".join(interface(f"shop/{name}", "blue", name) for name in "abcd")
    manifests += "".join(interface(f"shop/{name}", "red", name) for name in "xy")
    given = {f"shop/{name}": (f"{address}/24",) for name, address in GIVEN.items()}
    given |= {f"shop/{name}": (f"{GIVEN[like]}/24",) for name, like in zip("xy", "ab", strict=True)}
    facts = known(manifests + policy, given)
    for name in "abcd":
        put_status(facts, name, mac=MACS[name])
    for name in "abcxy":
        facts.put_port(InterfaceKey("shop", name), PortFact("switch", f"hp-{name}", uid=name))
    facts.put_zones(ZONES)
    return facts


def put_status(facts: Facts, name: str, **changes: object) -> None:
    found = facts.interface(InterfaceKey("shop", name))
    assert found is not None
    facts.put_interface(found.key, replace(found, status=replace(found.status, **changes)))  # type: ignore[arg-type]


def flow(source: str, target: str, begun_by: str | None, port: int = 22, zone: int = ZONES[BLUE]) -> Flow:
    """`begun_by`: an Interface; None: something outside."""
    addresses = ip_address(source), ip_address(target)
    family = socket.AF_INET if addresses[0].version == 4 else socket.AF_INET6
    return Flow(family, 6, *addresses, 40000, port, zone, mark=0 if begun_by is None else mark_of(begun_by))


def ends(facts: Facts, tried: Flow, *ports: str) -> bool:
    """Whether any review of these ports (without: of all that are isolated) ends the flow."""
    program = facts.compilers["switch"].program()
    concerned: Collection[str] = [f"hp-{name}" for name in ports] or program.ports
    return any(
        review.ends(tried)
        for review in reviews_of(Place.SWITCH, program, concerned, facts)
        if review.zone == tried.zone
    )


WAYS = [
    pytest.param(GIVEN["a"], GIVEN["b"], id="addresses that Homeport gave"),
    pytest.param(LINK_LOCAL["a"], LINK_LOCAL["b"], id="link-local addresses of their MACs"),
    pytest.param("fe80::aaaa", LINK_LOCAL["b"], id="from a link-local address of its own choice"),
    pytest.param("2001:db8::aa", "fe80::bbbb", id="to a link-local address that it took"),
]


@pytest.mark.parametrize("direction", ["Ingress", "Egress"])
@pytest.mark.parametrize(("source", "target"), WAYS)
def test_every_address_of_a_guest_is_its_own(source: str, target: str, direction: str) -> None:
    """Whichever end is isolated, and whatever else the other one has."""
    facts = world(deny(direction, "b" if direction == "Ingress" else "a"))
    put_status(facts, "b", learned=(LearnedAddress(IPv6Address("fe80::bbbb")),))
    assert ends(facts, flow(source, target, "a"))
    other = world(deny(direction, "c"))
    assert not ends(other, flow(source, target, "a")), "neither end is isolated"


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_what_a_policy_still_allows_stays(source: str, target: str) -> None:
    facts = world(deny("Ingress", "b", but=", ingress: [{ports: [{port: 22}]}]"))
    put_status(facts, "b", learned=(LearnedAddress(IPv6Address("fe80::bbbb")),))
    assert not ends(facts, flow(source, target, "a", port=22))
    assert ends(facts, flow(source, target, "a", port=23))


@pytest.mark.parametrize("target", [*INTERNET, ROUTER, GIVEN["d"], LINK_LOCAL["d"], GIVEN["c"], LINK_LOCAL["c"]])
def test_what_goes_past_an_isolated_guest_stays(target: str) -> None:
    """Its address is nobody's here, or another's: the guest that is isolated could not answer from it."""
    source = GIVEN["a"] if ip_address(target).version == 4 else LINK_LOCAL["a"]
    facts = world(deny("Ingress", "b"))
    assert not ends(facts, flow(source, target, "a"))
    assert not ends(facts, flow(target, source, None))
    assert ends(facts, flow(source, GIVEN["b"] if "." in source else LINK_LOCAL["b"], "a"))


def test_what_an_isolated_guest_began_ends_wherever_it_goes() -> None:
    facts = world(deny("Egress", "a"))
    for source, target in zip((GIVEN["a"], LINK_LOCAL["a"]), INTERNET, strict=True):
        assert ends(facts, flow(source, target, "a"))
        assert not ends(facts, flow(source, target, "c")), "another began it, under whatever address"


def test_only_flows_of_the_ports_concerned_are_looked_through() -> None:
    facts = world(deny("Ingress", "b", "c"))
    assert ends(facts, flow(GIVEN["a"], GIVEN["b"], "a"), "b")
    assert not ends(facts, flow(GIVEN["a"], GIVEN["b"], "a"), "c")


def test_the_same_addresses_in_another_domain_are_others() -> None:
    facts = world(deny("Ingress", "y"))
    assert ends(facts, flow(GIVEN["a"], GIVEN["b"], "x", zone=ZONES[RED]))
    assert not ends(facts, flow(GIVEN["a"], GIVEN["b"], "a"))
    assert {
        review.zone for review in reviews_of(Place.SWITCH, facts.compilers["switch"].program(), ["hp-y"], facts)
    } == {ZONES[RED]}


def test_who_is_not_held_to_its_addresses_may_have_any_that_is_nobodys() -> None:
    """Without antiSpoof it may be a router. An address that somebody is known to have is his, and no flow goes back to
    the port that it comes from."""
    facts = world(deny("Ingress", "b"), anti_spoof=False)
    for target in (*INTERNET, "10.0.0.77", ROUTER):
        source = GIVEN["a"] if ip_address(target).version == 4 else LINK_LOCAL["a"]
        assert ends(facts, flow(source, target, "a"))
        assert ends(facts, flow(source, target, None)), "from outside to an address behind it"
        assert not ends(facts, flow(source, target, "b")), "it may send"
        assert not ends(facts, flow(source, target, "a"), "c"), "it is not concerned"
    for target in (GIVEN["c"], GIVEN["d"]):
        assert not ends(facts, flow(GIVEN["a"], target, "a"))


def test_the_flows_of_a_port_that_is_gone_are_known_by_address() -> None:
    facts = world(deny("Egress", "a"))
    assert ends(facts, flow(GIVEN["a"], INTERNET[0], GONE))
    assert not ends(facts, flow(GIVEN["c"], INTERNET[0], GONE))
