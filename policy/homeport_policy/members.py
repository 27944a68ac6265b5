"""The sets that policies look into, kept up to date endpoint by endpoint. Mutable, but pure: no I/O, no clock.

A set that comes into use is filled by the index; from then on each endpoint that changes is asked what it brings. An
address that several endpoints share stays until the last of them has gone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from homeport_api.addresses import L2Domain
from homeport_api.networkpolicy import NetworkPolicy, PolicyKind, WorkloadPeer
from homeport_api.selector import Selector
from homeport_policy.chains import L4_OF, Group, Named, Needed, set_names
from homeport_policy.index import Index
from homeport_policy.program import Content
from homeport_policy.ruleset import Key, Part
from homeport_policy.snapshot import NAMESPACE_NAME, UNKNOWN, Endpoint, EndpointKey, Workload, WorkloadKey

_EVERYTHING = Selector()
_PLAIN = {4: Key.SOURCE4, 6: Key.SOURCE6}
_WITH_PORT = {4: Key.TARGET4_PORT, 6: Key.TARGET6_PORT}
_Key = TypeVar("_Key")
_Member = TypeVar("_Member")
_Elements = frozenset[tuple[Part, ...]]
_NONE: _Elements = frozenset()


@dataclass(slots=True)
class _Membership:
    """What each endpoint brings into a set, counted."""

    what: Needed
    brought: dict[EndpointKey, _Elements] = field(default_factory=dict)
    counts: dict[tuple[Part, ...], int] = field(default_factory=dict)

    def bring(self, key: EndpointKey, elements: _Elements) -> bool:
        """True when that changed what is in the set."""
        before = self.brought.get(key, _NONE)
        if before == elements:
            return False
        changed = False
        for element in elements - before:
            changed |= element not in self.counts
            self.counts[element] = self.counts.get(element, 0) + 1
        for element in before - elements:
            self.counts[element] -= 1
            if not self.counts[element]:
                del self.counts[element]
                changed = True
        if elements:
            self.brought[key] = elements
        else:
            del self.brought[key]
        return changed


class Members:
    """Endpoints, workloads and namespaces, and the sets in use made of them."""

    def __init__(self) -> None:
        self._index = Index()
        self._endpoints: dict[EndpointKey, Endpoint] = {}
        self._own: dict[EndpointKey, _Elements] = {}
        self._workloads: dict[WorkloadKey, Workload] = {}
        self._of_workload: dict[WorkloadKey, set[EndpointKey]] = defaultdict(set)
        self._in_namespace: dict[str, set[EndpointKey]] = defaultdict(set)
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._doubted: set[str] = set()
        self._matching: dict[Selector, frozenset[str]] = {}
        self._sets: dict[str, _Membership] = {}
        self._by_domain: dict[L2Domain, set[str]] = defaultdict(set)
        self._dirty: set[EndpointKey] = set()
        self.contents: dict[str, Content] = {}

    def put_endpoint(self, endpoint: Endpoint) -> None:
        if self._endpoints.get(endpoint.key) != endpoint:
            self.drop_endpoint(endpoint.key)
            self._endpoints[endpoint.key] = endpoint
            self._own[endpoint.key] = frozenset((address,) for address in endpoint.addresses)
            self._of_workload[endpoint.workload].add(endpoint.key)
            self._enter(endpoint)
            self._dirty.add(endpoint.key)

    def drop_endpoint(self, key: EndpointKey) -> None:
        old = self._endpoints.pop(key, None)
        if old is not None:
            del self._own[key]
            _discard(self._of_workload, old.workload, key)
            self._leave(old)
            self._dirty.add(key)

    def put_workload(self, key: WorkloadKey, workload: Workload) -> None:
        if self._workloads.get(key, UNKNOWN) != workload:
            self._dirty |= self._of_workload.get(key, frozenset())
        if workload == UNKNOWN:
            self._workloads.pop(key, None)
        else:
            self._workloads[key] = workload

    def put_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """None: forgotten."""
        if self._namespaces.get(name) != labels or name in self._doubted:
            self._namespace_changed(name)
            self._doubted.discard(name)
            if labels is None:
                self._namespaces.pop(name, None)
            else:
                self._namespaces[name] = dict(labels)

    def doubt_namespace(self, name: str) -> None:
        """No selector of namespaces means it, until it is put or forgotten."""
        if name not in self._doubted:
            self._namespace_changed(name)
            self._doubted.add(name)

    def _namespace_changed(self, name: str) -> None:
        self._matching.clear()
        self._dirty |= self._in_namespace.get(name, frozenset())

    def endpoint(self, key: EndpointKey) -> Endpoint | None:
        return self._endpoints.get(key)

    def endpoints(self) -> Iterable[Endpoint]:
        return self._endpoints.values()

    def in_namespace(self, name: str) -> frozenset[EndpointKey]:
        return frozenset(self._in_namespace.get(name, ()))

    def labels(self, key: WorkloadKey) -> Mapping[str, str]:
        return self._workloads.get(key, UNKNOWN).labels

    def update(self) -> tuple[frozenset[EndpointKey], frozenset[str]]:
        """Brings index and sets up to date; the endpoints that changed since the last time, and the sets."""
        touched: set[str] = set()
        for key in self._dirty:
            endpoint = self._endpoints.get(key)
            if endpoint is None:
                self._index.remove(key)
            else:
                self._index.put(endpoint, self._workloads.get(endpoint.workload, UNKNOWN))
            for stem in self._by_domain.get(key.domain, ()):
                membership = self._sets[stem]
                elements = _NONE if endpoint is None else self._elements(membership.what, endpoint)
                if membership.bring(key, elements):
                    touched.add(stem)
        changed = frozenset(name for stem in touched for name in self._settle(stem))
        dirty, self._dirty = frozenset(self._dirty), set()
        return dirty, changed

    def keep(self, needed: Mapping[str, Needed]) -> None:
        """The sets in use are these and no others. After `update`."""
        for stem in self._sets.keys() - needed.keys():
            _discard(self._by_domain, self._sets.pop(stem).what.domain, stem)
            for _, name in set_names(stem):
                del self.contents[name]
        for stem in needed.keys() - self._sets.keys():
            self._fill(stem, needed[stem])
        self._index.forget_masks()

    def _fill(self, stem: str, what: Needed) -> None:
        """Asks the index for all of its members at once."""
        membership = self._sets[stem] = _Membership(what)
        self._by_domain[what.domain].add(stem)
        for endpoint in self._index.endpoints(what.domain, self._mask(what)):
            membership.bring(endpoint.key, self._brings(what, endpoint))
        self._settle(stem)

    def _mask(self, what: Needed) -> int:
        if isinstance(what, Named):
            return self._index.named(what.domain, what.name, what.protocol)
        found = 0
        for peer in what.peers:
            found |= self._index.selected(what.domain, self._names(what, peer), peer.workloads or _EVERYTHING)
        return found

    def _elements(self, what: Needed, endpoint: Endpoint) -> _Elements:
        """What one endpoint of its domain brings into a set: asked of the endpoint, and not of the index."""
        if isinstance(what, Named) or any(self._is_peer(what, peer, endpoint) for peer in what.peers):
            return self._brings(what, endpoint)
        return _NONE

    def _brings(self, what: Needed, endpoint: Endpoint) -> _Elements:
        """The same where the selectors mean it."""
        if isinstance(what, Named):
            return frozenset(
                (address, L4_OF[port.protocol], port.number)
                for port in self._workloads.get(endpoint.workload, UNKNOWN).ports
                if (port.name, port.protocol) == (what.name, what.protocol)
                for address in endpoint.addresses
            )
        if what.networks and not speaks_of(what.networks, what.multi, endpoint):
            return _NONE
        return self._own[endpoint.key]

    def _is_peer(self, group: Group, peer: WorkloadPeer, endpoint: Endpoint) -> bool:
        name = endpoint.workload.namespace
        inside = name == group.namespace if peer.namespaces is None else name in self._meant(peer.namespaces)
        return inside and (peer.workloads is None or peer.workloads.selects(self.labels(endpoint.workload)))

    def _names(self, group: Group, peer: WorkloadPeer) -> frozenset[str]:
        """The namespaces that a peer is in."""
        return frozenset({group.namespace}) if peer.namespaces is None else self._meant(peer.namespaces)

    def _settle(self, stem: str) -> list[str]:
        """The contents of a set's two families, made anew; those that differ."""
        membership = self._sets[stem]
        keys = _WITH_PORT if isinstance(membership.what, Named) else _PLAIN
        parts: dict[int, list[tuple[Part, ...]]] = {4: [], 6: []}
        for element in membership.counts:
            address = element[0]
            assert not isinstance(address, str | int)
            parts[address.version].append(element)
        changed = []
        for version, name in set_names(stem):
            content = Content(keys[version], frozenset(parts[version]))
            if self.contents.get(name) != content:
                self.contents[name] = content
                changed.append(name)
        return changed

    def _enter(self, endpoint: Endpoint) -> None:
        inside = self._in_namespace[endpoint.workload.namespace]
        if not inside:
            self._matching.clear()
        inside.add(endpoint.key)

    def _leave(self, endpoint: Endpoint) -> None:
        name = endpoint.workload.namespace
        _discard(self._in_namespace, name, endpoint.key)
        if name not in self._in_namespace:
            self._matching.clear()

    def _meant(self, selector: Selector) -> frozenset[str]:
        """The namespaces that a selector means, among all that have endpoints."""
        known = self._matching.get(selector)
        if known is None:
            known = self._matching[selector] = frozenset(
                name
                for name in self._in_namespace
                if name not in self._doubted and selector.selects(self._namespaces.get(name, {NAMESPACE_NAME: name}))
            )
        return known


def _discard(sets: dict[_Key, set[_Member]], key: _Key, member: _Member) -> None:
    """An empty set goes with its last member: namespaces and workloads come and go for as long as the agent lives."""
    sets[key].discard(member)
    if not sets[key]:
        del sets[key]


def speaks_of(networks: tuple[tuple[str, str], ...], multi: bool, endpoint: Endpoint) -> bool:
    """Whether one of the networks that a policy names is the endpoint's: the definition it was attached through, where
    there is one and the policy is of the kind that names those, else its Network."""
    if multi and endpoint.attached_as is not None:
        return endpoint.attached_as in networks
    return any(name == endpoint.network for _, name in networks)


def applies_on(policy: NetworkPolicy, endpoint: Endpoint, *, takes_all: bool) -> bool:
    """Whether the policy speaks of the network that the endpoint is on. `takes_all`: its Network takes policies that
    name none."""
    if policy.everywhere:
        return True
    multi = policy.kind is PolicyKind.MULTI_NETWORK_POLICY
    if not policy.networks:
        return takes_all and not multi
    return speaks_of(policy.networks, multi, endpoint)
