"""The status of policies, merged by their readers: whom each isolates and where that is, what the nodes report, and
what of a policy has no effect. Pure; nothing of it is stored.

    Enforced            False where a node says that it does not enforce it as the store has it, or a guest of it has a
                        link that is not ours; Unknown where a node is away or has not said anything
    NetworkNotFound     a network that its annotation names does not exist
    AppliesNowhere      no Network is left that it could apply on
    PortNameUnknown     nobody whom a rule lets be reached has a port of the name that it gives

Only the first is always there. The others are there while they are true: each is lawful, and mostly a slip of the pen.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from homeport_api.addresses import L2Domain
from homeport_api.interface import InterfaceKey
from homeport_api.meta import Condition
from homeport_api.networkpolicy import (
    POLICY_FOR,
    Direction,
    NetworkPolicy,
    NodeEnforcement,
    PolicyKey,
    PolicyKind,
    PolicyStatus,
)
from homeport_api.node import STATEFUL_POLICY_UNAVAILABLE, PolicyReport, PolicyTrouble
from homeport_api.workload import Protocol
from homeport_policy.index import Index
from homeport_policy.members import applies_on
from homeport_policy.snapshot import Endpoint, Snapshot

ENFORCED = "Enforced"
NETWORK_NOT_FOUND = "NetworkNotFound"
APPLIES_NOWHERE = "AppliesNowhere"
PORT_NAME_UNKNOWN = "PortNameUnknown"
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"

NAMED = 5
"""As many nodes, Interfaces or ports a message names."""

_PortName = tuple[str, Protocol]


@dataclass(frozen=True, slots=True)
class Attached:
    """An Interface on a node. `filtered` False: by `homeport-ipam`, whose links are not ours."""

    node: str
    filtered: bool = True


@dataclass(frozen=True, slots=True)
class Nodes:
    """What is known of nodes: where Interfaces are attached, what each reported, and who has a heartbeat."""

    attached: Mapping[InterfaceKey, Sequence[Attached]]
    reports: Mapping[str, PolicyReport]
    alive: Collection[str]


def policy_statuses(snapshot: Snapshot, keys: Iterable[PolicyKey], nodes: Nodes) -> dict[PolicyKey, PolicyStatus]:
    """Of those policies of the snapshot that `keys` names."""
    world = _World(snapshot, nodes)
    return {key: world.status(snapshot.policies[key]) for key in keys if key in snapshot.policies}


class _World:
    """A snapshot with what all policies are asked of it, found once."""

    def __init__(self, snapshot: Snapshot, nodes: Nodes) -> None:
        self._snapshot = snapshot
        self._nodes = nodes
        self._index = Index()
        self._domains: dict[str, set[L2Domain]] = defaultdict(set)
        self._ports: dict[L2Domain, set[_PortName]] = defaultdict(set)
        for endpoint in snapshot.endpoints.values():
            workload = snapshot.workload(endpoint.workload)
            self._index.put(endpoint, workload)
            self._domains[endpoint.workload.namespace].add(endpoint.domain)
            self._ports[endpoint.domain] |= {(port.name, port.protocol) for port in workload.ports}
        self._definitions = {endpoint.attached_as for endpoint in snapshot.endpoints.values()}
        self._troubles: dict[tuple[str, str, str], list[tuple[str, PolicyTrouble]]] = defaultdict(list)
        for report in nodes.reports.values():
            for trouble in report.troubles:
                self._troubles[trouble.namespace, trouble.kind, trouble.name].append((report.node, trouble))

    def status(self, policy: NetworkPolicy) -> PolicyStatus:
        isolated = self._isolated(policy)
        interfaces = sorted({endpoint.key.interface for endpoint in isolated})
        nodes = tuple(self._enforcement(policy.key, interfaces))
        conditions = (
            self._enforced(interfaces, nodes),
            *self._networks(policy),
            *self._port_names(policy, isolated),
        )
        return PolicyStatus(conditions, len(interfaces), nodes)

    def _isolated(self, policy: NetworkPolicy) -> list[Endpoint]:
        namespace = policy.meta.namespace
        return [
            endpoint
            for domain in sorted(self._domains.get(namespace, ()))
            for endpoint in self._index.find(domain, (namespace,), policy.spec.selector)
            if applies_on(policy, endpoint, takes_all=self._snapshot.takes_all(endpoint.network))
        ]

    def _enforcement(self, key: PolicyKey, interfaces: Iterable[InterfaceKey]) -> Iterator[NodeEnforcement]:
        held: dict[str, list[InterfaceKey]] = defaultdict(list)
        foreign: dict[str, list[InterfaceKey]] = defaultdict(list)
        for interface in interfaces:
            for each in self._nodes.attached.get(interface, ()):
                (held if each.filtered else foreign)[each.node].append(interface)
        troubles = dict(self._troubles.get((key.namespace, key.kind.value, key.name), ()))
        for node in sorted({*held, *foreign, *troubles}):
            state, reason = self._on_node(node, troubles.get(node), held.get(node, []))
            if node in foreign and state != FALSE:
                state = FALSE
                reason = (
                    f"NotOurs: homeport-ipam gave {_some(foreign[node])} an address, and its link is another plugin's"
                )
            yield NodeEnforcement(node, state, reason)

    def _on_node(self, node: str, trouble: PolicyTrouble | None, held: Sequence[InterfaceKey]) -> tuple[str, str]:
        report = self._nodes.reports.get(node)
        if trouble is not None:
            return FALSE, f"{trouble.reason}: {trouble.message}"
        if held and report is not None and report.reason is not None:
            muted = report.reason.value == STATEFUL_POLICY_UNAVAILABLE
            return FALSE, f"{report.reason}: {report.message}{f'; muted: {_some(held)}' if muted else ''}"
        if held and node not in self._nodes.alive:
            return UNKNOWN, "NodeAway: it has no heartbeat; what its kernel has stays in force"
        if held and report is None:
            return UNKNOWN, "NoReport: its agent has not said anything of policies yet"
        return TRUE, ""

    def _enforced(self, interfaces: Sequence[InterfaceKey], nodes: Sequence[NodeEnforcement]) -> Condition:
        for state in (FALSE, UNKNOWN):
            if found := [node for node in nodes if node.enforced == state]:
                reasons = [node.reason.partition(": ") for node in found]
                told = [f"{node.name}: {text}" for node, (_, _, text) in zip(found, reasons, strict=True)]
                return Condition(ENFORCED, state, reasons[0][0], _some(told, "; "))
        if nodes:
            where = f"on {len(nodes)} of {len(nodes)} nodes that it isolates an Interface on"
            return Condition(ENFORCED, TRUE, "NodesEnforce", where)
        what = "none of the Interfaces that it isolates is attached" if interfaces else "it isolates no Interface"
        return Condition(ENFORCED, TRUE, "NothingAttached", what)

    def _networks(self, policy: NetworkPolicy) -> Iterator[Condition]:
        known, multi = self._snapshot.scopes, policy.kind is PolicyKind.MULTI_NETWORK_POLICY
        missing = [
            "/".join(filter(None, entry))
            for entry in policy.networks
            if entry[1] not in known and not (multi and entry in self._definitions)
        ]
        if missing:
            yield Condition(NETWORK_NOT_FOUND, TRUE, "NoSuchNetwork", f"there is no Network {_some(missing)}")
        if missing and len(missing) == len(policy.networks):
            yield Condition(APPLIES_NOWHERE, TRUE, "NoSuchNetwork", "none of the networks that it names exists")
        elif multi and not policy.networks:
            message = f"without the annotation {POLICY_FOR} a MultiNetworkPolicy applies on no network"
            yield Condition(APPLIES_NOWHERE, TRUE, "NoPolicyFor", message)
        elif not policy.networks and known and not any(map(self._snapshot.takes_all, known)):
            message = "every Network has networkPolicies: Annotated, and it has no annotation homeport.dev/network"
            yield Condition(APPLIES_NOWHERE, TRUE, "NotAnnotated", message)

    def _port_names(self, policy: NetworkPolicy, isolated: Sequence[Endpoint]) -> Iterator[Condition]:
        """Ports are looked up at the destination: of an ingress rule at whom the policy isolates, of an egress rule at
        anybody in the same domains. Where it isolates nobody, nothing can be said."""
        asked = [
            (direction, number, (port.port, port.protocol))
            for direction in (Direction.INGRESS, Direction.EGRESS)
            if direction in policy.spec.types
            for number, rule in enumerate(policy.rules(direction))
            for port in rule.ports
            if isinstance(port.port, str)
        ]
        if not (asked and isolated):
            return
        there = {
            Direction.INGRESS: {
                (port.name, port.protocol)
                for endpoint in isolated
                for port in self._snapshot.workload(endpoint.workload).ports
            },
            Direction.EGRESS: set().union(*(self._ports[domain] for domain in {each.domain for each in isolated})),
        }
        unknown = [
            f"{direction.value.lower()}[{number}]: {name[0]}/{name[1].lower()}"
            for direction, number, name in asked
            if name not in there[direction]
        ]
        if unknown:
            message = f"nobody who could be reached by it has a port that is called so: {_some(unknown)}"
            yield Condition(PORT_NAME_UNKNOWN, TRUE, "NoSuchPort", message)


def _some(names: Sequence[object], between: str = ", ") -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{between.join(map(str, names[:NAMED]))}{more}"
