"""Which endpoints a selector means, without holding each against it. Mutable, but pure: no I/O, no clock.

    endpoint ──► slot, a small number of its own in its L2 domain
    postings     who has this label, this key, this namespace, this named port: sets of slots
    mask         the same as one integer, a bit for each slot: what is asked for is made into one when it is first asked

    matchLabels, In   a & (b | c)          Exists         a & k
    NotIn             a & ~(b | c)         DoesNotExist   a & ~k

So each requirement costs some machine words for the whole domain, whether it means one endpoint or all but one, and
only what is found is looked at one by one. The order of insertion never matters.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import assert_never

from homeport_api.addresses import L2Domain
from homeport_api.selector import Operator, Requirement, Selector
from homeport_api.workload import Protocol
from homeport_policy.snapshot import Endpoint, EndpointKey, Workload

_Posting = tuple[str, ...]
_BITS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


class Index:
    """Endpoints with their workloads, by domain."""

    def __init__(self) -> None:
        self._domains: dict[L2Domain, _Domain] = defaultdict(_Domain)

    def put(self, endpoint: Endpoint, workload: Workload) -> None:
        """Adds an endpoint, or replaces the one of its key."""
        self._domains[endpoint.domain].put(endpoint, workload)

    def remove(self, key: EndpointKey) -> None:
        """Nothing happens when it is not there."""
        domain = self._domains.get(key.domain)
        if domain is not None and domain.remove(key):
            del self._domains[key.domain]

    def selected(self, domain: L2Domain, namespaces: frozenset[str], selector: Selector) -> int:
        """The mask of the endpoints in these namespaces that the selector means. Masks of one domain may be put
        together with `|`, and are good until something is put or removed there."""
        inside = self._domains.get(domain)
        return 0 if inside is None else inside.selected(namespaces, selector)

    def named(self, domain: L2Domain, name: str, protocol: Protocol) -> int:
        """The mask of those that have a port of this name."""
        inside = self._domains.get(domain)
        return 0 if inside is None else inside.mask(("port", name, protocol.value))

    def endpoints(self, domain: L2Domain, mask: int) -> Iterator[Endpoint]:
        """Those of a mask."""
        inside = self._domains.get(domain)
        return iter(()) if inside is None else inside.endpoints(mask)

    def find(self, domain: L2Domain, namespaces: Iterable[str], selector: Selector) -> Iterator[Endpoint]:
        """The endpoints of a domain that the selector means, in some of its namespaces."""
        return self.endpoints(domain, self.selected(domain, frozenset(namespaces), selector))

    def forget_masks(self) -> None:
        """They take memory, and are made again when they are asked for."""
        for domain in self._domains.values():
            domain.masks.clear()
            domain.unions.clear()


class _Domain:
    """One L2 domain. A slot that is free is taken again, so masks are no longer than there ever were endpoints."""

    __slots__ = ("_free", "_known", "_postings", "_slots", "masks", "unions")

    def __init__(self) -> None:
        self._slots: list[tuple[Endpoint, Workload] | None] = []
        self._free: list[int] = []
        self._known: dict[EndpointKey, int] = {}
        self._postings: dict[_Posting, set[int]] = {}
        self.masks: dict[_Posting, int] = {}
        self.unions: dict[frozenset[str], int] = {}

    def put(self, endpoint: Endpoint, workload: Workload) -> None:
        slot = self._known.get(endpoint.key)
        if slot is None:
            slot = self._known[endpoint.key] = self._free.pop() if self._free else len(self._slots)
            if slot == len(self._slots):
                self._slots.append(None)
        after = set(_postings(endpoint, workload))
        known = self._slots[slot]
        if known is not None:
            before = set(_postings(*known))
            self._discard(slot, before - after)
            after -= before
        self._slots[slot] = endpoint, workload
        for posting in after:
            slots = self._postings.get(posting)
            if slots is None:
                self._postings[posting] = {slot}
            else:
                slots.add(slot)
        self._forget(after)

    def remove(self, key: EndpointKey) -> bool:
        """True when nobody is left."""
        slot = self._known.pop(key, None)
        if slot is not None and (known := self._slots[slot]) is not None:
            self._discard(slot, set(_postings(*known)))
            self._slots[slot] = None
            self._free.append(slot)
        return not self._known

    def selected(self, namespaces: frozenset[str], selector: Selector) -> int:
        found = self._inside(namespaces)
        for key, value in selector.labels:
            found &= self.mask(("label", key, value))
        for requirement in selector.requirements:
            if not found:
                break
            found = self._narrowed(found, requirement)
        return found

    def endpoints(self, mask: int) -> Iterator[Endpoint]:
        for at, byte in enumerate(mask.to_bytes((mask.bit_length() + 7) // 8, "little")):
            for bit in _BITS[byte]:
                known = self._slots[8 * at + bit]
                assert known is not None  # a mask is good until something changes
                yield known[0]

    def mask(self, posting: _Posting) -> int:
        known = self.masks.get(posting)
        if known is None:
            known = self.masks[posting] = _mask(self._postings.get(posting, ()), len(self._slots))
        return known

    def _inside(self, namespaces: frozenset[str]) -> int:
        known = self.unions.get(namespaces)
        if known is None:
            known = self.unions[namespaces] = self._any(("namespace", name) for name in namespaces)
        return known

    def _narrowed(self, found: int, requirement: Requirement) -> int:
        key = requirement.key
        match requirement.operator:
            case Operator.IN:
                return found & self._any(("label", key, value) for value in requirement.values)
            case Operator.NOT_IN:
                return found & ~self._any(("label", key, value) for value in requirement.values)
            case Operator.EXISTS:
                return found & self.mask(("key", key))
            case Operator.DOES_NOT_EXIST:
                return found & ~self.mask(("key", key))
            case _ as never:
                assert_never(never)

    def _any(self, postings: Iterable[_Posting]) -> int:
        found = 0
        for posting in postings:
            if posting in self._postings:
                found |= self.mask(posting)
        return found

    def _discard(self, slot: int, postings: Iterable[_Posting]) -> None:
        for posting in postings:
            slots = self._postings[posting]
            slots.discard(slot)
            if not slots:
                del self._postings[posting]
        self._forget(postings)

    def _forget(self, changed: Iterable[_Posting]) -> None:
        """What was asked for is not true any more. Mostly there is nothing."""
        if self.masks:
            for posting in changed:
                self.masks.pop(posting, None)
        self.unions.clear()


def _mask(slots: Iterable[int], size: int) -> int:
    bits = bytearray(size // 8 + 1)
    for slot in slots:
        bits[slot >> 3] |= 1 << (slot & 7)
    return int.from_bytes(bits, "little")


def _postings(endpoint: Endpoint, workload: Workload) -> Iterator[_Posting]:
    yield "namespace", endpoint.workload.namespace
    for key, value in workload.labels.items():
        yield "key", key
        yield "label", key, value
    for port in workload.ports:
        yield "port", port.name, port.protocol.value
