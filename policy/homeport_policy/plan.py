"""Which flows are allowed before a change and denied after it, or the other way round. Pure.

    ends       each address of each endpoint that is there before and after, and outside addresses: one for each
               combination of ipBlocks that an address can be in
    services   each span of ports that policies tell apart, one port that none of them and no workload names, and ICMP

Two ends that no policy can tell apart are of one kind, before and after; what holds for one holds for all of its kind.
So the oracle is asked about kinds, which are few, and not about ends. The first packets of connections are compared:
what a policy stops is ended, and replies follow.

The node's own end (`attach --host`) is judged as if the guests were on other nodes, where it is nothing special.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from homeport_api.addresses import IpNetwork, L2Domain
from homeport_policy.kinds import Kind, Numbers, View
from homeport_policy.probes import STRANGERS, End, Service, blocks_of, samples, services_of
from homeport_policy.snapshot import EndpointKey, Snapshot


@dataclass(frozen=True, slots=True)
class Shift:
    """Flows from each of `senders` to each of `receivers` by each of `services` that are `allowed` afterwards and were
    not before, or the other way round. From an Interface to itself there is none."""

    allowed: bool
    senders: tuple[End, ...]
    receivers: tuple[End, ...]
    services: tuple[Service, ...]

    def pairs(self) -> Iterator[tuple[End, End]]:
        return (
            (sender, receiver) for sender in self.senders for receiver in self.receivers if _is_pair(sender, receiver)
        )

    @property
    def count(self) -> int:
        """As many flows, without walking through them."""
        pairs = len(self.senders) * len(self.receivers)
        pairs -= _met((each.address for each in self.senders), (each.address for each in self.receivers))
        pairs -= _met((each.endpoint for each in self.senders), (each.endpoint for each in self.receivers))
        guests = ((each for each in ends if each.endpoint) for ends in (self.senders, self.receivers))
        return (pairs + _met(*guests)) * len(self.services)


@dataclass(frozen=True, slots=True)
class Plan:
    """`isolated` are those that a policy isolates afterwards, in a direction in which none did before; `released`
    those that none isolates any more."""

    shifts: tuple[Shift, ...] = ()
    isolated: tuple[EndpointKey, ...] = ()
    released: tuple[EndpointKey, ...] = ()


def plan_change(before: Snapshot, after: Snapshot) -> Plan:
    """Everything that differs; in an order that is the same each time."""
    blocks = frozenset(blocks_of(before)) | frozenset(blocks_of(after))
    numbers = Numbers()
    views = View(before, numbers), View(after, numbers)
    services = services_of(before, after)
    shifts: list[Shift] = []
    for domain in sorted({key.domain for key in before.endpoints.keys() & after.endpoints.keys()}):
        shifts += _Comparison(domain, views, services, blocks).shifts()
    isolated, was = views[1].isolated(), views[0].isolated()
    return Plan(
        tuple(shifts),
        tuple(sorted(key for key, directions in isolated.items() if directions - was.get(key, frozenset()))),
        tuple(sorted(key for key in was if key in after.endpoints and key not in isolated)),
    )


_Kinds = tuple[int, bool, Kind, Kind]


class _Comparison:
    """One L2 domain, before and after."""

    def __init__(
        self,
        domain: L2Domain,
        views: tuple[View, View],
        services: tuple[Service, ...],
        blocks: frozenset[IpNetwork],
    ) -> None:
        self._domain = domain
        self._views = views
        self._services = services
        self._common = views[0].peers & views[1].peers
        self._kinds: dict[_Kinds, list[End]] = defaultdict(list)
        for end in self._guests():
            self._kinds[self._kind(end)].append(end)
        for end in self._strangers(blocks):
            # One stands for all of its kind.
            self._kinds.setdefault(self._kind(end), [end])

    def shifts(self) -> Iterator[Shift]:
        """Merged, so that each kind of flow is told once."""
        found: dict[tuple[bool, tuple[Service, ...], tuple[End, ...]], list[End]] = defaultdict(list)
        for sending, receiving in self._touched():
            senders, receivers = self._kinds[sending], self._kinds[receiving]
            pair = next(((a, b) for a in senders for b in receivers if _is_pair(a, b)), None)
            if pair is not None:
                for allowed, services in self._changed(pair, sending[2:], receiving[2:]).items():
                    found[allowed, services, tuple(receivers)] += senders
        merged: dict[tuple[bool, tuple[Service, ...], tuple[End, ...]], list[End]] = defaultdict(list)
        for (allowed, services, to), gathered in found.items():
            merged[allowed, services, _sorted(gathered)] += to
        shifts = [
            Shift(allowed, origins, _sorted(gathered), services)
            for (allowed, services, origins), gathered in merged.items()
        ]
        return iter(sorted(shifts, key=_order))

    def _touched(self) -> Iterator[tuple[_Kinds, _Kinds]]:
        """Pairs of which one end at least is not what it was. A peer that only one snapshot speaks of matters to those
        alone whom a policy isolates that is new, or gone."""
        touched = {each for each in self._kinds if self._is_touched(*each[2:])}
        for sending in self._kinds:
            for receiving in self._kinds if sending in touched else touched:
                if sending[0] == receiving[0] and (sending[1] or receiving[1]):
                    yield sending, receiving

    def _is_touched(self, before: Kind, after: Kind) -> bool:
        return (before.out, before.into, before.named) != (
            after.out,
            after.into,
            after.named,
        ) or before.peers & self._common != after.peers & self._common

    def _changed(
        self, pair: tuple[End, End], sending: tuple[Kind, Kind], receiving: tuple[Kind, Kind]
    ) -> dict[bool, tuple[Service, ...]]:
        """By what is so afterwards."""
        changed: dict[bool, list[Service]] = defaultdict(list)
        for service in self._services:
            was, is_now = (
                view.allows((pair[0], own), (pair[1], other), service)
                for view, own, other in zip(self._views, sending, receiving, strict=True)
            )
            if was != is_now:
                changed[is_now].append(service)
        return {allowed: tuple(services) for allowed, services in changed.items()}

    def _kind(self, end: End) -> _Kinds:
        before, after = self._views
        return end.address.version, end.endpoint is not None, before.kind(end), after.kind(end)

    def _guests(self) -> Iterator[End]:
        before, after = self._views
        for endpoint in before.endpoints_in(self._domain):
            also = after.endpoint(endpoint.key)
            for address in sorted(endpoint.addresses & (also.addresses if also else frozenset()), key=int):
                yield End(self._domain, address, endpoint.key)

    def _strangers(self, blocks: Iterable[IpNetwork]) -> Iterator[End]:
        for address in (*STRANGERS[4], *STRANGERS[6], *samples(blocks)):
            if not any(view.owned(self._domain, address) for view in self._views):
                yield End(self._domain, address)


def _is_pair(sender: End, receiver: End) -> bool:
    """Whether there can be a flow between them over a wire."""
    if sender.address == receiver.address or sender.address.version != receiver.address.version:
        return False
    return sender.endpoint is None or sender.endpoint != receiver.endpoint


def _met(some: Iterable[Hashable], others: Iterable[Hashable]) -> int:
    """Pairs of the same; what is outside is not one endpoint."""
    counts = Counter(others)
    return sum(counts[each] for each in some if each is not None)


def _sorted(ends: Iterable[End]) -> tuple[End, ...]:
    return tuple(sorted(ends, key=End.order))


def _order(shift: Shift) -> tuple[object, ...]:
    ends = [tuple(each.order() for each in ends) for ends in (shift.receivers, shift.senders)]
    return (shift.allowed, *ends, tuple(map(str, shift.services)))
