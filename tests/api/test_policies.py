"""Manifests of NetworkPolicy, MultiNetworkPolicy and Namespace: what is filled in, and the words of every refusal."""

# ruff: noqa: E501 (texts are quoted whole, as users see them)

import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
import yaml

from homeport_api import wire
from homeport_api.errors import BadInput, Invalid
from homeport_api.manifest import Document, kind_by_name, read_manifest
from homeport_api.networkpolicy import (
    Direction,
    IpBlock,
    Namespace,
    NetworkPolicy,
    PolicyKind,
    PolicyPort,
    PolicyRule,
    PolicySpec,
    WorkloadPeer,
)
from homeport_api.selector import EVERYTHING, Operator, Requirement, Selector
from homeport_api.workload import Protocol

NETPOL = "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, {}}}, spec: {}}}"
MULTI = "{{apiVersion: k8s.cni.cncf.io/v1beta1, kind: MultiNetworkPolicy, metadata: {{name: p, {}}}, spec: {}}}"
NAMESPACE = "{{apiVersion: v1, kind: Namespace, metadata: {}}}"


def read(text: str) -> Any:
    (value,) = read_manifest([Document("", yaml.safe_load(text))], "shop").objects
    return value


def policy(spec: str, metadata: str = "", form: str = NETPOL) -> NetworkPolicy:
    value = read(form.format(metadata, spec))
    assert isinstance(value, NetworkPolicy)
    return value


def refusals(text: str) -> list[str]:
    with pytest.raises(Invalid) as refusal:
        read(text)
    return [str(error).partition(" p ")[2] or str(error) for error in refusal.value.fields]


BOTH = {Direction.INGRESS, Direction.EGRESS}


@pytest.mark.parametrize("form", [NETPOL, MULTI], ids=["NetworkPolicy", "MultiNetworkPolicy"])
@pytest.mark.parametrize(
    ("spec", "types"),
    [
        pytest.param("{podSelector: {}}", {Direction.INGRESS}, id="nothing"),
        pytest.param("{podSelector: {}, policyTypes: []}", {Direction.INGRESS}, id="empty list"),
        pytest.param("{podSelector: {}, policyTypes: []   , egress: []}", {Direction.INGRESS}, id="no egress rule"),
        pytest.param("{podSelector: {}, egress: [{}]}", BOTH, id="an egress rule"),
        pytest.param("{podSelector: {}, policyTypes: [], egress: [{}]}", BOTH, id="empty list and an egress rule"),
        pytest.param("{podSelector: {}, ingress: [{}]}", {Direction.INGRESS}, id="an ingress rule"),
        pytest.param("{podSelector: {}, policyTypes: [Egress]}", {Direction.EGRESS}, id="Egress alone"),
        pytest.param("{podSelector: {}, policyTypes: [Ingress], egress: [{}]}", {Direction.INGRESS}, id="rule unused"),
        pytest.param("{podSelector: {}, policyTypes: [Egress, Ingress, Egress]}", BOTH, id="both"),
    ],
)
def test_types_follow_from_the_rules_where_they_are_not_said(form: str, spec: str, types: set[Direction]) -> None:
    read = policy(spec, form=form)
    assert read.spec.types == types
    stored = wire.POLICY.loads(wire.POLICY.dumps(read))
    assert (stored.spec.types, stored.kind) == (types, read.kind)


SELECTED = Selector((("app", "web"), ("tier", "")), (Requirement("os", Operator.NOT_IN, ("a", "")),))


@pytest.mark.parametrize(
    ("peers", "expected"),
    [
        pytest.param("[]", (), id="empty list"),
        pytest.param("[{podSelector: {}}]", (WorkloadPeer(None, EVERYTHING),), id="own namespace"),
        pytest.param("[{namespaceSelector: {}}]", (WorkloadPeer(EVERYTHING, None),), id="every namespace"),
        pytest.param(
            "[{podSelector: {matchLabels: {tier: '', app: web}, matchExpressions: "
            "[{key: os, operator: NotIn, values: [a, '']}]}, namespaceSelector: {}}]",
            (WorkloadPeer(EVERYTHING, SELECTED),),
            id="both in one item",
        ),
        pytest.param(
            "[{ipBlock: {cidr: 10.0.0.7/8, except: [10.1.2.3/16, 10.2.0.0/32]}}, {ipBlock: {cidr: '2001:db8::1/64'}}]",
            (
                IpBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"), ip_network("10.2.0.0/32"))),
                IpBlock(ip_network("2001:db8::/64")),
            ),
            id="blocks with host bits",
        ),
        pytest.param("[{ipBlock: {cidr: 0.0.0.0/0}}]", (IpBlock(ip_network("0.0.0.0/0")),), id="everything"),
    ],
)
def test_peers(peers: str, expected: tuple[object, ...]) -> None:
    read = policy(f"{{podSelector: {{}}, ingress: [{{from: {peers}}}], egress: [{{to: {peers}}}]}}")
    assert read.spec.ingress[0].peers == read.spec.egress[0].peers == expected


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        pytest.param("{}", PolicyPort(), id="any TCP port"),
        pytest.param("{port: 80}", PolicyPort(Protocol.TCP, 80), id="TCP where nothing is said"),
        pytest.param("{port: 80, protocol: ''}", PolicyPort(Protocol.TCP, 80), id="TCP where it is empty"),
        pytest.param("{protocol: SCTP}", PolicyPort(Protocol.SCTP), id="protocol alone"),
        pytest.param("{port: dns-1, protocol: UDP}", PolicyPort(Protocol.UDP, "dns-1"), id="by name"),
        pytest.param("{port: 1, endPort: 65535}", PolicyPort(Protocol.TCP, 1, 65535), id="range"),
        pytest.param("{port: 80, endPort: 80}", PolicyPort(Protocol.TCP, 80, 80), id="range of one"),
    ],
)
def test_ports(port: str, expected: PolicyPort) -> None:
    read = policy(f"{{podSelector: {{}}, ingress: [{{ports: [{port}]}}]}}")
    assert read.spec.ingress == (PolicyRule((), (expected,)),)


def rule(text: str) -> str:
    return NETPOL.format("", f"{{ingress: [{text}]}}")


def port(text: str) -> str:
    return rule(f"{{ports: [{text}]}}")


def block(text: str) -> str:
    return rule(f"{{from: [{{ipBlock: {text}}}]}}")


@pytest.mark.parametrize(
    ("spec", "each", "most", "reason"),
    [
        pytest.param(lambda many: {"egress": many}, {}, 1000, "1,001 rules and ports by name", id="rules"),
        pytest.param(
            lambda many: {"ingress": [{"ports": many}], "egress": [{}]},
            {"port": "http"},
            998,
            "1,001 rules and ports by name, and 1,000",
            id="ports by name",
        ),
        pytest.param(
            lambda many: {"ingress": [{"from": many}]},
            {"podSelector": {}},
            20_000,
            "20,001 peers, exceptions and ports, and 20,000",
            id="peers",
        ),
        pytest.param(
            lambda many: {"ingress": [{"ports": many}, {"from": [{"podSelector": {}}]}]},
            {"port": 1},
            19_999,
            "20,001 peers, exceptions and ports",
            id="ports and a peer",
        ),
        pytest.param(
            lambda many: {"egress": [{"to": [{"ipBlock": {"cidr": "::/0", "except": many}}]}]},
            "::1/128",
            19_999,
            "20,001 peers, exceptions and ports",
            id="exceptions",
        ),
    ],
)
def test_a_policy_is_no_bigger_than_nodes_can_take(
    spec: Callable[[list[object]], dict[str, object]], each: object, most: int, reason: str
) -> None:
    def of(count: int) -> dict[str, object]:
        made = spec([each] * count)
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"}, "spec": made}

    wire.NETWORK_POLICY.parse(of(most))
    with pytest.raises(Invalid) as refusal:
        wire.NETWORK_POLICY.parse(of(most + 1))
    (error,) = refusal.value.fields
    assert error.path == "spec"
    assert error.message.startswith(f"has {reason}")
    assert "are the most: make several policies of it" in error.message


def test_the_store_gives_nodes_no_policy_that_is_too_big() -> None:
    sizes = [replace(policy("{}"), spec=PolicySpec(ingress=(PolicyRule(),) * (1000 + more))) for more in (0, 1)]
    assert wire.POLICY.loads(wire.POLICY.dumps(sizes[0])).spec == sizes[0].spec
    with pytest.raises(BadInput, match="1,000 are the most"):
        wire.POLICY.loads(wire.POLICY.dumps(sizes[1]))


NOT_A_PORT = (
    "is not a port's name: up to 15 lower-case letters, digits and '-', at least one letter, no '-' at either end and "
    "no '--'"
)
BLOCK = "spec.ingress[0].from[0].ipBlock"


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        pytest.param(NETPOL.format("", "null"), ["spec: is required"], id="no spec"),
        pytest.param(MULTI.format("", "{ingress: []}"), ["spec.podSelector: is required"], id="nothing selected"),
        pytest.param(
            NETPOL.format("", "{policyTypes: [ingress, Both]}"),
            [
                "spec.policyTypes[0]: must be Ingress or Egress, not the text 'ingress'",
                "spec.policyTypes[1]: must be Ingress or Egress, not the text 'Both'",
            ],
            id="types",
        ),
        pytest.param(
            NETPOL.format("", "{podselector: {}, ingress: [{to: []}], egress: [{ports: [{endport: 7, port: 1}]}]}"),
            [
                "spec.ingress[0].to: unknown field; did you mean spec.egress[].to?",
                "spec.egress[0].ports[0].endport: unknown field; did you mean spec.egress[0].ports[0].endPort?",
                "spec.podselector: unknown field; did you mean spec.podSelector?",
            ],
            id="unknown fields",
        ),
        pytest.param(
            rule("{from: [{}, {podSelector: null}]}"),
            [
                f"spec.ingress[0].from[{at}]: is empty: write podSelector: {{}} for all of the policy's namespace, "
                "namespaceSelector: {} for all namespaces, or leave the list of peers out for everybody"
                for at in (0, 1)
            ],
            id="empty peer",
        ),
        pytest.param(
            rule("{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}"),
            [f"{BLOCK}: excludes podSelector and namespaceSelector: make two peers of it"],
            id="block with selector",
        ),
        pytest.param(
            rule("{from: [{podSelector: {matchExpressions: [{key: a, operator: NotIn}, {key: b, operator: Gt}]}}]}"),
            [
                "spec.ingress[0].from[0].podSelector.matchExpressions[0].values: is required with the operator NotIn",
                "spec.ingress[0].from[0].podSelector.matchExpressions[1].operator: must be In or NotIn or Exists or "
                "DoesNotExist, not the text 'Gt'",
            ],
            id="selector",
        ),
        pytest.param(block("{}"), [f"{BLOCK}.cidr: is required"], id="no CIDR"),
        pytest.param(
            block("{cidr: 10.0.0.7}"),
            [f"{BLOCK}.cidr: '10.0.0.7' has no prefix length: write 10.0.0.7/32 for the one address"],
            id="bare address",
        ),
        pytest.param(
            block("{cidr: 10.0.0.0/0.0.0.255}"),
            [f"{BLOCK}.cidr: '10.0.0.0/0.0.0.255' has a mask in place of a prefix length: write 10.0.0.0/24"],
            id="mask",
        ),
        pytest.param(
            block("{cidr: '::ffff:10.0.0.0/104'}"),
            [f"{BLOCK}.cidr: '::ffff:10.0.0.0/104' is an IPv4 block written as IPv6: write 10.0.0.0/8"],
            id="mapped",
        ),
        pytest.param(
            block("{cidr: 10.0.0.0/33, except: [x]}"),
            [
                f"{BLOCK}.cidr: '10.0.0.0/33' is not a CIDR, like 192.0.2.0/24 or 2001:db8::/64",
                f"{BLOCK}.except[0]: 'x' is not a CIDR, like 192.0.2.0/24 or 2001:db8::/64",
            ],
            id="no CIDRs",
        ),
        pytest.param(
            block("{cidr: 10.0.0.0/16, except: [10.0.0.9/16, 10.0.0.0/8, 10.1.0.0/24, '2001:db8::/64', 10.0.1.0/24]}"),
            [
                f"{BLOCK}.except[0]: 10.0.0.0/16 is the whole of cidr and leaves nothing: take the peer out",
                f"{BLOCK}.except[1]: 10.0.0.0/8 is not inside cidr 10.0.0.0/16",
                f"{BLOCK}.except[2]: 10.1.0.0/24 is not inside cidr 10.0.0.0/16",
                f"{BLOCK}.except[3]: 2001:db8::/64 is not inside cidr 10.0.0.0/16",
            ],
            id="exceptions outside",
        ),
        pytest.param(
            port("{port: 0}, {port: 65536}, {port: true}, {port: 1.5}"),
            [
                "spec.ingress[0].ports[0].port: 0 is not between 1 and 65535",
                "spec.ingress[0].ports[1].port: 65536 is not between 1 and 65535",
                "spec.ingress[0].ports[2].port: must be a port's number or name, not the boolean true (if text was "
                "meant, put it in quotes)",
                "spec.ingress[0].ports[3].port: must be a port's number or name, not the number 1.5 (if text was meant, "
                "put it in quotes)",
            ],
            id="numbers",
        ),
        pytest.param(
            port(
                "{port: '80'}, {port: ''}, {port: HTTP}, {port: a--b}, {port: -a}, {port: sixteen-letters-}, {port: 1-2}"
            ),
            [
                "spec.ingress[0].ports[0].port: '80' is no name, and a number is written without quotes: 80",
                *(
                    f"spec.ingress[0].ports[{at}].port: {name!r} {NOT_A_PORT}"
                    for at, name in enumerate(["", "HTTP", "a--b", "-a", "sixteen-letters-", "1-2"], start=1)
                ),
            ],
            id="names",
        ),
        pytest.param(
            port("{endPort: 9}, {port: 80, endPort: 79}, {port: http, endPort: 90}, {port: 1, endPort: 65536}"),
            [
                "spec.ingress[0].ports[0].endPort: needs port, which begins the range",
                "spec.ingress[0].ports[1].endPort: 79 is below port 80: the range ends before it begins",
                "spec.ingress[0].ports[2].endPort: needs a number in port, not the name 'http'",
                "spec.ingress[0].ports[3].endPort: 65536 is not between 1 and 65535",
            ],
            id="ranges",
        ),
        pytest.param(
            port("{protocol: ICMP}"),
            ["spec.ingress[0].ports[0].protocol: must be TCP or UDP or SCTP, not the text 'ICMP'"],
            id="protocol",
        ),
    ],
)
def test_refusals(text: str, errors: list[str]) -> None:
    assert refusals(text) == errors


@pytest.mark.parametrize(
    ("annotations", "networks"),
    [
        pytest.param("{}", (), id="none"),
        pytest.param("{homeport.dev/network: blue}", (("", "blue"),), id="ours"),
        pytest.param("{networking.gke.io/network: blue}", (("", "blue"),), id="GKE's"),
        pytest.param(
            "{homeport.dev/network: blue, networking.gke.io/network: blue}", (("", "blue"),), id="both, and the same"
        ),
        pytest.param("{k8s.v1.cni.cncf.io/policy-for: blue}", (), id="of the other kind"),
    ],
)
def test_a_network_policy_names_one_network(annotations: str, networks: tuple[tuple[str, str], ...]) -> None:
    assert policy("{}", f"annotations: {annotations}").networks == networks


@pytest.mark.parametrize(
    ("annotations", "networks"),
    [
        pytest.param("{}", (), id="none"),
        pytest.param("{k8s.v1.cni.cncf.io/policy-for: ' , '}", (), id="nothing in it"),
        pytest.param(
            "{k8s.v1.cni.cncf.io/policy-for: 'red , infra/blue,, red'}", (("shop", "red"), ("infra", "blue")), id="list"
        ),
        pytest.param("{homeport.dev/network: blue}", (), id="of the other kind"),
    ],
)
def test_a_multi_network_policy_names_several(annotations: str, networks: tuple[tuple[str, str], ...]) -> None:
    read = policy("{podSelector: {}}", f"annotations: {annotations}", MULTI)
    assert (read.kind, read.networks) == (PolicyKind.MULTI_NETWORK_POLICY, networks)


NO_NAME = (
    "is not an object name: up to 253 lower-case letters, digits, '-' and '.', beginning and ending with a letter or "
    "digit"
)


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        pytest.param(
            NETPOL.format("annotations: {homeport.dev/network: blue, networking.gke.io/network: red}", "{}"),
            [
                "metadata.annotations.homeport.dev/network: names blue, and networking.gke.io/network names red: keep "
                "one of both"
            ],
            id="two networks",
        ),
        pytest.param(
            NETPOL.format("annotations: {homeport.dev/network: 'blue,red'}", "{}"),
            [f"metadata.annotations.homeport.dev/network: 'blue,red' {NO_NAME}"],
            id="a list",
        ),
        pytest.param(
            MULTI.format("annotations: {k8s.v1.cni.cncf.io/policy-for: 'Blue, a.b/red, /x'}", "{podSelector: {}}"),
            [
                f"metadata.annotations.k8s.v1.cni.cncf.io/policy-for: 'Blue' {NO_NAME}",
                "metadata.annotations.k8s.v1.cni.cncf.io/policy-for: 'a.b' is not a name: up to 63 lower-case letters, "
                "digits and '-', no '-' at either end",
                "metadata.annotations.k8s.v1.cni.cncf.io/policy-for: '' is not a name: up to 63 lower-case letters, "
                "digits and '-', no '-' at either end",
            ],
            id="no names",
        ),
        pytest.param(
            MULTI.replace("v1beta1", "v1").format("", "{}"),
            [
                "apiVersion: 'k8s.cni.cncf.io/v1' is not known for MultiNetworkPolicy: write k8s.cni.cncf.io/v1beta1 or "
                "k8s.cni.cncf.io/v1beta2"
            ],
            id="version",
        ),
    ],
)
def test_annotations_and_versions_are_refused(text: str, errors: list[str]) -> None:
    assert refusals(text) == errors


def test_a_namespace_has_its_name_as_a_label() -> None:
    read_one = read(NAMESPACE.format("{name: shop, labels: {team: a}}, spec: {finalizers: [kubernetes]}"))
    assert isinstance(read_one, Namespace)
    labels = {"team": "a", "kubernetes.io/metadata.name": "shop"}
    assert (read_one.name, read_one.meta.namespace, dict(read_one.meta.labels)) == ("shop", "", labels)
    shown = wire.NAMESPACE.show(read_one)
    assert shown == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}}
    assert wire.NAMESPACE.parse({**shown, "status": {"phase": "Active"}}) == (read_one, ())


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        pytest.param(
            "{name: shop, labels: {kubernetes.io/metadata.name: other}}",
            "Namespace shop metadata.labels.kubernetes.io/metadata.name: is 'other', and is always the namespace's own "
            "name, 'shop': leave it out",
            id="another name",
        ),
        pytest.param(
            "{name: shop.example}",
            "Namespace shop.example metadata.name: 'shop.example' is not a name: up to 63 lower-case letters, digits and "
            "'-', no '-' at either end",
            id="dots",
        ),
        pytest.param(
            "{name: shop, namespace: x}",
            "Namespace shop metadata.namespace: must be left out: a Namespace belongs to no namespace",
            id="namespace of a namespace",
        ),
        pytest.param(
            f"{{name: shop, labels: {{a: {'x' * 64}}}}}",
            f"Namespace shop metadata.labels.a: '{'x' * 64}' is not a label value: up to 63 letters, digits, '-', '_' "
            "and '.', or nothing",
            id="label too long",
        ),
    ],
)
def test_namespaces_are_refused(metadata: str, error: str) -> None:
    assert refusals(NAMESPACE.format(metadata)) == [error]


def test_what_was_filled_in_is_shown() -> None:
    shown = wire.NETWORK_POLICY.show(policy("{ingress: [{ports: [{port: http}]}], egress: []}"))
    assert shown["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": "http"}]}],
    }


def test_both_kinds_have_this_stored_form() -> None:
    text = MULTI.format("annotations: {k8s.v1.cni.cncf.io/policy-for: red}", "{podSelector: {}, egress: [{}]}")
    assert wire.MULTI_NETWORK_POLICY.stored.dumps(read(text)) == (
        b'{"schema":1,"kind":"MultiNetworkPolicy","metadata":{"name":"p","namespace":"shop",'
        b'"annotations":{"k8s.v1.cni.cncf.io/policy-for":"red"}},'
        b'"spec":{"podSelector":{},"policyTypes":["Ingress","Egress"],"egress":[{}]},"networks":["shop/red"]}'
    )
    with pytest.raises(BadInput, match="a stored policy cannot be read: spec: is required"):
        wire.POLICY.loads(b'{"schema":1,"kind":"NetworkPolicy","metadata":{"name":"p"}}')


def test_a_stored_peer_of_a_newer_homeport_does_not_become_everybody() -> None:
    spec = b'{"podSelector":{},"policyTypes":["Ingress"],"ingress":[{"from":[{"nodeSelector":{}}]}]}'
    with pytest.raises(BadInput, match=r"spec\.ingress\[0\]\.from\[0\]: is empty"):
        wire.POLICY.loads(b'{"schema":1,"kind":"NetworkPolicy","metadata":{"name":"p"},"spec":' + spec + b"}")


def test_ten_thousand_peers_are_read_in_a_moment() -> None:
    peers = [{"ipBlock": {"cidr": f"10.{at >> 8}.{at & 255}.0/24", "except": []}} for at in range(5000)]
    selected = [{"podSelector": {"matchLabels": {"app": f"a{at}"}}} for at in range(5000)]
    document = yaml.safe_load(NETPOL.format("", "{}"))
    document["spec"] = {"ingress": [{"from": [*peers, *selected]}]}
    begun = time.monotonic()
    read, _ = wire.NETWORK_POLICY.parse(document)
    assert len(read.spec.ingress[0].peers) == 10_000
    assert wire.POLICY.loads(wire.POLICY.dumps(read)) == read
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("netpol", wire.NETWORK_POLICY),
        ("networkpolicies", wire.NETWORK_POLICY),
        ("multi-policy", wire.MULTI_NETWORK_POLICY),
        ("MultiNetworkPolicy", wire.MULTI_NETWORK_POLICY),
        ("ns", wire.NAMESPACE),
    ],
)
def test_kinds_are_called_as_kubectl_users_do(word: str, kind: wire.AnyKind) -> None:
    assert kind_by_name(word) is kind


def test_cluster_policies_are_not_known() -> None:
    text = "{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: p}, spec: {}}"
    assert "kind: 'AdminNetworkPolicy' is not known here" in refusals(text)[0]
