"""One attachment, from request to wire and back. The one place where the order of an ADD and of a DEL is told.

    attach   settle what ended under this key → place → allocate (one transaction) → wire, muted → admit (guards loaded
             and read back) → configure the guest → open → record in the node's journal → answer
    detach   mute → record the end in the node's journal, synced → answer; then unplug and settle in the store

A step of `attach` that fails undoes those before it. `detach` fails only when the journal cannot be written: the store
may be away, the namespace gone, the links deleted by somebody else.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from homeport_agent import metrics
from homeport_agent.journal import Entry, Journal
from homeport_agent.locks import KeyedLocks
from homeport_agent.placement import Placement
from homeport_agent.settle import Settler
from homeport_agent.steps import Add, Delete, Hook
from homeport_agent.switch import Guest, Port, Switch, port_of
from homeport_api.attachment import AttachedNic, Attachment, AttachmentKey, AttachRequest, PortKind, port_name
from homeport_api.errors import HomeportError
from homeport_api.interface import InterfaceKey
from homeport_ipam.allocator import Allocator
from homeport_ipam.view import View

log = logging.getLogger(__name__)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Attached:
    """What an ADD answers with. `ports` are in the order of `nics`, and empty for `homeport-ipam`."""

    nics: tuple[AttachedNic, ...]
    ports: tuple[Port, ...]


class Attacher:
    """Thread-safe: calls for one attachment wait for one another, others run beside each other."""

    def __init__(
        self,
        allocator: Allocator,
        view: View,
        switch: Switch,
        journal: Journal,
        settler: Settler,
        locks: KeyedLocks,
        hook: Hook,
        clock: Clock = time.time,
    ) -> None:
        self._allocator = allocator
        self._view = view
        self._switch = switch
        self._journal = journal
        self._settler = settler
        self._locks = locks
        self._hook = hook
        self._clock = clock

    def attach(self, request: AttachRequest, guest: Guest, *, configure: bool = True) -> Attached:
        """Attaches all NICs of the request, or none. The same request again answers the same and repairs what is
        missing. `configure` False leaves addresses and routes to the guest itself."""
        with self._locks.hold(request.key):
            self._settler.settle_now(request.key)
            wired = [nic for nic in request.nics if nic.kind is not PortKind.NONE]
            self._switch.require_placeable(self._networks_of(request)) if wired else None
            request = replace(request, gone_ports=self._gone_ports(request))
            nics = self._allocator.attach(request)
            self._hook(Add.ALLOCATED)
            with ExitStack() as undo:
                if self._journal.find(request.key) is None:
                    undo.callback(self._give_up, request.key)
                ports = self._wire(request, nics, guest, undo, configure=configure) if wired else ()
                attachment = self._record(request, nics)
                self._journal.attached(attachment, guest.inode)
                undo.pop_all()
            self._hook(Add.RECORDED)
            log.info(
                "attached key=%s nics=%s",
                request.key,
                ",".join(f"{nic.interface.key}@{nic.interface.status.epoch}" for nic in nics),
            )
            return Attached(nics, ports)

    def detach(self, key: AttachmentKey, reason: str, *, fallback: Attachment | None = None) -> None:
        """Ends one attachment. Unknown or ended already: succeeds, and an end of it is told to the store all the same,
        unless an ADD under the same key comes first."""
        with self._locks.hold(key):
            entry = self._journal.find(key)
            attachment = entry.attachment if entry else fallback
            if attachment is None:
                log.info("nothing to detach key=%s", key)
                return
            ports = [port_name(nic.uid, key) for nic in attachment.nics if nic.kind is not PortKind.NONE]
            self._switch.mute_ports(ports)
            self._hook(Delete.MUTED)
            ended = self._journal.ended(attachment, self._clock(), reason)
            self._hook(Delete.JOURNALED)
            self._switch.unplug_later(attachment)
            self._hook(Delete.UNPLUGGED)
            self._settler.settle_later(ended)
        log.info("detached key=%s reason=%s", key, reason)

    def _wire(
        self, request: AttachRequest, nics: tuple[AttachedNic, ...], guest: Guest, undo: ExitStack, *, configure: bool
    ) -> tuple[Port, ...]:
        ports: list[Port] = []
        for asked, nic in zip(request.nics, nics, strict=True):
            placement = self._switch.place(nic.network)
            port = port_of(request.key, nic, placement, asked.kind)
            undo.callback(self._switch.unplug_now, port, guest)
            self._switch.wire(port, guest)
            ports.append(port)
        self._hook(Add.WIRED)
        self._switch.admit(ports)
        self._hook(Add.ADMITTED)
        if configure and guest.configurable:
            for index, (port, nic) in enumerate(zip(ports, nics, strict=True)):
                self._switch.configure(port, nic, guest, default_route=index == 0 and guest.default_route)
        self._switch.open(ports)
        self._hook(Add.OPENED)
        return tuple(ports)

    def _record(self, request: AttachRequest, nics: tuple[AttachedNic, ...]) -> Attachment:
        return Attachment(
            request.key,
            request.source,
            request.boot_id,
            tuple(nic.nic for nic in nics),
            request.netns,
            self._clock(),
        )

    def _networks_of(self, request: AttachRequest) -> tuple[str, ...]:
        """The Networks that are known before allocation; the others are judged when they are."""
        return tuple(nic.network for nic in request.nics if nic.network is not None)

    def _gone_ports(self, request: AttachRequest) -> frozenset[InterfaceKey]:
        """Interfaces of this call that an attachment of this node holds whose port the kernel no longer has: lawful to
        take over (section "Held already")."""
        gone: set[InterfaceKey] = set()
        for entry in self._journal.live():
            if entry.attachment.key == request.key:
                continue
            for nic in entry.attachment.nics:
                if self._asks_for(request, nic.interface) and self._port_gone(entry, nic.uid, nic.kind):
                    gone.add(nic.interface)
        return frozenset(gone)

    def _asks_for(self, request: AttachRequest, key: InterfaceKey) -> bool:
        return any(
            nic.identity.namespace == key.namespace
            and (nic.interface_object == key.name or nic.interface_object is None)
            for nic in request.nics
        )

    def _port_gone(self, entry: Entry, uid: str, kind: PortKind) -> bool:
        return kind is not PortKind.NONE and not self._switch.has_port(port_name(uid, entry.attachment.key))

    def _give_up(self, key: AttachmentKey) -> None:
        """Undoes an allocation. When the store is away just now, the node's journal remembers to."""
        try:
            self._allocator.end(key, reason="attach failed")
        except HomeportError as error:
            log.warning("undo left to the journal key=%s error=%s", key, error)
            placeholder = Attachment(key, _SOURCE, "", (), since=self._clock())
            self._settler.settle_later(self._journal.ended(placeholder, self._clock(), "attach failed"))
