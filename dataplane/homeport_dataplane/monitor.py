"""What the kernel tells about one namespace: links, VLANs of ports, and rulesets, as typed events, as they happen.

A monitor hears everything from the moment it is made, so make it first and read the present state after. When nobody
reads in time the kernel drops messages and says so: `Lost` means that state has to be read again. Everybody's changes
are told, ours too. Reference: rtnetlink(7), and `nft monitor`.
"""

import os
import select
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from homeport_dataplane.links import DELLINK, NEWLINK, Link, read_link
from homeport_dataplane.netlink import NETFILTER, ROUTE, NetlinkListener, Reply, as_text, attribute_map
from homeport_dataplane.netns import Namespace, entered

_GROUP_LINK, _GROUP_BRIDGE_VLAN, _GROUP_NFTABLES = 1, 33, 7
_NEWVLAN, _DELVLAN = 112, 113
_NFTABLES, _NEW_GENERATION = 10, 15
_BRIDGE_FAMILY = 7
_TABLE, _PROCESS_ID, _PROCESS_NAME = 1, 2, 3
_NEW_LINK_CHANGE = 0xFFFFFFFF
_LINK_HEADER = struct.Struct("=BxHiII")
_VLAN_HEADER = struct.Struct("=BxxxI")


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A link is new here, or something of it changed: name, master, alias, carrier, up or down."""

    link: Link
    new: bool = False


@dataclass(frozen=True, slots=True)
class LinkGone:
    """A link was deleted, or moved to another namespace."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class VlansChanged:
    """Some VLAN of a port was added or taken away; `vlan.find_vlans` tells what it has now."""

    index: int


@dataclass(frozen=True, slots=True)
class RulesetChanged:
    """One transaction changed these tables of the bridge family. `ours`: a thread of this process did."""

    tables: frozenset[str]
    pid: int
    process: str
    ours: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """Notifications were dropped: read everything again."""


Event = LinkChanged | LinkGone | VlansChanged | RulesetChanged | Lost


class Monitor:
    """Iterating blocks until something happens and ends after `close`, which any thread may call. One reader only."""

    def __init__(self, namespace: Namespace) -> None:
        with entered(namespace):
            self._route = NetlinkListener(ROUTE, (_GROUP_LINK, _GROUP_BRIDGE_VLAN))
            self._netfilter = NetlinkListener(NETFILTER, (_GROUP_NFTABLES,))
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._changed: set[str] = set()

    def __iter__(self) -> Iterator[Event]:
        poll = select.poll()
        for each in (self._wake, self._route.fileno(), self._netfilter.fileno()):
            poll.register(each, select.POLLIN)
        try:
            while True:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if self._wake in ready:
                    return
                if self._route.fileno() in ready:
                    yield from self._read(self._route)
                if self._netfilter.fileno() in ready:
                    yield from self._read(self._netfilter)
        finally:
            self._route.close()
            self._netfilter.close()

    def close(self) -> None:
        """Ends the iteration, now or when it begins. Repeating it does nothing more."""
        os.eventfd_write(self._wake, 1)

    def _read(self, listener: NetlinkListener) -> Iterator[Event]:
        replies = listener.receive()
        if replies is None:
            self._changed.clear()
            yield Lost()
            return
        for reply in replies:
            event = self._ruleset_event(reply) if listener is self._netfilter else _link_event(reply)
            if event is not None:
                yield event

    def _ruleset_event(self, reply: Reply) -> RulesetChanged | None:
        """The kernel tells each object of a transaction, then its end, which says who it was."""
        if reply.type >> 8 != _NFTABLES:
            return None
        values = attribute_map(reply.body, 4)
        if reply.type & 0xFF != _NEW_GENERATION:
            if reply.body[0] == _BRIDGE_FAMILY:
                self._changed.add(as_text(values.get(_TABLE)))
            return None
        tables, self._changed = frozenset(self._changed), set()
        if not tables:
            return None
        task = int.from_bytes(values.get(_PROCESS_ID, b""), "big")
        ours = Path(f"/proc/self/task/{task}").exists()
        return RulesetChanged(tables, task, as_text(values.get(_PROCESS_NAME)), ours)


def _link_event(reply: Reply) -> LinkChanged | LinkGone | VlansChanged | None:
    if reply.type in (_NEWVLAN, _DELVLAN):
        return VlansChanged(_VLAN_HEADER.unpack_from(reply.body)[1])
    if reply.type not in (NEWLINK, DELLINK):
        return None
    family, _, _, _, change = _LINK_HEADER.unpack_from(reply.body)
    if family == _BRIDGE_FAMILY:
        return None  # a bridge's view of its port; the link's own message follows
    link = read_link(reply.body)
    if reply.type == DELLINK:
        return LinkGone(link.index, link.name)
    return LinkChanged(link, new=change == _NEW_LINK_CHANGE)
