"""What is said of policies: whom they isolate, on which nodes they are enforced, and what has no effect."""

from collections.abc import Mapping

import pytest

from homeport_api.interface import InterfaceKey
from homeport_api.networkpolicy import NodeEnforcement, PolicyKey, PolicyKind, PolicyStatus
from homeport_api.node import PolicyReport, PolicyTrouble, TroubleReason
from homeport_api.workload import NamedPort
from homeport_policy.facts import Facts
from homeport_policy.status import Attached, Nodes, policy_statuses
from tests.policy.records import interface, known

DB, WEB, IDLE = (InterfaceKey("shop", name) for name in ("db-eth0", "web-eth0", "idle-eth0"))
WORLD = (
    "{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: blue}, spec: {type: L2}}\n"
    + interface(str(DB), "blue", "db")
    + interface(str(WEB), "blue", "web")
    + interface(str(IDLE), "blue", "idle")
)
LABELS = {"shop/db": {"role": "db"}, "shop/web": {"role": "web"}, "shop/idle": {"role": "idle"}}
PORTS = {"shop/db": (NamedPort("pg", 5432),), "shop/web": (NamedPort("http", 80),)}
KEY = PolicyKey("shop", PolicyKind.NETWORK_POLICY, "it")
MULTI = PolicyKey("shop", PolicyKind.MULTI_NETWORK_POLICY, "it")
ATTACHED = {DB: (Attached("n1"),), WEB: (Attached("n2"),)}
GOOD = {node: PolicyReport(node) for node in ("n1", "n2")}
ALL = "podSelector: {}"
ONLY_DB = "podSelector: {matchLabels: {role: db}}"


def manifest(spec: str, annotation: str = "", kind: str = "NetworkPolicy") -> str:
    api = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "k8s.cni.cncf.io/v1beta1"
    noted = f", annotations: {{{annotation}}}" if annotation else ""
    return (
        f"---\n{{apiVersion: {api}, kind: {kind}, metadata: {{name: it, namespace: shop{noted}}}, spec: {{{spec}}}}}\n"
    )


def facts(policy: str, world: str = WORLD) -> Facts:
    return known(world + policy, {}, LABELS, PORTS)


def judged(
    policy: str,
    key: PolicyKey = KEY,
    *,
    world: str = WORLD,
    attached: Mapping[InterfaceKey, tuple[Attached, ...]] = ATTACHED,
    reports: Mapping[str, PolicyReport] = GOOD,
    alive: frozenset[str] = frozenset({"n1", "n2"}),
) -> PolicyStatus:
    nodes = Nodes(attached, reports, alive)
    return policy_statuses(facts(policy, world).snapshot(), [key], nodes)[key]


def told(status: PolicyStatus) -> list[str]:
    return [f"{one.type}={one.status} {one.reason}: {one.message}" for one in status.conditions]


def trouble(reason: TroubleReason, message: str) -> PolicyTrouble:
    return PolicyTrouble(KEY.namespace, KEY.kind.value, KEY.name, reason, message)


def test_it_is_enforced_where_whom_it_isolates_is_attached() -> None:
    status = judged(manifest(ALL))
    assert told(status) == ["Enforced=True NodesEnforce: on 2 of 2 nodes that it isolates an Interface on"]
    assert (status.interfaces, status.nodes) == (3, (NodeEnforcement("n1", "True"), NodeEnforcement("n2", "True")))
    assert judged(manifest(ONLY_DB)).nodes == (NodeEnforcement("n1", "True"),)


def test_where_nobody_is_attached_there_is_nothing_to_enforce() -> None:
    assert told(judged(manifest("podSelector: {matchLabels: {role: idle}}"))) == [
        "Enforced=True NothingAttached: none of the Interfaces that it isolates is attached"
    ]
    assert told(judged(manifest("podSelector: {matchLabels: {role: nobody}}"))) == [
        "Enforced=True NothingAttached: it isolates no Interface"
    ]


def test_a_node_that_names_it_does_not_enforce_it() -> None:
    """Also one that has nobody whom it isolates, as far as is known: what it cannot read may isolate anybody."""
    bad = PolicyReport("n1", troubles=(trouble(TroubleReason.REFUSED, "no memory"),))
    status = judged(manifest(ALL), reports={**GOOD, "n1": bad})
    assert told(status) == ["Enforced=False Refused: n1: no memory"]
    assert status.nodes == (NodeEnforcement("n1", "False", "Refused: no memory"), NodeEnforcement("n2", "True"))
    far = PolicyReport("n9", troubles=(trouble(TroubleReason.UNREADABLE, "schema 9"),))
    assert told(judged(manifest(ONLY_DB), reports={**GOOD, "n9": far})) == ["Enforced=False Unreadable: n9: schema 9"]
    other = PolicyReport("n1", troubles=(PolicyTrouble("shop", "NetworkPolicy", "other", TroubleReason.REFUSED),))
    assert told(judged(manifest(ALL), reports={**GOOD, "n1": other}))[0].startswith("Enforced=True")


def test_a_node_that_enforces_none_says_so_of_those_that_isolate_its_guests() -> None:
    unable = PolicyReport("n1", TroubleReason.STATEFUL_POLICY_UNAVAILABLE, "no conntrack")
    reports = {**GOOD, "n1": unable}
    assert told(judged(manifest(ONLY_DB), reports=reports)) == [
        "Enforced=False StatefulPolicyUnavailable: n1: no conntrack; muted: shop/db-eth0"
    ]
    assert judged(manifest("podSelector: {matchLabels: {role: web}}"), reports=reports).nodes == (
        NodeEnforcement("n2", "True"),
    )


@pytest.mark.parametrize(
    ("reports", "alive", "reason"),
    [
        pytest.param(GOOD, frozenset({"n2"}), "NodeAway", id="no heartbeat"),
        pytest.param({}, frozenset({"n1", "n2"}), "NoReport", id="an agent that does not report"),
    ],
)
def test_of_who_is_silent_nothing_is_known(
    reports: Mapping[str, PolicyReport], alive: frozenset[str], reason: str
) -> None:
    status = judged(manifest(ONLY_DB), reports=reports, alive=alive)
    assert [node.enforced for node in status.nodes] == ["Unknown"]
    assert told(status)[0].startswith(f"Enforced=Unknown {reason}: n1: ")


def test_a_link_of_another_plugin_is_not_filtered() -> None:
    status = judged(manifest(ONLY_DB), attached={DB: (Attached("n1", filtered=False),)})
    assert told(status) == [
        "Enforced=False NotOurs: n1: homeport-ipam gave shop/db-eth0 an address, and its link is another plugin's"
    ]


def test_what_many_nodes_say_is_cut() -> None:
    names = [f"n{number}" for number in range(8)]
    reports = {name: PolicyReport(name, troubles=(trouble(TroubleReason.REFUSED, "full"),)) for name in names}
    status = judged(manifest(ALL), reports=reports)
    assert (len(status.nodes), status.conditions[0].message[-10:]) == (8, "and 3 more")


ANNOTATED = WORLD.replace("{type: L2}", "{type: L2, networkPolicies: Annotated}")
POLICY_FOR = "k8s.v1.cni.cncf.io/policy-for"


@pytest.mark.parametrize(
    ("policy", "key", "world", "expected"),
    [
        pytest.param(manifest(ALL, "homeport.dev/network: blue"), KEY, WORLD, [], id="a network that is there"),
        pytest.param(
            manifest(ALL, "homeport.dev/network: bleu"),
            KEY,
            WORLD,
            [
                "NetworkNotFound=True NoSuchNetwork: there is no Network bleu",
                "AppliesNowhere=True NoSuchNetwork: none of the networks that it names exists",
            ],
            id="one that is not",
        ),
        pytest.param(
            manifest(ALL, f'{POLICY_FOR}: "blue, infra/red"', "MultiNetworkPolicy"),
            MULTI,
            WORLD,
            ["NetworkNotFound=True NoSuchNetwork: there is no Network infra/red"],
            id="one of two",
        ),
        pytest.param(
            manifest(ALL, kind="MultiNetworkPolicy"),
            MULTI,
            WORLD,
            [
                f"AppliesNowhere=True NoPolicyFor: without the annotation {POLICY_FOR} a MultiNetworkPolicy applies on "
                "no network"
            ],
            id="none where one is required",
        ),
        pytest.param(
            manifest(ALL),
            KEY,
            ANNOTATED,
            [
                "AppliesNowhere=True NotAnnotated: every Network has networkPolicies: Annotated, and it has no "
                "annotation homeport.dev/network"
            ],
            id="none where all Networks want one",
        ),
    ],
)
def test_where_it_applies(policy: str, key: PolicyKey, world: str, expected: list[str]) -> None:
    assert told(judged(policy, key, world=world))[1:] == expected


@pytest.mark.parametrize(
    ("spec", "unknown"),
    [
        pytest.param("ingress: [{ports: [{port: pg}]}]", "", id="its own"),
        pytest.param("ingress: [{ports: [{port: 1}, {port: http}]}]", "ingress[0]: http/tcp", id="another's"),
        pytest.param("ingress: [{ports: [{port: pg, protocol: UDP}]}]", "ingress[0]: pg/udp", id="protocol"),
        pytest.param("egress: [{}, {ports: [{port: http}]}]", "", id="somebody around has it"),
        pytest.param("egress: [{}, {ports: [{port: htpt}]}]", "egress[1]: htpt/tcp", id="nobody has it"),
        pytest.param("policyTypes: [Egress], ingress: [{ports: [{port: x}]}]", "", id="no effect anyway"),
    ],
)
def test_port_names_that_nobody_has(spec: str, unknown: str) -> None:
    def found(selector: str) -> list[str]:
        conditions = judged(manifest(f"{selector}, {spec}")).conditions
        return [one.message.rpartition("called so: ")[2] for one in conditions if one.type == "PortNameUnknown"]

    assert found(ONLY_DB) == ([unknown] if unknown else [])
    assert found("podSelector: {matchLabels: {role: nobody}}") == [], "where it isolates nobody, nothing can be said"


def test_only_those_asked_for_are_judged() -> None:
    snapshot = facts(manifest(ALL)).snapshot()
    assert policy_statuses(snapshot, [], Nodes({}, {}, ())) == {}
    assert policy_statuses(snapshot, [MULTI], Nodes({}, {}, ())) == {}
