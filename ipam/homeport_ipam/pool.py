"""The addresses a Network may give out, and the free ones among them. Pure.

`AddressSpace` lays the pools of one family end to end as the numbers 0 to capacity - 1: ranges, less what is excluded,
less the gateway, the network and broadcast addresses (IPv4 up to /30) and the subnet-router anycast address (IPv6 up to
/126; RFC 4291 §2.6.1, RFC 6164). It holds intervals, so a /64 costs what a /30 costs.

`FreeChoice` answers "a uniformly random free number" in constant time, at any size and any fullness, the last free
number included. It is Fisher and Yates' shuffle, kept only where it differs from the identity:

    position   0 ............ taken ................................. capacity
               | taken numbers | free numbers, each at its own position |
                                 unless that position's own number is taken: then a smaller free number lives there

A number that is taken swaps places with the first free one; a free choice is any position from `taken` on. Because a
free number keeps its own position where it can, at most 2 × taken positions differ from the identity, so memory follows
what is used and nothing is ever searched.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

from homeport_api.addresses import IpAddress, IpNetwork
from homeport_api.network import Network
from homeport_api.pool import Pool

Interval = tuple[int, int]


class Randomness(Protocol):
    """What is needed of `random.Random` and `random.SystemRandom`."""

    def randrange(self, stop: int, /) -> int: ...
    def getrandbits(self, k: int, /) -> int: ...


class AddressSpace:
    """The addresses of one family that a set of pools may give, in order, each with its index."""

    __slots__ = ("_ends", "_offsets", "_starts", "capacity", "version")

    def __init__(self, version: int, intervals: Collection[Interval]) -> None:
        self.version = version
        self._starts = [first for first, _ in intervals]
        self._ends = [last for _, last in intervals]
        self._offsets = []
        self.capacity = 0
        for first, last in intervals:
            self._offsets.append(self.capacity)
            self.capacity += last - first + 1

    def address(self, index: int) -> IpAddress:
        """IndexError outside 0 to capacity - 1."""
        if not 0 <= index < self.capacity:
            raise IndexError(f"{index} of {self.capacity} addresses")
        at = bisect_right(self._offsets, index) - 1
        number = self._starts[at] + index - self._offsets[at]
        return IPv4Address(number) if self.version == 4 else IPv6Address(number)

    def index(self, address: IpAddress) -> int | None:
        """None where the address is not given out."""
        return self.index_of(int(address)) if address.version == self.version else None

    def index_of(self, number: int) -> int | None:
        """The same for the bare number of an address of this family."""
        at = bisect_right(self._starts, number) - 1
        if at < 0 or number > self._ends[at]:
            return None
        return self._offsets[at] + number - self._starts[at]

    def __contains__(self, address: IpAddress) -> bool:
        return self.index(address) is not None


class FreeChoice:
    """Which of `capacity` numbers are free. Not thread-safe."""

    __slots__ = ("_at", "_where", "capacity", "taken")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken = 0
        self._at: dict[int, int] = {}  # position → number, where they differ
        self._where: dict[int, int] = {}  # number → position, where they differ

    @property
    def free(self) -> int:
        return self.capacity - self.taken

    def is_free(self, number: int) -> bool:
        return self._where.get(number, number) >= self.taken

    def take(self, number: int) -> None:
        """Does nothing when it is taken already."""
        position = self._where.get(number, number)
        if position < self.taken:
            return
        first = self.taken
        displaced = self._at.get(first, first)
        self._place(displaced, position)
        self._place(number, first)
        self.taken += 1

    def give_back(self, number: int) -> None:
        """Does nothing when it is free already."""
        position = self._where.get(number, number)
        if position >= self.taken:
            return
        self.taken -= 1
        border = self.taken
        self._place(self._at.get(border, border), position)
        self._place(number, border)
        # Free numbers go home where their own position is free too: this is what bounds the memory.
        self._send_home(border, self._where.get(border, border))
        self._send_home(number, self._where.get(number, number))

    def choose(self, random: Randomness, avoid: Collection[int] = ()) -> int | None:
        """A free number that is not in `avoid`, uniformly where `avoid` is empty; None when there is none."""
        if self.taken >= self.capacity:
            return None
        start = random.randrange(self.free)
        for step in range(min(self.free, len(avoid) + 1)):
            position = self.taken + (start + step) % self.free
            number = self._at.get(position, position)
            if number not in avoid:
                return number
        return None

    def _send_home(self, number: int, position: int) -> None:
        """Puts a free number at the position that is its own, if that one is among the free."""
        if number >= self.taken and position >= self.taken and position != number:
            guest = self._at.get(number, number)
            self._place(guest, position)
            self._place(number, number)

    def _place(self, number: int, position: int) -> None:
        if number == position:
            self._at.pop(position, None)
            self._where.pop(number, None)
        else:
            self._at[position] = number
            self._where[number] = position


def pools_of(network: Network, version: int) -> tuple[Pool, ...]:
    return tuple(pool for pool in network.spec.ipam.pools if pool.cidr.version == version)


def gateway_of(network: Network, version: int) -> IpAddress | None:
    return network.spec.gateway4 if version == 4 else network.spec.gateway6


def space_of(network: Network, version: int) -> AddressSpace:
    """Everything the Network may choose from in one family; of capacity 0 when it has no pools there."""
    return _space(network, version, pools_of(network, version))


def space_of_pool(network: Network, pool: Pool) -> AddressSpace:
    """What one of the Network's pools adds to that."""
    return _space(network, pool.cidr.version, (pool,))


def _space(network: Network, version: int, pools: Collection[Pool]) -> AddressSpace:
    wanted: list[Interval] = []
    barred: list[Interval] = []
    for pool in pools:
        whole = (int(pool.cidr.network_address), int(pool.cidr.broadcast_address))
        wanted.extend([(int(r.first), int(r.last)) for r in pool.ranges] or [whole])
        barred.extend((int(r.first), int(r.last)) for r in pool.exclude)
        barred.extend((int(a), int(a)) for a in never_given(pool.cidr))
    gateway = gateway_of(network, version)
    if gateway is not None:
        barred.append((int(gateway), int(gateway)))
    return AddressSpace(version, list(_subtract(_union(wanted), _union(barred))))


def never_given(cidr: IpNetwork) -> tuple[IpAddress, ...]:
    """Network and broadcast address, or the subnet-router anycast address, where the prefix has them."""
    if cidr.version == 4:
        return (cidr.network_address, cidr.broadcast_address) if cidr.prefixlen <= 30 else ()
    return (cidr.network_address,) if cidr.prefixlen <= 126 else ()


def prefix_length(network: Network, address: IpAddress) -> int:
    """For an address written without one: its pool's, else the Network's, else that of the single address."""
    for pool in network.spec.ipam.pools:
        if address in pool.cidr:
            return pool.cidr.prefixlen
    l2 = network.spec.l2
    own = l2.prefix_length4 if address.version == 4 else l2.prefix_length6
    return own if own is not None else address.max_prefixlen


def why_not_given(network: Network, space: AddressSpace, address: IpAddress, prefix: IpNetwork) -> str | None:
    """Why a user may not ask for this address, or None when it is fine. `prefix` is the one the address would have: it
    decides where the Network has neither pools of that family nor a prefix of its own."""
    if address == gateway_of(network, address.version):
        return "is the Network's gateway"
    pools = pools_of(network, address.version)
    subnets = [pool.cidr for pool in pools] or [own_prefix(network, address.version) or prefix]
    for subnet in subnets:
        if address in never_given(subnet):
            kind = "subnet-router anycast" if address.version == 6 else "network or broadcast"
            return f"is the {kind} address of {subnet}"
    if not pools:
        return None if address in subnets[0] else f"lies outside the Network's prefix {subnets[0]}"
    if address in space:
        return None
    if any(address in barred for pool in pools for barred in pool.exclude):
        return "is excluded from the Network's pool"
    ranges = [str(r) for pool in pools for r in (pool.ranges or (pool.cidr,))]
    return f"lies outside the Network's pools ({', '.join(ranges)})"


def own_prefix(network: Network, version: int) -> IpNetwork | None:
    """The Network's own prefix without pools: that of its gateway, when both gateway and length are known. A link-local
    gateway says nothing of it."""
    l2 = network.spec.l2
    length = l2.prefix_length4 if version == 4 else l2.prefix_length6
    gateway = gateway_of(network, version)
    if length is None or gateway is None or gateway.is_link_local:
        return None
    shift = gateway.max_prefixlen - length
    first = int(gateway) >> shift << shift
    return IPv4Network((first, length)) if version == 4 else IPv6Network((first, length))


def _union(intervals: list[Interval]) -> list[Interval]:
    """Sorted, disjoint, and joined where they touch."""
    merged: list[Interval] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _subtract(wanted: list[Interval], barred: list[Interval]) -> Iterator[Interval]:
    """`wanted` less `barred`, both as `_union` leaves them."""
    at = 0
    for start, last in wanted:
        first = start
        while at < len(barred) and barred[at][1] < first:
            at += 1
        look = at
        while look < len(barred) and barred[look][0] <= last:
            if barred[look][0] > first:
                yield first, barred[look][0] - 1
            first = max(first, barred[look][1] + 1)
            look += 1
        if first <= last:
            yield first, last
