"""One attachment, from request to wire and back. The one place where the order of an ADD and of a DEL is told.

    attach   settle what ended under this key → place → allocate (one transaction) → wire, muted → admit (guards loaded
             and read back) → configure the guest → open → record in the node's journal → answer
    detach   mute → record the end in the node's journal, synced → unplug → settle in the store, or later → answer

A step of `attach` that fails undoes those before it. `detach` fails only when the journal cannot be written: the store
may be away, the namespace gone, the links deleted by somebody else.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from homeport_agent.journal import Journal
from homeport_agent.locks import KeyedLocks
from homeport_agent.policies import Policies
from homeport_agent.ports import Port, guest_config, moved_on, port_of, rights_of
from homeport_agent.settle import Settler
from homeport_agent.steps import Add, Delete, Hook
from homeport_agent.switch import Guest, Switch
from homeport_api.addresses import L2Domain
from homeport_api.attachment import AttachedNic, Attachment, AttachmentKey, AttachRequest, Nic, PortKind, Source
from homeport_api.errors import Held, HomeportError, Unavailable
from homeport_api.interface import InterfaceKey
from homeport_api.network import Network
from homeport_dataplane.marks import port_name
from homeport_ipam.allocator import Allocator
from homeport_ipam.holders import active_holder, attachment_of
from homeport_ipam.snapshot import Snapshot
from homeport_ipam.view import View

log = logging.getLogger(__name__)

Clock = Callable[[], float]
Zones = Callable[[Sequence[L2Domain]], Mapping[L2Domain, int]]
"""The conntrack zones of L2 domains, allotted where they are missing. Raises Unavailable."""

GAVE_UP = "attach failed"


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
        policies: Policies,
        zones: Zones,
        opened: Callable[[Sequence[Port]], None],
        stray: Callable[[], None],
        clock: Clock = time.time,
    ) -> None:
        self._policies = policies
        self._zones = zones
        self._allocator = allocator
        self._view = view
        self._switch = switch
        self._journal = journal
        self._settler = settler
        self._locks = locks
        self._hook = hook
        self._opened = opened
        self._stray = stray
        self._clock = clock

    def attach(self, request: AttachRequest, guest: Guest) -> Attached:
        """Attaches all NICs of the request, or none. The same request again answers the same, and repairs what is
        missing."""
        with self._locks.hold(request.key):
            self._settler.settle_before(request.key)
            networks, gone = self._look_ahead(request)
            if any(nic.kind is not PortKind.NONE for nic in request.nics):
                for network in networks:
                    self._switch.place(network)  # refuses before anything is allocated
            nics = self._allocate(replace(request, gone_ports=gone))
            self._hook(Add.ALLOCATED)
            entry = self._journal.find(request.key)
            before = set(_port_names(entry.attachment.nics)) if entry is not None and entry.ended is None else set()
            fresh = before.isdisjoint(_port_names(nic.nic for nic in nics))
            with ExitStack() as undo:
                if fresh:
                    undo.callback(self._give_up, request.key, nics)
                self._give_way(request.key, nics, before)
                ports = self._plug(request, nics, guest, before, undo)
                self._journal.attached(self._record(request, nics), guest.inode, default_route=guest.default_route)
                self._require_held(nics)  # whoever takes one from now on finds the entry, and silences the port himself
                undo.pop_all()
            if self._is_behind(nics, ports):
                self._stray()
            self._hook(Add.RECORDED)
            if fresh:
                self._opened(ports)
        return Attached(nics, ports)

    def detach(self, key: AttachmentKey, reason: str) -> None:
        """Ends one attachment. Succeeds for one that is unknown or has ended; where this node lost its journal, what
        the store knows of the attachment is ended instead."""
        with self._locks.hold(key):
            self.detach_held(key, reason)

    def detach_held(self, key: AttachmentKey, reason: str) -> None:
        """`detach`, for a caller who holds the attachment's lock."""
        entry = self._journal.find(key)
        if entry is not None and entry.ended is not None:
            self._settler.settle(entry)
            return
        attachment = entry.attachment if entry else self._stored(key)
        names = _port_names(attachment.nics)
        for name in names:
            self._quietly(self._switch.mute, name)
        self._hook(Delete.MUTED)
        ended = self._journal.ended(attachment, self._clock(), reason)
        self._hook(Delete.JOURNALED)
        for name in names:
            self._quietly(self._switch.unplug, name)
        for nic in attachment.nics:  # the switch does not know of a port that has had no place since the start
            self._policies.forget(nic.interface, port_name(nic.uid, nic.epoch))
        self._hook(Delete.UNPLUGGED)
        self._settler.settle(ended)
        log.info("detached key=%s reason=%s", key, reason)

    def _allocate(self, request: AttachRequest) -> tuple[AttachedNic, ...]:
        """A transaction that was not answered may have been applied. A retry would find it, but nobody has to retry:
        the node's journal remembers to end it."""
        try:
            return self._allocator.attach(request)
        except Unavailable:
            if self._journal.find(request.key) is None:
                self._journal.ended(Attachment(request.key, Source.CNI, "", ()), self._clock(), GAVE_UP)
                self._settler.wake()
            raise

    def _give_way(self, key: AttachmentKey, nics: Sequence[AttachedNic], before: Collection[str]) -> None:
        """Before new ports speak: those that this attachment had under another epoch go, and those of another one here
        that these Interfaces were taken from fall silent, be it answered or still at work."""
        now = set(_port_names(nic.nic for nic in nics))
        for name in before:
            if name not in now:
                self._switch.unplug([name])
        taken = {nic.nic.uid for nic in nics if nic.nic.epoch > 1}
        for entry in self._journal.live() if taken else ():
            if entry.attachment.key != key:
                self._switch.mute(_port_names(nic for nic in entry.attachment.nics if nic.uid in taken))
        for port in self._switch.opened().values() if taken else ():
            if port.key != key and port.nic.uid in taken:
                self._switch.mute([port.name])

    def _require_held(self, nics: Sequence[AttachedNic]) -> None:
        """Raises Held when somebody took one of these Interfaces while the call was at work, and silences its port."""
        with self._view.reading() as reading:
            now = [(nic.nic, reading.interface(nic.nic.interface)) for nic in nics]
        lost = [(nic, interface) for nic, interface in now if interface is not None and moved_on(interface, nic)]
        if lost:
            self._switch.mute(_port_names(nic for nic, _ in lost))
            raise Held(
                "; ".join(
                    f"Interface {nic.interface} was taken over while this call was at work: it is held by "
                    f"{active_holder(interface.status) or 'nobody'}"
                    for nic, interface in lost
                )
            )

    def _is_behind(self, nics: Sequence[AttachedNic], ports: Sequence[Port]) -> bool:
        """Whether there were news of these NICs while the call was at work: they were held against the attachments that
        the journal had, and this was none of them."""
        if not self._policies.unenforced.isdisjoint(port.name for port in ports):
            return True
        with self._view.reading() as reading:
            networks = [reading.network(nic.nic.network) for nic in nics]
            interfaces = [reading.interface(nic.nic.interface) for nic in nics]
        for port, nic, network, interface in zip(ports, nics, networks, interfaces, strict=False):
            if network is None or network.spec != nic.network.spec:
                return True
            others = [each for each in interfaces if each is not None and each is not interface]
            rights = rights_of(nic.nic, network, interface, [each.nic for each in nics if each is not nic], others)
            if interface is not None and rights != port.rights:
                return True
        return False

    def _plug(
        self,
        request: AttachRequest,
        nics: Sequence[AttachedNic],
        guest: Guest,
        before: Collection[str],
        undo: ExitStack,
    ) -> tuple[Port, ...]:
        """`before` are the ports that this attachment has already, muted or not (an ADD repeated): whatever fails now,
        their guest runs on."""
        ports: list[Port] = []
        self._policies.prepare([nic.network for nic in nics], self._zones)
        kept = self._switch.opened().keys() | before
        for nic in nics:
            if nic.nic.kind is PortKind.NONE:
                return ()
            place = self._switch.place(nic.network)
            others = [each.interface for each in nics if each is not nic]
            port = port_of(request.key, nic.nic, nic.network, place, nic.interface, [each.nic for each in nics], others)
            if port.name not in kept:
                undo.callback(self._quietly, self._switch.unplug, port.name)
            self._switch.wire(port, guest)
            ports.append(port)
        self._hook(Add.WIRED)
        self._switch.admit(ports)
        self._policies.admit(ports, [nic.interface for nic in nics])
        self._hook(Add.ADMITTED)
        for index, (port, nic) in enumerate(zip(ports, nics, strict=True)):
            if guest.configure and not nic.network.external_dhcp:
                config = guest_config(nic.nic, nic.interface, default_route=guest.default_route and index == 0)
                config = config if guest.routed else replace(config, routes=())
                self._switch.configure(port, guest, config)
        self._require_held(nics)
        self._switch.open(ports)
        self._hook(Add.OPENED)
        return tuple(ports)

    def _record(self, request: AttachRequest, nics: Sequence[AttachedNic]) -> Attachment:
        return Attachment(
            request.key,
            request.source,
            request.boot_id,
            tuple(nic.nic for nic in nics),
            request.netns,
            self._clock(),
        )

    def _look_ahead(self, request: AttachRequest) -> tuple[list[Network], frozenset[tuple[InterfaceKey, int]]]:
        """From the view, before anything is decided: the Networks of this call, and those of its Interfaces that an
        attachment of this node still seems to hold although its port is gone, which makes a take-over lawful at the
        epoch that was looked at."""
        networks: list[Network] = []
        gone: set[tuple[InterfaceKey, int]] = set()
        with self._view.reading() as reading:
            for nic in request.nics:
                name = nic.interface_object
                if name is None:
                    who = nic.identity
                    pointer = reading.pointer(who.namespace, who.vm, who.interface)
                    name = pointer.interface.name if pointer else None
                key = InterfaceKey(nic.identity.namespace, name) if name else None
                interface = reading.interface(key) if key else None
                network = reading.network(nic.network or (interface.spec.network if interface else ""))
                if network is not None:
                    networks.append(network)
                if interface is None:
                    continue
                holder = active_holder(interface.status)
                if holder is None or holder.node != request.key.node or attachment_of(holder) == request.key:
                    continue
                if self._port_gone(reading, attachment_of(holder), interface.meta.uid, interface.status.epoch):
                    gone.add((interface.key, interface.status.epoch))
        return networks, frozenset(gone)

    def _port_gone(self, reading: Snapshot, holder: AttachmentKey, uid: str, epoch: int) -> bool:
        """An attachment of `homeport-ipam` has no port of ours: only its DEL ends it, so it is never gone. Nor is what
        an ADD is about to make, which is not in the journal yet: looked at before the port, for the ADD may end
        meanwhile."""
        entry = self._journal.find(holder)
        if entry is not None and entry.ended is not None:
            return True
        recorded = entry is not None and any(nic.uid == uid and nic.epoch == epoch for nic in entry.attachment.nics)
        if not recorded and self._locks.busy(holder):
            return False
        attachment = entry.attachment if entry else reading.attachment(holder)
        if attachment is None or any(nic.kind is PortKind.NONE for nic in attachment.nics):
            return False
        return not self._switch.has_port(port_name(uid, epoch))

    def _stored(self, key: AttachmentKey) -> Attachment:
        """What the view has under this key; else an attachment of nothing, whose end is told to the store all the same:
        the view may be stale."""
        with self._view.reading() as reading:
            found = reading.attachment(key)
        return found or Attachment(key, Source.CNI, "", ())

    def _quietly(self, verb: Callable[[list[str]], None], name: str) -> None:
        """What the kernel refuses here is left to reconcile: a port that no attachment has is a stray."""
        try:
            verb([name])
        except HomeportError as error:
            log.warning("left to reconcile port=%s error=%s", name, error)
            self._stray()

    def _give_up(self, key: AttachmentKey, nics: Sequence[AttachedNic]) -> None:
        """Undoes an allocation, Interfaces that this call made and nobody touched since included: a refused call leaves
        nobody an address. When the store is away just now, the node's journal remembers to end what the call holds."""
        attachment = Attachment(key, Source.CNI, "", tuple(nic.nic for nic in nics))
        try:
            self._settler.settle(self._journal.ended(attachment, self._clock(), GAVE_UP))
            for nic in nics:
                if nic.interface.meta.revision == 0 and not nic.nic.ephemeral:
                    self._allocator.withdraw(nic.interface, GAVE_UP)
        except HomeportError as error:
            log.warning("undo left to the next start key=%s error=%s", key, error)


def _port_names(nics: Iterable[Nic]) -> list[str]:
    return [port_name(nic.uid, nic.epoch) for nic in nics if nic.kind is not PortKind.NONE]
