"""From a snapshot to a program, at once or change by change. Mutable, but pure: no I/O, no clock.

    put and drop ──► what is dirty ──► program()
                                         │  1  sets            who is in each set that is in use (`members`)
                                         │  2  selections      which policies isolate which of this node's guests
                                         │  3  chains          of the policies and domains that some port needs
                                         ▼  4  maps            port to chain
                                       Program, sharing every part that did not change with the one before

A program depends on what is known and never on the order in which it came: `compile_snapshot` is the same as any
sequence of changes that leads there. Only guests of this node are selected, and only sets that their policies need are
kept. Where no selection changed, 3 and 4 are not done at all.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from homeport_api.addresses import L2Domain
from homeport_api.network import PolicyScope
from homeport_api.networkpolicy import Direction, NetworkPolicy, PolicyKey
from homeport_policy.chains import Needed, PolicyChain, policy_chain, port_chain, set_names, trunk_chain
from homeport_policy.members import Members, applies_on
from homeport_policy.program import Counted, Program
from homeport_policy.ruleset import Chain
from homeport_policy.snapshot import Endpoint, EndpointKey, Snapshot, Workload, WorkloadKey

T = TypeVar("T")
_Selected = tuple[PolicyKey, ...]
_ChainKey = tuple[PolicyKey, Direction, L2Domain]


def compile_snapshot(snapshot: Snapshot) -> Program:
    """The program of a whole snapshot."""
    return compiler_of(snapshot).program()


def compiler_of(snapshot: Snapshot) -> "Compiler":
    """One that was told all of a snapshot."""
    compiler = Compiler()
    for name, labels in snapshot.namespaces.items():
        compiler.put_namespace(name, labels)
    for name in snapshot.doubted_namespaces:
        compiler.doubt_namespace(name)
    for network, scope in snapshot.scopes.items():
        compiler.put_scope(network, scope)
    for domain, zone in snapshot.zones.items():
        compiler.put_zone(domain, zone)
    for key, workload in snapshot.workloads.items():
        compiler.put_workload(key, workload)
    for endpoint in snapshot.endpoints.values():
        if endpoint.workload not in snapshot.doubted_workloads:
            compiler.put_endpoint(endpoint)
        elif endpoint.port is not None:
            compiler.put_unknown(endpoint.port, endpoint.workload.namespace)
    for policy in snapshot.policies.values():
        compiler.put_policy(policy)
    return compiler


@dataclass(frozen=True, slots=True)
class _Selection:
    """A guest of this node, and the policies that isolate it, in the order of their keys."""

    port: str
    trunk: bool
    policies: Mapping[Direction, _Selected]


class Compiler:
    """Every `put_*` may be repeated; a `drop_*` of what is not there does nothing."""

    def __init__(self) -> None:
        self._members = Members()
        self._scopes: dict[str, PolicyScope] = {}
        self._zones: dict[L2Domain, int] = {}
        self._policies: dict[str, dict[PolicyKey, NetworkPolicy]] = defaultdict(dict)
        self._chains: dict[_ChainKey, PolicyChain] = {}
        self._selections: dict[EndpointKey, _Selection] = {}
        self._reselect: set[EndpointKey] = set()
        self._unknown: dict[str, str] = {}
        self._stale = False
        self._program = Program()

    def put_endpoint(self, endpoint: Endpoint) -> None:
        self._members.put_endpoint(endpoint)

    def drop_endpoint(self, key: EndpointKey) -> None:
        self._members.drop_endpoint(key)

    def put_workload(self, key: WorkloadKey, workload: Workload) -> None:
        self._members.put_workload(key, workload)

    def put_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        self._members.put_namespace(name, labels)

    def drop_namespace(self, name: str) -> None:
        self._members.put_namespace(name, None)

    def doubt_namespace(self, name: str) -> None:
        """Its labels cannot be read: no namespaceSelector means it, until it is put or dropped."""
        self._members.doubt_namespace(name)

    def put_scope(self, network: str, scope: PolicyScope) -> None:
        if self._takes_all(network) != (scope is PolicyScope.ALL):
            self._reselect |= {each.key for each in self._members.endpoints() if each.network == network}
        self._scopes[network] = scope

    def put_zone(self, domain: L2Domain, zone: int) -> None:
        self._stale |= self._zones.get(domain) != zone
        self._zones[domain] = zone

    def put_policy(self, policy: NetworkPolicy) -> None:
        if self._in_namespace(policy.meta.namespace).get(policy.key) != policy:
            self._policies[policy.meta.namespace][policy.key] = policy
            self._policy_changed(policy.key)

    def drop_policy(self, key: PolicyKey) -> None:
        if key in self._in_namespace(key.namespace):
            del self._policies[key.namespace][key]
            if not self._policies[key.namespace]:
                del self._policies[key.namespace]
            self._policy_changed(key)

    def put_unknown(self, port: str, namespace: str | None) -> None:
        """A port of this node of which nothing is known but its namespace (None: it is known by now, or gone). While
        there is a policy in that namespace, nothing passes there: it may be meant."""
        if self._unknown.get(port) != namespace:
            self._stale = True
            if namespace is None:
                del self._unknown[port]
            else:
                self._unknown[port] = namespace

    def program(self) -> Program:
        """What all that was said comes to."""
        dirty, changed = self._members.update()
        for key in dirty | self._reselect:
            self._stale |= self._select(key)
        self._reselect.clear()
        if self._stale:
            self._program = self._assembled()
            self._stale = False
        elif changed:
            old, contents = self._program, self._members.contents
            sets = {**old.sets, **{name: contents[name] for name in changed}}
            self._program = Program(old.chains, sets, old.counters, old.egress, old.ingress)
        return self._program

    def _policy_changed(self, key: PolicyKey) -> None:
        for each in [known for known in self._chains if known[0] == key]:
            del self._chains[each]
            self._stale = True
        self._reselect |= self._members.in_namespace(key.namespace)
        self._stale |= key.namespace in self._unknown.values()

    def _in_namespace(self, name: str) -> Mapping[PolicyKey, NetworkPolicy]:
        return self._policies.get(name, {})

    def _takes_all(self, network: str) -> bool:
        return self._scopes.get(network, PolicyScope.ALL) is PolicyScope.ALL

    def _select(self, key: EndpointKey) -> bool:
        """Which policies isolate a guest of this node; True when that, or its port, is not what it was."""
        before = self._selections.pop(key, None)
        endpoint = self._members.endpoint(key)
        if endpoint is None or endpoint.port is None:
            return before is not None
        labels = self._members.labels(endpoint.workload)
        takes_all = self._takes_all(endpoint.network)
        policies = [
            policy
            for policy in self._in_namespace(endpoint.workload.namespace).values()
            if applies_on(policy, endpoint, takes_all=takes_all) and policy.spec.selector.selects(labels)
        ]
        found = self._selections[key] = _Selection(
            endpoint.port,
            endpoint.trunk,
            {
                direction: tuple(sorted(policy.key for policy in policies if direction in policy.spec.types))
                for direction in Direction
            },
        )
        return found != before

    def _assembled(self) -> Program:
        assembly = _Assembly(self._policies, self._chains)
        maps: dict[Direction, dict[str, str]] = {direction: {} for direction in Direction}
        trunks: dict[str, list[EndpointKey]] = defaultdict(list)
        for key, selection in self._selections.items():
            if selection.trunk:
                trunks[selection.port].append(key)
                continue
            for direction, policies in selection.policies.items():
                if policies:
                    maps[direction][selection.port] = assembly.lead(key.domain, direction, policies)
        for port, keys in trunks.items():
            for direction in Direction:
                isolated = [(key, each) for key in sorted(keys) if (each := self._selections[key].policies[direction])]
                if isolated:
                    zoned = [
                        (self._zones[key.domain], key, each) for key, each in isolated if key.domain in self._zones
                    ]
                    leads = [(zone, assembly.lead(key.domain, direction, each)) for zone, key, each in zoned]
                    maps[direction][port] = assembly.trunk_lead(direction, leads)
        for port, namespace in self._unknown.items():
            for direction in Direction:
                if self._in_namespace(namespace):
                    maps[direction][port] = assembly.trunk_lead(direction, [])
        self._chains = assembly.used
        self._members.keep(assembly.needed)
        contents, old = self._members.contents, self._program
        return Program(
            _same(old.chains, assembly.chains),
            {name: contents[name] for stem in assembly.needed for _, name in set_names(stem)},
            _same(old.counters, assembly.counters),
            _same(old.egress, maps[Direction.EGRESS]),
            _same(old.ingress, maps[Direction.INGRESS]),
        )


@dataclass(slots=True)
class _Assembly:
    """The chains that ports lead to, each made once. `made` are those of policies that are known from before."""

    policies: Mapping[str, Mapping[PolicyKey, NetworkPolicy]]
    made: Mapping[_ChainKey, PolicyChain]
    used: dict[_ChainKey, PolicyChain] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    counters: dict[str, Counted] = field(default_factory=dict)
    needed: dict[str, Needed] = field(default_factory=dict)
    leads: dict[tuple[L2Domain, Direction, _Selected], str] = field(default_factory=dict)

    def lead(self, domain: L2Domain, direction: Direction, policies: _Selected) -> str:
        """The chain of a port whose guest these policies isolate."""
        known = self.leads.get((domain, direction, policies))
        if known is None:
            asked = tuple((policy, self._policy_chain((policy, direction, domain))) for policy in policies)
            known = self.leads[domain, direction, policies] = self._add(*port_chain(direction, asked))
        return known

    def trunk_lead(self, direction: Direction, leads: list[tuple[int, str]]) -> str:
        return self._add(*trunk_chain(direction, leads))

    def _policy_chain(self, key: _ChainKey) -> str:
        known = self.used.get(key)
        if known is None:
            policy, direction, domain = key
            known = self.made.get(key) or policy_chain(self.policies[policy.namespace][policy], direction, domain)
            self.used[key] = known
            self.needed |= known.needed
            self._add(known.chain, known.counters)
        return known.chain.name

    def _add(self, chain: Chain, counters: Mapping[str, Counted]) -> str:
        self.chains[chain.name] = chain
        self.counters |= counters
        return chain.name


def _same(old: Mapping[str, T], new: Mapping[str, T]) -> Mapping[str, T]:
    """The old one where nothing changed, so that it is found to be the same at a glance."""
    return old if old == new else new
