"""What a plan asks about: ends, and what one may send to another. One stands for all that policies cannot tell apart.
Pure.

    addresses   outside: blocks lie within one another or apart, so where one begins or has ended is in each combination
    ports       between two numbers at which something begins or ends, all are alike
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from homeport_api.addresses import IpAddress, IpNetwork, L2Domain
from homeport_api.networkpolicy import IpBlock
from homeport_api.workload import Protocol
from homeport_policy.snapshot import EndpointKey, Snapshot

LAST_PORT = 65535
STRANGERS: Mapping[int, tuple[IpAddress, ...]] = {
    4: (ip_address("198.51.100.1"), ip_address("203.0.113.1"), ip_address("192.0.2.1")),
    6: (ip_address("2001:db8:ffff::1"), ip_address("2001:db8:fffe::1")),
}
"""Documentation addresses (RFC 5737, RFC 3849), which stand for hosts that no ipBlock speaks of."""


@dataclass(frozen=True, slots=True)
class End:
    """An endpoint with one of its addresses, or (`endpoint` None) an address outside that stands for all that are of
    its kind."""

    domain: L2Domain
    address: IpAddress
    endpoint: EndpointKey | None = None

    def order(self) -> tuple[str, bool, str, int]:
        return self.domain, self.endpoint is None, str(self.endpoint), int(self.address)


@dataclass(frozen=True, slots=True)
class Service:
    """Ports of a protocol that policies do not tell apart, `first` to `last`; without them ICMP, and all that has no
    ports. `rest`: all ports that nobody names, of which `first` is one."""

    protocol: Protocol | None = None
    first: int | None = None
    last: int | None = None
    rest: bool = False

    def __str__(self) -> str:
        if self.protocol is None:
            return "ICMP"
        word = self.protocol.lower()
        if self.rest:
            return f"other {word} ports"
        return f"{self.first}/{word}" if self.first == self.last else f"{self.first}-{self.last}/{word}"


def samples(blocks: Iterable[IpNetwork]) -> Iterator[IpAddress]:
    """Blocks lie within one another or apart, so each combination of them begins at one's first address, or behind
    one's last. A few more of each, for those that guests have."""
    for block in sorted(blocks, key=lambda each: (each.version, int(each.network_address), each.prefixlen)):
        build = IPv4Address if block.version == 4 else IPv6Address
        first, last, highest = int(block.network_address), int(block.broadcast_address), 2**block.max_prefixlen - 1
        starts = (first + 1, first, *range(first + 2, first + 17), last, last - 1, *range(last + 1, last + 17))
        yield from (build(each) for each in starts if 0 <= each <= highest)


def blocks_of(snapshot: Snapshot) -> Iterator[IpNetwork]:
    for policy in snapshot.policies.values():
        for direction in policy.spec.types:
            for rule in policy.rules(direction):
                for peer in rule.peers:
                    if isinstance(peer, IpBlock):
                        yield from (peer.cidr, *peer.excepts)


def services_of(*snapshots: Snapshot) -> tuple[Service, ...]:
    """ICMP, and for each protocol the spans between the numbers at which something begins or ends."""
    spans: dict[Protocol, set[tuple[int, int]]] = {protocol: set() for protocol in Protocol}
    for snapshot in snapshots:
        for policy in snapshot.policies.values():
            for direction in policy.spec.types:
                for port in (port for rule in policy.rules(direction) for port in rule.ports):
                    if isinstance(port.port, int):
                        spans[port.protocol].add((port.port, port.end or port.port))
        for workload in snapshot.workloads.values():
            for named in workload.ports:
                spans[named.protocol].add((named.number, named.number))
    return (Service(), *(each for protocol, known in spans.items() for each in _atoms(protocol, known)))


def _atoms(protocol: Protocol, spans: set[tuple[int, int]]) -> Iterator[Service]:
    """The last of them stands for all that no span has."""
    starts = sorted({0, *(first for first, _ in spans), *(last + 1 for _, last in spans)})
    rest: int | None = None
    for first, following in zip(starts, [*starts[1:], LAST_PORT + 1], strict=True):
        if first > LAST_PORT:
            continue
        if any(start <= first <= end for start, end in spans):
            yield Service(protocol, first, following - 1)
        else:
            rest = following - 1
    if rest is not None:
        yield Service(protocol, rest, rest, rest=True)
