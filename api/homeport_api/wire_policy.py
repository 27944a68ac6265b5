"""Field tables of NetworkPolicy (`networking.k8s.io/v1`), MultiNetworkPolicy (`k8s.cni.cncf.io`) and Namespace (`v1`).

What the API server fills into a NetworkPolicy is filled in here, for both: policyTypes by the rules that are there, TCP
where a port has no protocol. The rules between fields are in `validate_policy`.
"""

from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Network, ip_network

from homeport_api import validate_policy as rules
from homeport_api.addresses import IpNetwork
from homeport_api.meta import ObjectMeta
from homeport_api.names import parse_port_name
from homeport_api.networkpolicy import (
    Direction,
    IpBlock,
    Namespace,
    NetworkPolicy,
    NodeEnforcement,
    Peer,
    PolicyKind,
    PolicyPort,
    PolicyRule,
    PolicySpec,
    PolicyStatus,
    WorkloadPeer,
)
from homeport_api.scalars import COUNT, TEXT, UNREAD, Choice, Integer, Text
from homeport_api.selector import EVERYTHING, Selector
from homeport_api.table import Field, ListOf, Mapped, Reading, Record, Rule, Schema, describe, refuse
from homeport_api.validate_policy import Named
from homeport_api.wire_meta import CONDITIONS, MANIFEST_META, SELECTOR, STORED_META, ConditionStatus
from homeport_api.workload import Protocol


def read_block(text: str) -> IpNetwork:
    """A CIDR, whose host bits are cleared as Kubernetes does it."""
    try:
        block = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a CIDR, like 192.0.2.0/24 or 2001:db8::/64") from None
    if "%" in text:
        raise ValueError(f"{text!r} names a link after '%': leave that out")
    _, slash, length = text.partition("/")
    if not slash:
        raise ValueError(f"{text!r} has no prefix length: write {block} for the one address")
    if not length.isdecimal():
        raise ValueError(f"{text!r} has a mask in place of a prefix length: write {block}")
    if isinstance(block, IPv6Network) and block.prefixlen >= 96 and (mapped := block.network_address.ipv4_mapped):
        raise ValueError(f"{text!r} is an IPv4 block written as IPv6: write {mapped}/{block.prefixlen - 96}")
    return block


class NumberOrName:
    """A port: its number, or what the destination calls it."""

    _number = Integer(1, 65535)
    _name: Text[str] = Text(parse_port_name)

    def parse(self, raw: object, path: str, reading: Reading, /) -> int | str:
        if isinstance(raw, str) and raw.isdecimal():
            raise refuse(path, f"{raw!r} is no name, and a number is written without quotes: {raw}")
        if isinstance(raw, str):
            return self._name.parse(raw, path, reading)
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise refuse(path, f"must be a port's number or name, not {describe(raw)}")
        return self._number.parse(raw, path, reading)

    def render(self, value: int | str) -> object:
        return value

    def schema(self) -> Schema:
        return {"x-kubernetes-int-or-string": True}


@dataclass(frozen=True, slots=True)
class _WrittenPeer:
    pods: Selector | None = None
    namespaces: Selector | None = None
    block: IpBlock | None = None


def _hold_peer(written: _WrittenPeer) -> Peer:
    """Refused in the store too: a peer of which we understand nothing must not become everybody."""
    pods, namespaces, block = written.pods, written.namespaces, written.block
    if block is not None:
        if pods is not None or namespaces is not None:
            raise refuse("ipBlock", "excludes podSelector and namespaceSelector: make two peers of it")
        return block
    if pods is None and namespaces is None:
        message = (
            "is empty: write podSelector: {} for all of the policy's namespace, namespaceSelector: {} for all "
            "namespaces, or leave the list of peers out for everybody"
        )
        raise refuse("", message)
    return WorkloadPeer(namespaces, pods)


def _write_peer(peer: Peer) -> _WrittenPeer:
    match peer:
        case IpBlock():
            return _WrittenPeer(block=peer)
        case WorkloadPeer(namespaces, workloads):
            return _WrittenPeer(workloads, namespaces)


BLOCK: Record[IpBlock] = Record(
    IpBlock,
    Field("cidr", Text(read_block, format="cidr"), "cidr", "IPv4 or IPv6; host bits are cleared.", required=True),
    Field("except", ListOf(Text(read_block, format="cidr")), "excepts", "Parts of cidr that are not meant."),
    rules=(Rule(("cidr", "except"), rules.excepts_inside),),
)

PEER: Mapped[_WrittenPeer, Peer] = Mapped(
    Record(
        _WrittenPeer,
        Field("podSelector", SELECTOR, "pods", "VMs and pods with these labels."),
        Field("namespaceSelector", SELECTOR, "namespaces", "In namespaces with these labels; else the policy's own."),
        Field("ipBlock", BLOCK, "block", "Addresses; excludes the selectors."),
    ),
    _hold_peer,
    _write_peer,
)

PORT: Record[PolicyPort] = Record(
    PolicyPort,
    Field("protocol", Choice(Protocol, {"": Protocol.TCP}), "protocol", "Default TCP.", always=True),
    Field("port", NumberOrName(), "port", "Number, or name at the destination; every port when left out."),
    Field("endPort", Integer(1, 65535), "end", "Last port of a range that begins with port, a number."),
    rules=(Rule(("port", "endPort"), rules.range_of_ports),),
)


def _rule(peers: str, doc: str) -> Record[PolicyRule]:
    return Record(
        PolicyRule,
        Field(peers, ListOf(PEER), "peers", doc),
        Field("ports", ListOf(PORT), "ports", "To one of these ports; to anything when left out."),
    )


@dataclass(frozen=True, slots=True)
class _WrittenSpec:
    selector: Selector = EVERYTHING
    types: tuple[Direction, ...] = ()
    ingress: tuple[PolicyRule, ...] = ()
    egress: tuple[PolicyRule, ...] = ()


def _hold_spec(written: _WrittenSpec) -> PolicySpec:
    """Refused in the store too: one that is too big for the nodes must not get to them from there."""
    if (reason := rules.too_big((*written.ingress, *written.egress))) is not None:
        raise refuse("", reason)
    types = frozenset(written.types)
    if not types:
        types = frozenset(Direction) if written.egress else frozenset({Direction.INGRESS})
    return PolicySpec(written.selector, types, written.ingress, written.egress)


def _write_spec(spec: PolicySpec) -> _WrittenSpec:
    types = tuple(direction for direction in Direction if direction in spec.types)
    return _WrittenSpec(spec.selector, types, spec.ingress, spec.egress)


def _spec(*, selector_required: bool) -> Mapped[_WrittenSpec, PolicySpec]:
    table = Record(
        _WrittenSpec,
        Field(
            "podSelector",
            SELECTOR,
            "selector",
            "The VMs and pods of the namespace that it isolates; {} for all.",
            required=selector_required,
            always=True,
        ),
        Field(
            "policyTypes",
            ListOf(Choice(Direction), unique=True),
            "types",
            "Directions it isolates in. Default: Ingress, and Egress if there is an egress rule.",
        ),
        Field("ingress", ListOf(_rule("from", "From one of these; from anywhere when left out.")), "ingress"),
        Field("egress", ListOf(_rule("to", "To one of these; to anywhere when left out.")), "egress"),
    )
    return Mapped(table, _hold_spec, _write_spec)


_NETWORK_POLICY_SPEC = _spec(selector_required=False)
_MULTI_NETWORK_POLICY_SPEC = _spec(selector_required=True)


def _meta(named: Named) -> ObjectMeta:
    return named[0]


def _manifest(
    kind: PolicyKind, meta: Mapped[ObjectMeta, Named], spec: Mapped[_WrittenSpec, PolicySpec]
) -> Record[NetworkPolicy]:
    return Record(
        partial(NetworkPolicy, kind),
        Field("metadata", meta, ("meta", "networks"), required=True),
        Field("spec", spec, "spec", required=True),
        Field("status", UNREAD, (), silent=True),
    )


NETWORK_POLICY: Record[NetworkPolicy] = _manifest(
    PolicyKind.NETWORK_POLICY, Mapped(MANIFEST_META, rules.with_network, _meta), _NETWORK_POLICY_SPEC
)
MULTI_NETWORK_POLICY: Record[NetworkPolicy] = _manifest(
    PolicyKind.MULTI_NETWORK_POLICY, Mapped(MANIFEST_META, rules.with_policy_for, _meta), _MULTI_NETWORK_POLICY_SPEC
)


STATUS: Record[PolicyStatus] = Record(
    PolicyStatus,
    Field("conditions", CONDITIONS, "conditions"),
    Field("interfaces", COUNT, "interfaces", "Interfaces that it isolates, attached or not.", required=True),
    Field(
        "nodes",
        ListOf(
            Record(
                NodeEnforcement,
                Field("name", TEXT, "name", required=True),
                Field("enforced", Choice(ConditionStatus), "enforced", required=True),
                Field("reason", TEXT, "reason"),
            )
        ),
        "nodes",
    ),
)


def _shown(spec: Mapped[_WrittenSpec, PolicySpec]) -> Record[NetworkPolicy]:
    return Record(
        NetworkPolicy,
        Field("metadata", STORED_META, "meta", required=True),
        Field("spec", spec, "spec", required=True),
        Field("status", STATUS, "status"),
    )


NETWORK_POLICY_SHOWN = _shown(_NETWORK_POLICY_SPEC)
MULTI_NETWORK_POLICY_SHOWN = _shown(_MULTI_NETWORK_POLICY_SPEC)


def _read_network(text: str) -> tuple[str, str]:
    namespace, _, name = text.rpartition("/")
    return namespace, name


STORED: Record[NetworkPolicy] = Record(
    NetworkPolicy,
    Field("kind", Choice(PolicyKind), "kind", required=True),
    Field("metadata", STORED_META, "meta", required=True),
    Field("spec", _NETWORK_POLICY_SPEC, "spec", required=True),
    Field("networks", ListOf(Text(_read_network, "/".join)), "networks"),
)
"""Of both kinds. The status is merged by readers and never stored."""


def _same(meta: ObjectMeta) -> ObjectMeta:
    return meta


NAMESPACE: Record[Namespace] = Record(
    Namespace,
    Field("metadata", Mapped(MANIFEST_META, rules.with_name_label, _same), "meta", required=True),
    Field("spec", UNREAD, (), silent=True),
    Field("status", UNREAD, (), silent=True),
)
NAMESPACE_STORED: Record[Namespace] = Record(Namespace, Field("metadata", STORED_META, "meta", required=True))
