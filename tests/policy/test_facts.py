"""Records into snapshots, and the same into compilers."""

from dataclasses import replace
from ipaddress import ip_address

from homeport_api.addresses import L2Domain
from homeport_api.interface import InterfaceKey, LearnedAddress
from homeport_api.meta import ObjectMeta
from homeport_api.networkpolicy import Direction, Namespace
from homeport_api.workload import Protocol, Workload
from homeport_policy import guards
from homeport_policy.chains import trunk_chain
from homeport_policy.compile import compile_snapshot
from homeport_policy.evaluate import Packet, evaluate
from homeport_policy.facts import VM_LABEL, Facts, PortFact
from homeport_policy.ruleset import L4, Verdict, element
from homeport_policy.simulate import Frame, judge, load
from homeport_policy.snapshot import EndpointKey
from tests.policy.records import interface, known

NETWORKS = """\
{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: blue}, spec: {type: L2,
 nodeInterfaceMatcher: {interfaceName: bond0}, l2NetworkConfig: {vlanID: 100}}}
---
{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: trunk}, spec: {type: L2,
 nodeInterfaceMatcher: {interfaceName: bond0}, l2NetworkConfig: {trunk: {vlans: [7, 8]}}}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: shop},
 spec: {podSelector: {}}}
"""
WEB, ROUTER, POD = (InterfaceKey("shop", name) for name in ("web-eth0", "router-eth0", "pod-1"))
WORLD = (
    NETWORKS
    + interface(str(WEB), "blue", "web")
    + interface(str(ROUTER), "trunk", "router", allowedAddresses="[{vlan: 7, address: 10.7.0.1}]")
    + interface(str(POD), "blue")
)


def world() -> Facts:
    return known(WORLD, {str(WEB): ("10.0.0.1/24", "2001:db8::1/64")}, here=(str(WEB), str(ROUTER)))


def test_an_interface_is_where_its_network_and_its_allowed_addresses_are() -> None:
    snapshot = world().snapshot()
    assert {str(key): sorted(map(str, each.addresses)) for key, each in snapshot.endpoints.items()} == {
        "shop/web-eth0 in bond0:100": ["10.0.0.1", "2001:db8::1"],
        "shop/router-eth0 in bond0:trunk": [],
        "shop/router-eth0 in bond0:7": ["10.7.0.1"],
        "shop/pod-1 in bond0:100": [],
    }
    assert snapshot.endpoints[EndpointKey(WEB, L2Domain("bond0:100"))].port == "hp-web-eth0"


def test_what_a_guest_took_counts_as_its_own_but_for_link_local() -> None:
    facts = world()
    pod = facts.interface(POD)
    assert pod is not None
    taken = tuple(LearnedAddress(ip_address(text), 1.0) for text in ("10.0.0.9", "2001:db8::9", "fe80::9"))
    facts.put_interface(POD, replace(pod, status=replace(pod.status, learned=taken)))
    domain = L2Domain("bond0:100")
    assert facts.snapshot().endpoints[EndpointKey(POD, domain)].addresses == {each.address for each in taken[:2]}
    assert [each.key.interface for each in facts.owners(domain, ip_address("10.0.0.9"))] == [POD]
    facts.put_interface(POD, pod)
    assert facts.owners(domain, ip_address("10.0.0.9")) == ()


def test_a_vm_has_its_name_among_its_labels_and_a_pod_has_not() -> None:
    snapshot = world().snapshot()
    assert snapshot.workload(InterfaceKey("shop", "web")).labels == {VM_LABEL: "web"}
    assert snapshot.workload(InterfaceKey("shop", "pod-1")).labels == {}


def test_owners_of_an_address_come_and_go() -> None:
    facts, domain, address = world(), L2Domain("bond0:7"), ip_address("10.7.0.1")
    assert [each.key.interface for each in facts.owners(domain, address)] == [ROUTER]
    facts.put_interface(ROUTER, None)
    assert facts.owners(domain, address), "its guest runs"
    facts.put_port(ROUTER, None)
    assert facts.owners(domain, address) == ()


def test_what_has_a_port_is_judged_whatever_is_known_of_it() -> None:
    facts = world()
    before = facts.compilers["switch"].program()
    assert before.ports == {"hp-web-eth0", "hp-router-eth0"}
    facts.put_interface(WEB, None)
    facts.put_network("blue", None)
    assert facts.compilers["switch"].program() == before, "the last good state stays"
    nobody = InterfaceKey(WEB.namespace, "nobody-eth0")
    facts.put_port(nobody, PortFact("switch", "hp-nobody"))
    program = facts.compilers["switch"].program()
    assert program.egress["hp-nobody"] == trunk_chain(Direction.EGRESS, ())[0].name, "shut"
    assert program.ingress["hp-nobody"] == trunk_chain(Direction.INGRESS, ())[0].name
    facts.put_port(nobody, None)
    assert facts.compilers["switch"].program() == before


def test_the_port_of_a_later_attachment_stays() -> None:
    facts = world()
    later, earlier = (PortFact("switch", f"hp-{epoch}", uid="u", epoch=epoch) for epoch in (2, 1))
    assert facts.is_newer(POD, earlier)
    facts.put_port(POD, later)
    assert not facts.is_newer(POD, earlier)
    assert facts.is_newer(POD, PortFact("switch", "hp-3", uid="u", epoch=3))


def test_compilers_are_told_whatever_came_before_them() -> None:
    facts = world()
    assert facts.compilers["switch"].program() == compile_snapshot(facts.snapshot())
    facts.put_port(POD, PortFact("host", "hp-pod"))
    assert set(facts.compilers["host"].program().ingress) == {"hp-pod"}
    assert set(facts.compilers["switch"].program().ingress) == {"hp-web-eth0", "hp-router-eth0"}


DOUBTED = (
    """\
{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: blue}, spec: {type: L2,
 nodeInterfaceMatcher: {interfaceName: bond0}, l2NetworkConfig: {vlanID: 100}}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: db, namespace: shop}, spec: {
 podSelector: {matchLabels: {role: db}},
 ingress: [
  {from: [{podSelector: {matchExpressions: [{key: role, operator: NotIn, values: [guest]}]}}], ports: [{port: 1}]},
  {from: [{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}], ports: [{port: 2}]}]}}
"""
    + interface("shop/db", "blue", "db")
    + interface("shop/web", "blue", "web")
    + interface("lab/pc", "blue", "pc")
)
DB, FRONT, PC = InterfaceKey("shop", "db"), InterfaceKey("shop", "web"), InterfaceKey("lab", "pc")
GIVEN = {DB: "10.0.0.1", FRONT: "10.0.0.2", PC: "10.0.0.3"}


def doubted_world() -> Facts:
    """The database lets in who is no guest at port 1, and all but one team's at port 2."""
    given = {str(key): (f"{address}/24",) for key, address in GIVEN.items()}
    return known(DOUBTED, given, {"shop/db": {"role": "db"}}, here=("shop/db", "shop/web", "lab/pc"))


def lets_in(facts: Facts, source: InterfaceKey, target: InterfaceKey, port: int) -> bool:
    """The oracle's word, which is the program's too."""
    blue = L2Domain("bond0:100")
    addresses = ip_address(GIVEN[source]), ip_address(GIVEN[target])
    packet = Packet(blue, *addresses, Protocol.TCP, port, EndpointKey(source, blue), EndpointKey(target, blue))
    program = facts.compilers["switch"].program()
    elements = [element(name, f"hp-{key.name}") for key in GIVEN for name in (guards.PORTS, guards.SPEAKING)]
    frame = Frame(f"hp-{source.name}", f"hp-{target.name}", 0x800, *addresses, L4.TCP, 40000, port)
    passes = judge(load(guards.base(tracking=True), program, elements), "forward", frame).verdict is Verdict.ACCEPT
    assert evaluate(facts.snapshot(), packet).allowed == passes
    again = compile_snapshot(facts.snapshot())
    assert (again.ingress, again.egress, again.sets) == (program.ingress, program.egress, program.sets)
    return passes


def test_a_guest_whose_labels_cannot_be_read_is_shut_and_nobodys_peer() -> None:
    facts, web = doubted_world(), InterfaceKey("shop", "web")
    assert lets_in(facts, FRONT, DB, 1)
    assert lets_in(facts, PC, FRONT, 1)
    facts.doubt_workload(web)
    facts.doubt_workload(web)
    assert not lets_in(facts, FRONT, DB, 1), "it may be a guest"
    assert not lets_in(facts, PC, FRONT, 1), "it may be a database"
    assert lets_in(facts, PC, DB, 2), "what is known of the others stays"
    facts.put_workload(web, Workload("shop", "web", {"role": "guest"}))
    assert lets_in(facts, PC, FRONT, 1)
    assert not lets_in(facts, FRONT, DB, 1)
    facts.doubt_workload(web)
    assert lets_in(facts, PC, FRONT, 1), "what was read before stays"
    facts.put_workload(web, None)
    facts.doubt_workload(web)
    facts.put_workload(web, None)
    assert lets_in(facts, FRONT, DB, 1)


def test_a_namespace_whose_labels_cannot_be_read_is_meant_by_no_selector() -> None:
    facts = doubted_world()
    assert lets_in(facts, PC, DB, 2)
    assert lets_in(facts, FRONT, DB, 2)
    facts.doubt_namespace("lab")
    assert not lets_in(facts, PC, DB, 2), "it may be that team's"
    assert lets_in(facts, FRONT, DB, 2), "the other is known"
    facts.put_namespace("lab", Namespace(ObjectMeta("lab")))
    assert lets_in(facts, PC, DB, 2)
    facts.doubt_namespace("lab")
    assert lets_in(facts, PC, DB, 2), "what was read before stays"
    facts.put_namespace("lab", None)
    facts.doubt_namespace("shop")
    assert not lets_in(facts, FRONT, DB, 2)
    assert lets_in(facts, FRONT, DB, 1), "within a namespace its labels do not matter"


def test_doubts_are_told_to_compilers_that_come_later() -> None:
    facts = doubted_world()
    facts.doubt_workload(InterfaceKey("shop", "web"))
    facts.doubt_namespace("lab")
    program = facts.compilers["switch"].program()
    facts.compilers.clear()
    again = facts.add_side("switch").program()
    assert (again.ingress, again.egress, again.sets) == (program.ingress, program.egress, program.sets)
    assert "hp-web" in program.ingress
