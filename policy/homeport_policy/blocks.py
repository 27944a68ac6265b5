"""Address blocks as ranges: what `ipBlock` with its exceptions comes to. Pure."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from homeport_api.addresses import AddressRange
from homeport_api.networkpolicy import IpBlock

_Span = tuple[int, int]


def ranges_of(blocks: Iterable[IpBlock], version: int) -> tuple[AddressRange, ...]:
    """The addresses of one family in any of the blocks, in order and apart. An exception trims its own block only."""
    spans = (span for block in blocks if block.cidr.version == version for span in _without(block))
    build = IPv4Address if version == 4 else IPv6Address
    return tuple(AddressRange(build(first), build(last)) for first, last in _merged(spans))


def _without(block: IpBlock) -> Iterator[_Span]:
    first, end = int(block.cidr.network_address), int(block.cidr.broadcast_address)
    holes = [(int(hole.network_address), int(hole.broadcast_address)) for hole in block.excepts]
    for start, last in _merged(holes):
        if start > first:
            yield first, start - 1
        first = max(first, last + 1)
    if first <= end:
        yield first, end


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged
