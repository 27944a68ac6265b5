"""Reconcile, run: looks at store, journal and kernel, and has the differences repaired.

One thread. It wakes when the store or the kernel's notifications say that something may be off, and otherwise sleeps:
nothing here polls. Runs that were asked for while one is under way are one run afterwards.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from homeport_agent import metrics
from homeport_agent.journal import Entry, Journal
from homeport_agent.locks import KeyedLocks
from homeport_agent.placement import Place
from homeport_agent.ports import Port, guest_config, port_of
from homeport_agent.reconcile import Mute, Remove, Reopen, Replug, SeenPort, Step, diff
from homeport_agent.switch import Guest, Switch
from homeport_api.attachment import AttachmentKey, PortKind
from homeport_api.errors import HomeportError
from homeport_api.interface import Interface, InterfaceKey
from homeport_dataplane import links, marks, vlan
from homeport_dataplane.errors import KernelRefused
from homeport_dataplane.netns import Namespace
from homeport_ipam.holders import attachment_of
from homeport_ipam.view import View
from homeport_policy import guards

log = logging.getLogger(__name__)

SETTLE = 0.02
"""Seconds between the first sign and the look: what is deleted together is healed together."""

Detach = Callable[[AttachmentKey, str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the ports of this node should be. `lost` must be silent, since their Interface is held elsewhere; `unplaced`
    have no place now (uplink gone, VLAN taken by the host), with the reason, and are left as they are."""

    ports: dict[str, Port]
    entries: dict[str, Entry]
    lost: frozenset[str]
    unplaced: dict[str, str]


class Healer:
    """`start` runs once at once; `wake` asks for another run."""

    def __init__(self, switch: Switch, view: View, journal: Journal, locks: KeyedLocks, detach: Detach) -> None:
        self._switch = switch
        self._view = view
        self._journal = journal
        self._locks = locks
        self._detach = detach
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._once = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="heal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def watches(self, key: InterfaceKey) -> bool:
        """Whether an attachment of this node has this Interface, so that its change of hands matters here."""
        return any(nic.interface == key for entry in self._journal.live() for nic in entry.attachment.nics)

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _loop(self) -> None:
        while True:
            self._wake.wait()
            if self._stop.wait(SETTLE):
                return
            self._wake.clear()
            try:
                self.run()
            except HomeportError as error:
                log.warning("reconcile failed error=%s", error)
                metrics.reconcile_failures.inc()
            except Exception:
                log.exception("reconcile failed")
                metrics.reconcile_failures.inc()

    def run(self) -> int:
        """One comparison with its repairs; the number of repairs. Safe beside ADD and DEL: each repair takes its
        attachment's lock and looks again."""
        with self._once, metrics.reconcile_seconds.time():
            self._switch.forget()
            wanted = self._wanted()
            self._adopt(wanted)
            repairs = self._heal_rules()
            for where in Place:
                repairs += self._heal_ports(where, wanted)
            return repairs

    def _wanted(self) -> Wanted:
        ports: dict[str, Port] = {}
        entries: dict[str, Entry] = {}
        lost: set[str] = set()
        unplaced: dict[str, str] = {}
        for entry in self._journal.live():
            key = entry.attachment.key
            for nic in entry.attachment.nics:
                if nic.kind is PortKind.NONE:
                    continue
                name = marks.port_name(nic.uid, nic.epoch)
                with self._view.reading() as reading:
                    network = reading.network(nic.network)
                    interface = reading.interface(nic.interface)
                if network is None:
                    unplaced[name] = f"Network {nic.network} is not in the store"
                    continue
                try:
                    port = port_of(key, nic, network, self._switch.place(network))
                except HomeportError as error:
                    unplaced[name] = str(error)
                    continue
                ports[name], entries[name] = port, entry
                if _moved_on(interface, key, nic.uid):
                    lost.add(name)
        return Wanted(ports, entries, frozenset(lost), unplaced)

    def _adopt(self, wanted: Wanted) -> None:
        """The switch learns of ports that it does not know (after a restart), so that uplinks carry their VLANs."""
        for name, port in wanted.ports.items():
            self._switch.adopt(port, is_open=name not in wanted.lost)

    def _heal_rules(self) -> int:
        """The base chains of the switch: what is there stays, what is not is put back."""
        self._switch.forget_rules(Place.SWITCH)
        if not self._switch.ensure_rules(Place.SWITCH):
            return 0
        log.warning("healed the guard rules of the switch")
        metrics.healed.labels("rules").inc()
        return 1

    def _heal_ports(self, where: Place, wanted: Wanted) -> int:
        ports = {name: port for name, port in wanted.ports.items() if port.placement.place is where}
        if where is Place.HOST and not ports:
            return 0
        for port in ports.values():
            try:
                self._switch.ensure_bridge(port.placement)
            except HomeportError as error:
                log.warning("bridge not healed port=%s error=%s", port.name, error)
        seen = {name: port for name, port in self._seen(where).items() if name not in wanted.unplaced}
        bridges = {name: self._switch.bridge_of(port.placement) for name, port in ports.items()}
        steps = diff(ports, seen, bridges, lost=wanted.lost, remove=where is Place.SWITCH)
        return sum(self._repair(step, wanted) for step in steps)

    def _seen(self, where: Place) -> dict[str, SeenPort]:
        side = self._switch.side(where)
        every = links.list_links(side.namespace)
        names = {link.index: link.name for link in every}
        vlans = vlan.list_vlans(side.namespace)
        admitted = side.nft.elements(guards.PORTS, side.table)
        speaking = side.nft.elements(guards.SPEAKING, side.table)
        return {
            link.name: SeenPort(
                link.name,
                names.get(link.master, "") if link.master is not None else "",
                mark,
                link.up,
                vlans.get(link.index, vlan.MUTED),
                link.name in admitted,
                link.name in speaking,
            )
            for link in every
            if (mark := link.mark) is not None
        }

    def _repair(self, step: Step, wanted: Wanted) -> int:
        """1 when something was changed."""
        try:
            match step:
                case Remove(name):
                    return self._remove(name)
                case Mute(port):
                    log.warning("muted port=%s interface=%s: held elsewhere now", port.name, port.nic.interface)
                    self._switch.mute([port.name])
                    return 1
                case Reopen(port, why) | Replug(port, why):
                    return self._restore(step, port, why, wanted.entries[port.name])
        except HomeportError as error:
            log.warning("repair failed step=%s error=%s", step, error)
            metrics.reconcile_failures.inc()
        return 0

    def _remove(self, name: str) -> int:
        """A port that no live attachment has. An ADD that is under way has it, so its lock decides."""
        link = links.find_link(self._switch.namespace, name)
        mark = link.mark if link is not None else None
        if link is None or mark is None or self._switch.plugged(name):
            return 0
        log.warning("removed stray port=%s interface=%s epoch=%d", name, mark.interface, mark.epoch)
        self._switch.unplug([name])
        metrics.healed.labels("stray port").inc()
        return 1

    def _restore(self, step: Step, port: Port, why: str, entry: Entry) -> int:
        key = entry.attachment.key
        with self._locks.hold(key):
            now = self._journal.find(key)
            if now is None or now.ended is not None or now.attachment.nics != entry.attachment.nics:
                return 0
            if isinstance(step, Reopen):
                log.warning("healed port=%s interface=%s: %s", port.name, port.nic.interface, why)
                self._switch.forget_open(port.name)
                self._switch.admit([port])
                self._switch.open([port])
                metrics.healed.labels("port").inc()
                return 1
            guest = self._guest(port, entry)
            if guest is not None:
                try:
                    self._switch.forget_open(port.name)
                    self._switch.wire(port, guest)
                    self._switch.admit([port])
                    self._configure(port, guest)
                    self._switch.open([port])
                    log.warning("healed port=%s interface=%s: %s", port.name, port.nic.interface, why)
                    metrics.healed.labels("port").inc()
                    return 1
                finally:
                    if guest.netns is not None and guest.netns is not self._switch.host:
                        guest.netns.close()
        log.warning("port=%s interface=%s: %s, and its guest with it", port.name, port.nic.interface, why)
        metrics.swept.inc()
        self._detach(key, "its port and its guest are gone")
        return 1

    def _guest(self, port: Port, entry: Entry) -> Guest | None:
        """Where the other end can be made again; None where nobody is left to be connected. A tap that is gone went
        with its hypervisor; one that is still there is only joined again."""
        if port.kind is PortKind.TAP:
            return Guest() if links.find_link(self._switch.side(port.placement.place).namespace, port.name) else None
        if port.kind is PortKind.HOST:
            return Guest(self._switch.host, routed=False)
        try:
            descriptor = os.open(entry.attachment.netns, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            namespace = Namespace.from_fd(descriptor, entry.attachment.netns)
        except (HomeportError, KernelRefused):
            return None
        finally:
            os.close(descriptor)
        if namespace.identity.inode != entry.netns_inode:
            namespace.close()
            return None
        return Guest(namespace)

    def _configure(self, port: Port, guest: Guest) -> None:
        with self._view.reading() as reading:
            interface = reading.interface(port.nic.interface)
        if interface is not None and port.kind is not PortKind.TAP:
            config = guest_config(port.nic, interface, default_route=guest.default_route)
            self._switch.configure(port, guest, config if guest.routed else replace(config, routes=()))


def _moved_on(interface: Interface | None, key: AttachmentKey, uid: str) -> bool:
    """Whether somebody else holds the Interface now. One that the store does not know (it was restored from before) is
    still ours: replay puts it back, and the kernel is believed meanwhile."""
    if interface is None or interface.meta.uid != uid:
        return False
    holder = interface.active_holder
    return holder is not None and attachment_of(holder) != key
