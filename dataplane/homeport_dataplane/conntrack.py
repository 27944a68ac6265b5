"""The connections that the kernel tracks in one namespace: which there are, how many, and ending one.

It knows no policy: who decides which flows must end asks `flows` and calls `delete`. Bridged connections are here as
well where the kernel tracks them (`features.probe().bridge_conntrack`), apart by zone. Reference: the kernel's
`nf_conntrack_netlink.c`, and conntrack(8).
"""

import errno
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, AF_UNSPEC

from homeport_api.addresses import IpAddress
from homeport_api.errors import Unavailable
from homeport_dataplane.errors import KernelRefused
from homeport_dataplane.netlink import (
    DUMP_TRIES,
    NETFILTER,
    DumpInterrupted,
    Request,
    as_be16,
    as_be32,
    as_u8,
    attribute,
    attribute_map,
    be16,
    nest,
    netfilter_header,
    u32,
)
from homeport_dataplane.netns import Namespace

_SUBSYSTEM = 1 << 8
_GET, _DELETE, _GET_STATS = _SUBSYSTEM | 1, _SUBSYSTEM | 2, _SUBSYSTEM | 5

_TUPLE_ORIG, _MARK, _ID, _ZONE, _FILTER = 1, 8, 12, 18, 25
_TUPLE_IP, _TUPLE_PROTO, _TUPLE_ZONE = 1, 2, 3
_IP4_SOURCE, _IP4_TARGET, _IP6_SOURCE, _IP6_TARGET = 1, 2, 3, 4
_NUMBER, _SOURCE_PORT, _TARGET_PORT = 1, 2, 3
_ICMP4_ID, _ICMP4_TYPE, _ICMP6_ID, _ICMP6_TYPE = 4, 5, 7, 8
_FILTER_ORIG_FLAGS, _BY_SOURCE, _BY_TARGET = 1, 1 << 0, 1 << 1
_STATS_ENTRIES = 1


def limit(namespace: Namespace) -> int | None:
    """How many connections the kernel tracks there at most; None where it says nothing, or sets no limit. Each
    namespace has that many of its own."""
    return int(namespace.read_sysctl("netfilter/nf_conntrack_max") or 0) or None


@dataclass(frozen=True, slots=True)
class Flow:
    """One connection as its first packet was: who began it is `source`. `family` is the socket module's. Ports are None
    where the protocol has none; `icmp_type` and `icmp_id` are ICMP's and ICMPv6's. `mark` is what rules
    gave it. `original` and `id` are the kernel's own words, by which it is deleted."""

    family: int
    protocol: int
    source: IpAddress
    target: IpAddress
    source_port: int | None
    target_port: int | None
    zone: int
    icmp_type: int | None = None
    icmp_id: int | None = None
    mark: int = 0
    original: bytes = field(default=b"", repr=False)
    id: bytes = field(default=b"", repr=False)


class Conntrack:
    """One namespace's. Safe for many threads: each call has a socket to itself."""

    def __init__(self, namespace: Namespace) -> None:
        """Raises Unavailable where the kernel tracks no connections, or has no way to ask it. Loads the modules."""
        self._namespace = namespace
        try:
            self.count()
        except (KernelRefused, OSError) as error:
            # EPROTONOSUPPORT from socket(2) without netfilter, EINVAL where no such subsystem can be loaded.
            raise Unavailable(f"{namespace.label}: this kernel does not tell its connections ({error})") from error

    def count(self) -> int:
        """All entries of the namespace, in every zone. The kernel keeps the number, so asking costs nothing."""
        request = Request("counting connections", _GET_STATS, netfilter_header(AF_UNSPEC))
        with self._namespace.netlink(NETFILTER) as socket:
            answers = socket.request(request)
        return as_be32(attribute_map(answers[0].body, 4).get(_STATS_ENTRIES))

    def flows(
        self, zone: int | None = None, *, source: IpAddress | None = None, target: IpAddress | None = None
    ) -> Iterator[Flow]:
        """The flows of a zone (None: of all), of both families, that were begun by `source` and towards `target`.

        They come as the kernel gives them, about a hundred at once, and no more than those are kept: take them all, or
        close the iterator. It is no picture of one moment. A flow that lives all the time is there at least once; it is
        there twice when the kernel lost its place because a neighbour in the table went, or when the whole dump was
        repeated because the kernel said that it is not whole. One that begins or ends meanwhile may be there or not.
        Growing the kernel's table meanwhile (nf_conntrack_buckets) may hide flows. Raises Unavailable when repeating
        does not help."""
        request = _dump_request(zone, source, target)
        for _ in range(DUMP_TRIES):
            try:
                with self._namespace.netlink(NETFILTER) as socket, closing(socket.dump_parts(request)) as parts:
                    for part in parts:
                        for reply in part:
                            flow = _read(reply.body, zone)
                            if flow is not None and source in (None, flow.source) and target in (None, flow.target):
                                yield flow
                return
            except DumpInterrupted:
                continue
        raise Unavailable(f"{request.operation}: they keep changing while they are read; try again")

    def delete(self, flow: Flow) -> bool:
        """Ends exactly that flow, so that its next packet is the first of a new one. False when it had gone, also if
        another with the same addresses, ports and zone has taken its place."""
        body = [netfilter_header(flow.family), nest(_TUPLE_ORIG, flow.original), attribute(_ID, flow.id)]
        if flow.zone and _TUPLE_ZONE not in attribute_map(flow.original):
            body.append(be16(_ZONE, flow.zone))
        operation = f"ending connection {flow.source} to {flow.target} in zone {flow.zone}"
        with self._namespace.netlink(NETFILTER) as socket:
            _, refusals = socket.attempt(Request(operation, _DELETE, b"".join(body)))
        if not refusals:
            return True
        if refusals[0].errno == errno.ENOENT:
            return False
        raise refusals[0]


def _dump_request(zone: int | None, source: IpAddress | None, target: IpAddress | None) -> Request:
    """As much as the kernel filters, the rest is done here: by zone since 6.8 (ignored before), by family, and by IPv4
    address. Its filter by IPv6 address gives all but what was asked for, up to 6.18 at least."""
    body = [] if zone is None else [be16(_ZONE, zone)]
    address = source or target
    if isinstance(address, IPv6Address):
        return Request("listing connections", _GET, netfilter_header(AF_INET6) + b"".join(body))
    if address is None:
        return Request("listing connections", _GET, netfilter_header(AF_UNSPEC) + b"".join(body))
    addresses, flags = [], 0
    for wanted, kind, flag in ((source, _IP4_SOURCE, _BY_SOURCE), (target, _IP4_TARGET, _BY_TARGET)):
        if isinstance(wanted, IPv4Address):
            addresses.append(attribute(kind, wanted.packed))
            flags |= flag
    body.append(nest(_TUPLE_ORIG, nest(_TUPLE_IP, *addresses)))
    body.append(nest(_FILTER, u32(_FILTER_ORIG_FLAGS, flags)))
    return Request("listing connections", _GET, netfilter_header(AF_INET) + b"".join(body))


def _read(body: bytes, zone: int | None) -> Flow | None:
    """One message, or None when it is of another zone, which is looked at first. A zone of one direction only stands
    inside the tuple."""
    values = attribute_map(body, 4)
    original = values.get(_TUPLE_ORIG, b"")
    parts = attribute_map(original)
    own = as_be16(values.get(_ZONE) or parts.get(_TUPLE_ZONE))
    if zone is not None and own != zone:
        return None
    ip, proto = attribute_map(parts.get(_TUPLE_IP, b"")), attribute_map(parts.get(_TUPLE_PROTO, b""))
    source, target = _addresses(ip)
    ports = _SOURCE_PORT in proto
    return Flow(
        family=body[0],
        protocol=as_u8(proto.get(_NUMBER)),
        source=source,
        target=target,
        source_port=as_be16(proto[_SOURCE_PORT]) if ports else None,
        target_port=as_be16(proto.get(_TARGET_PORT)) if ports else None,
        zone=own,
        icmp_type=_either(proto, _ICMP4_TYPE, _ICMP6_TYPE),
        icmp_id=_either(proto, _ICMP4_ID, _ICMP6_ID),
        mark=as_be32(values.get(_MARK)),
        original=original,
        id=values.get(_ID, b""),
    )


def _addresses(ip: dict[int, bytes]) -> tuple[IpAddress, IpAddress]:
    if _IP4_SOURCE in ip:
        return IPv4Address(ip[_IP4_SOURCE]), IPv4Address(ip[_IP4_TARGET])
    return IPv6Address(ip[_IP6_SOURCE]), IPv6Address(ip[_IP6_TARGET])


def _either(proto: dict[int, bytes], *kinds: int) -> int | None:
    """The number that stands under one of these kinds."""
    return next((int.from_bytes(proto[kind], "big") for kind in kinds if kind in proto), None)
