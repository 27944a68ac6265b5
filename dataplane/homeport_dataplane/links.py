"""Links as values, and the requests that name, change, delete and list them. Reference: rtnetlink(7), ip-link(8).

A veth waits for the kernel's RCU when it is deleted (some 20 ms), and so does everybody behind it. So links can be
discarded instead, which only marks them, and are swept later, all in one message and one wait.
"""

import errno
import struct
from dataclasses import dataclass

from homeport_api.addresses import MacAddress
from homeport_api.errors import NotFound
from homeport_dataplane import netlink
from homeport_dataplane.errors import KernelRefused
from homeport_dataplane.marks import DISCARDED, PortMark, parse_mark
from homeport_dataplane.netlink import Request, as_i32, as_text, as_u32, attribute_map
from homeport_dataplane.netns import Namespace

NEWLINK, DELLINK, GETLINK = 16, 17, 18

ADDRESS, IFNAME, MTU, LINK, MASTER, LINKINFO, ALIAS = 1, 3, 4, 5, 10, 18, 20
AF_SPEC, GROUP, NET_NS_FD, EXT_MASK, PROMISCUITY, TX_QUEUES, RX_QUEUES, CARRIER, LINK_NETNSID = (
    26, 27, 28, 29, 30, 31, 32, 33, 37,
)  # fmt: skip
INFO_KIND, INFO_DATA, INFO_SLAVE_KIND = 1, 2, 4
_INET6, _INET6_CONF, _INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE = 10, 2, 8, 1
_CONF_DISABLE_IPV6 = 26

UP, PROMISCUOUS, LOOPBACK = 0x1, 0x100, 0x8
_SKIP_STATISTICS = 8
_HEADER = struct.Struct("=BxHiII")

DISCARDED_GROUP = 0x686F6D65
"""The link group (a number that means nothing to the kernel) of everything discarded: deletable in one message."""
_DISCARDED_ALIAS, _DISCARDED_MEMBER = netlink.text(ALIAS, DISCARDED), netlink.u32(GROUP, DISCARDED_GROUP)
"""As they stand in a link's message: a sweep among hundreds of ports decodes none that has neither."""


@dataclass(frozen=True, slots=True)
class Link:
    """One link as the kernel shows it. `parent` is the index of what it stands on (a macvlan's NIC, a veth's other
    end), in the namespace that this one calls `parent_netns` (None: this one). `slave_kind` is what it is a port of."""

    index: int
    name: str
    kind: str
    mac: MacAddress | None
    mtu: int
    up: bool
    carrier: bool
    master: int | None = None
    alias: str = ""
    group: int = 0
    parent: int | None = None
    parent_netns: int | None = None
    slave_kind: str = ""
    promiscuous: bool = False
    loopback: bool = False
    ipv6: bool = False

    @property
    def mark(self) -> PortMark | None:
        """Whose port it is; None when it is no port of ours, or is discarded."""
        return parse_mark(self.alias)


def link_body(*attributes: bytes, index: int = 0, flags: int = 0, mask: int = 0, family: int = 0) -> bytes:
    """The body of a link message. `flags` are set to their value where `mask` says so."""
    return _HEADER.pack(family, 0, index, flags, mask) + b"".join(attributes)


def set_link(operation: str, index: int, *attributes: bytes, up: bool | None = None) -> Request:
    """A change of one link."""
    mask = 0 if up is None else UP
    return Request(operation, NEWLINK, link_body(*attributes, index=index, flags=UP if up else 0, mask=mask))


def get_link(name: str) -> Request:
    body = link_body(netlink.text(IFNAME, name), netlink.u32(EXT_MASK, _SKIP_STATISTICS))
    return Request(f"reading link {name}", GETLINK, body)


def no_ipv6_addresses(index: int) -> Request:
    """No link-local address by itself (`addrgenmode none`). Refused where the kernel or the link has no IPv6."""
    mode = netlink.nest(AF_SPEC, netlink.nest(_INET6, netlink.u8(_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE)))
    return set_link(f"addrgenmode none on link {index}", index, mode)


def read_link(body: bytes) -> Link:
    """A link message's body, decoded."""
    _, _, index, flags, _ = _HEADER.unpack_from(body)
    values = attribute_map(body, 16)
    info = attribute_map(values.get(LINKINFO, b""))
    mac = values.get(ADDRESS, b"")
    master = as_u32(values.get(MASTER))
    parent_netns = values.get(LINK_NETNSID)
    return Link(
        index=index,
        name=as_text(values.get(IFNAME)),
        kind=as_text(info.get(INFO_KIND)),
        mac=MacAddress(mac.hex(":")) if len(mac) == 6 else None,
        mtu=as_u32(values.get(MTU)),
        up=bool(flags & UP),
        carrier=bool(values.get(CARRIER, b"\0")[0]),
        master=master or None,
        alias=as_text(values.get(ALIAS)),
        group=as_u32(values.get(GROUP)),
        parent=as_u32(values[LINK]) if LINK in values else None,
        parent_netns=as_i32(parent_netns) if parent_netns is not None else None,
        slave_kind=as_text(info.get(INFO_SLAVE_KIND)),
        promiscuous=as_u32(values.get(PROMISCUITY)) > 0,
        loopback=bool(flags & LOOPBACK),
        ipv6=_ipv6_on(values.get(AF_SPEC)),
    )


def find_link(namespace: Namespace, name: str) -> Link | None:
    """The link of that name, discarded or not."""
    with namespace.netlink() as socket:
        return _found(socket, get_link(name))


def find_index(namespace: Namespace, index: int) -> Link | None:
    body = link_body(netlink.u32(EXT_MASK, _SKIP_STATISTICS), index=index)
    with namespace.netlink() as socket:
        return _found(socket, Request(f"reading link {index}", GETLINK, body))


def get_index(namespace: Namespace, name: str) -> int:
    """Raises NotFound, naming link and namespace."""
    link = find_link(namespace, name)
    if link is None:
        raise NotFound(f"link {name} does not exist in network namespace {namespace.label}")
    return link.index


def list_links(namespace: Namespace) -> tuple[Link, ...]:
    """Every link, discarded ones too, as one consistent picture."""
    return tuple(read_link(body) for body in _dump_links(namespace))


def list_ports(namespace: Namespace) -> dict[str, tuple[Link, PortMark]]:
    """Our ports by name, without those that are discarded: what reconcile compares with the store."""
    return {link.name: (link, mark) for link in list_links(namespace) if (mark := link.mark) is not None}


def delete_link(namespace: Namespace, name: str) -> bool:
    """Deletes now, waiting for RCU; a veth's other end goes with it. False when there was no such link."""
    body = link_body(netlink.text(IFNAME, name))
    with namespace.netlink() as socket:
        _, refusals = socket.attempt(Request(f"deleting link {name}", DELLINK, body))
    return not _absent(refusals.get(0))


def discard(namespace: Namespace, name: str) -> bool:
    """Marks a link for `sweep`: no longer a port of anybody, still there until then, so mute it before. False when
    there was no such link; a repeat changes nothing."""
    body = link_body(netlink.text(IFNAME, name), netlink.text(ALIAS, DISCARDED), netlink.u32(GROUP, DISCARDED_GROUP))
    with namespace.netlink() as socket:
        _, refusals = socket.attempt(Request(f"discarding link {name}", NEWLINK, body))
    return not _absent(refusals.get(0))


def sweep(namespace: Namespace) -> int:
    """Deletes every discarded link in one message and says how many. Does nothing when somebody else's link is in
    the same group, which only a hand could have put there: then each is deleted by itself."""
    seen = (read_link(body) for body in _dump_links(namespace) if _DISCARDED_ALIAS in body or _DISCARDED_MEMBER in body)
    waiting = [link for link in seen if link.alias == DISCARDED or link.group == DISCARDED_GROUP]
    ours = [link for link in waiting if link.alias == DISCARDED]
    if not ours:
        return 0
    if len(ours) == len(waiting) and all(link.group == DISCARDED_GROUP for link in ours):
        whole = link_body(netlink.u32(GROUP, DISCARDED_GROUP))
        requests = [Request("deleting discarded links", DELLINK, whole)]
    else:
        requests = [Request(f"deleting link {link.name}", DELLINK, link_body(index=link.index)) for link in ours]
    with namespace.netlink() as socket:
        _, refusals = socket.attempt(*requests)
    for refusal in refusals.values():
        _absent(refusal)
    return len(ours)


def _dump_links(namespace: Namespace) -> list[bytes]:
    body = link_body(netlink.u32(EXT_MASK, _SKIP_STATISTICS))
    with namespace.netlink() as socket:
        return [reply.body for reply in socket.dump(Request(f"listing links of {namespace.label}", GETLINK, body))]


def _found(socket: netlink.NetlinkSocket, request: Request) -> Link | None:
    answers, refusals = socket.attempt(request)
    if _absent(refusals.get(0)):
        return None
    return read_link(answers[0].body)


def _absent(refusal: KernelRefused | None) -> bool:
    """Whether a request failed for want of the link; any other refusal is raised."""
    if refusal is None:
        return False
    if refusal.errno == errno.ENODEV:
        return True
    raise refusal


def _ipv6_on(af_spec: bytes | None) -> bool:
    inet6 = attribute_map(attribute_map(af_spec).get(_INET6, b"")) if af_spec else {}
    conf = inet6.get(_INET6_CONF, b"")
    at = _CONF_DISABLE_IPV6 * 4
    return len(conf) >= at + 4 and not as_u32(conf[at : at + 4])
