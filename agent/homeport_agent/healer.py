"""Reconcile, run: looks at store, journal and kernel, and has the differences repaired.

One thread. It wakes when the store or the kernel's notifications say that something may be off, and otherwise sleeps:
nothing here polls. Runs that were asked for while one is under way are one run afterwards. A repair that failed is
tried again, in growing intervals, until it succeeds or is wanted no longer.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from homeport_agent import metrics
from homeport_agent.journal import Entry, Journal
from homeport_agent.locks import KeyedLocks
from homeport_agent.placement import Place
from homeport_agent.policies import Policies, fact_of
from homeport_agent.ports import Port, guest_config, moved_on, port_of, rights_of
from homeport_agent.reconcile import Mute, Reguard, Remove, Reopen, Replug, SeenPort, Step, diff
from homeport_agent.switch import Guest, Switch
from homeport_agent.worker import TryAgain, Worker
from homeport_api.attachment import AttachmentKey, Nic, PortKind
from homeport_api.errors import HomeportError
from homeport_api.interface import Interface, InterfaceKey
from homeport_dataplane import links, marks, vlan
from homeport_dataplane.errors import KernelRefused
from homeport_dataplane.netns import Namespace
from homeport_ipam.snapshot import Snapshot
from homeport_ipam.view import View
from homeport_policy import guards
from homeport_policy.facts import PortFact
from homeport_policy.ruleset import element

log = logging.getLogger(__name__)

SETTLE = 0.02
"""Seconds between the first sign and the look: what is deleted together is healed together."""
PATIENCE = 1.0
"""Seconds that a repair waits for a call that is at work on the same attachment, while others wait for the repair."""

EndHeld = Callable[[AttachmentKey, str], None]
"""Ends an attachment whose lock the caller holds."""
Synced = Callable[[], bool]
"""Whether the view has had a full state of the store: before, that it knows no Network proves nothing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the ports of this node should be. `lost` must be silent, since their Interface is held elsewhere; `unplaced`
    have no place now (uplink gone, VLAN taken by the host), with the reason, and are left as they are."""

    ports: dict[str, Port]
    entries: dict[str, Entry]
    lost: frozenset[str]
    unplaced: dict[str, str]


class Healer(Worker):
    """`start` begins to wait for `wake`, which asks for a run."""

    def __init__(
        self,
        switch: Switch,
        view: View,
        journal: Journal,
        locks: KeyedLocks,
        end_held: EndHeld,
        synced: Synced,
        policies: Policies,
    ) -> None:
        super().__init__("heal", together=SETTLE)
        self._policies = policies
        self._switch = switch
        self._view = view
        self._journal = journal
        self._locks = locks
        self._end_held = end_held
        self._synced = synced
        self._failures = 0
        self._once = threading.Lock()

    def watches(self, key: InterfaceKey) -> bool:
        """Whether an attachment of this node has this Interface, so that its change of hands matters here."""
        return any(nic.interface == key for nic in self._nics())

    def lost(self, interface: Interface) -> bool:
        """Whether this Interface, as the store has it now, was taken from an attachment of this node."""
        return any(nic.interface == interface.key and moved_on(interface, nic) for nic in self._nics())

    def outdated(self, interface: Interface) -> bool:
        """Whether a port of this Interface here has other rights than the Interface gives it now."""
        for entry in self._journal.live():
            for nic in entry.attachment.nics:
                port = self._switch.find_plugged(marks.port_name(nic.uid, nic.epoch))
                if port is None or nic.interface != interface.key:
                    continue
                with self._view.reading() as reading:
                    network = reading.network(nic.network)
                    others = _others(reading, nic, entry)
                nics = entry.attachment.nics
                if network is not None and rights_of(nic, network, interface, nics, others) != port.rights:
                    return True
        return False

    def _nics(self) -> Iterator[Nic]:
        return (nic for entry in self._journal.live() for nic in entry.attachment.nics)

    def work(self) -> None:
        self.run()
        if self._failures:
            raise TryAgain

    def failed(self, error: Exception) -> None:
        if not isinstance(error, HomeportError):
            super().failed(error)
        self._failed("reconcile", error)

    def _failed(self, what: object, error: Exception) -> None:
        log.warning("not healed yet what=%s error=%s", what, error)
        self._failures += 1
        metrics.reconcile_failures.inc()

    def run(self) -> int:
        """One comparison with its repairs; the number of repairs. Safe beside ADD and DEL: each repair takes its
        attachment's lock and looks again."""
        with self._once, metrics.reconcile_seconds.time():
            self._failures = 0
            self._switch.forget()
            wanted = self._wanted()
            self._adopt(wanted)
            self._tell(wanted)
            repairs = sum(self._heal_side(where, wanted) for where in Place)
            for name in self._switch.finish_returned():
                log.warning("returned tap=%s: no attachment has it", name)
            if self._synced():
                for name in self._switch.remove_unused():
                    log.info("removed link=%s: no Network has it any more", name)
            return repairs

    def _wanted(self) -> Wanted:
        ports: dict[str, Port] = {}
        entries: dict[str, Entry] = {}
        lost: set[str] = set()
        unplaced: dict[str, str] = {}
        unenforced = self._policies.unenforced
        for entry in self._journal.live():
            key = entry.attachment.key
            for nic in entry.attachment.nics:
                if nic.kind is PortKind.NONE:
                    continue
                name = marks.port_name(nic.uid, nic.epoch)
                try:
                    with self._view.reading() as reading:
                        network = reading.network(nic.network)
                        interface = reading.interface(nic.interface)
                        others = _others(reading, nic, entry)
                    if network is None:
                        unplaced[name] = f"Network {nic.network} is not in the store"
                        continue
                    place = self._switch.place(network)
                    port = port_of(key, nic, network, place, interface, entry.attachment.nics, others)
                except HomeportError as error:
                    unplaced[name] = str(error)
                    continue
                ports[name], entries[name] = port, entry
                if name in unenforced or (interface is not None and moved_on(interface, nic)):
                    lost.add(name)
        return Wanted(ports, entries, frozenset(lost), unplaced)

    def _tell(self, wanted: Wanted) -> None:
        """Policies judge every port of this node, also one that has no place just now: it may be on its bridge still.
        Before all are known they change nothing."""
        for name, port in wanted.ports.items():
            self._know(wanted.entries[name], port.nic, fact_of(port))
        for entry in self._journal.live():
            for nic in entry.attachment.nics:
                name = marks.port_name(nic.uid, nic.epoch)
                if name in wanted.unplaced and nic.kind is not PortKind.NONE:
                    side = self._switch.place_of(name)
                    self._know(entry, nic, PortFact(side.value, name, nic.kind is PortKind.HOST, nic.uid, nic.epoch))
        if self._synced() and not self._journal.begun:
            self._policies.begin()

    def _know(self, entry: Entry, nic: Nic, port: PortFact) -> None:
        """A DEL may have come since the look, and have had the port forgotten already. It journals the end first, so
        either it is seen here or the port is forgotten after this."""
        self._policies.know(nic.interface, port)
        now = self._journal.find(entry.attachment.key)
        nics = now.attachment.nics if now is not None and now.ended is None else ()
        if not any(marks.port_name(each.uid, each.epoch) == port.name for each in nics):
            self._policies.forget(nic.interface, port.name)

    def _adopt(self, wanted: Wanted) -> None:
        """The switch learns of ports that it does not know (after a restart, or placed elsewhere by now), so that
        uplinks carry their VLANs. Under the attachment's lock, or a port that is being unplugged would come back."""
        for name, port in wanted.ports.items():
            if self._switch.find_plugged(name) == port:
                continue
            entry = wanted.entries[name]
            try:
                with self._locks.hold(port.key, PATIENCE):
                    if self._lives(entry):
                        is_open = not self._lost(port.nic) and name not in self._policies.unenforced
                        self._switch.adopt(self._as_of_now(port, entry), is_open=is_open)
            except HomeportError as error:
                self._failed(f"adopt {name}", error)

    def _heal_side(self, where: Place, wanted: Wanted) -> int:
        ports = {name: port for name, port in wanted.ports.items() if port.placement.place is where}
        repairs = self._heal_rules(where, used=bool(ports))
        for port in ports.values():
            try:
                self._switch.ensure_bridge(port.placement)
            except HomeportError as error:
                self._failed(f"bridge of {port.name}", error)
        seen = {name: port for name, port in self._seen(where, ports).items() if name not in wanted.unplaced}
        bridges = {name: self._switch.bridge_of(port.placement) for name, port in ports.items()}
        if where is Place.HOST:  # a port there that neither journal nor our rules name may be another agent's
            ended = {marks.port_name(nic.uid, nic.epoch) for e in self._journal.pending() for nic in e.attachment.nics}
            seen = {name: port for name, port in seen.items() if port.admitted or name in ports or name in ended}
        knows = not self._journal.begun  # one that was lost calls every port a stray
        for step in diff(ports, seen, bridges, lost=wanted.lost):
            if knows or not isinstance(step, Remove):
                repairs += self._repair(step, wanted)
        if not knows:
            return repairs
        strays = self._switch.remove_strays(where, wanted.unplaced.keys())
        if strays:
            log.warning("removed stray guard elements place=%s count=%d", where.value, strays)
            metrics.healed.labels("stray elements").inc(strays)
        return repairs + strays

    def _heal_rules(self, where: Place, *, used: bool) -> int:
        """The base chains: what is there stays, what is not is put back. On the host's side only where it has ports."""
        self._switch.forget_rules(where)
        if where is Place.HOST and not used:
            return 0
        healed = 0
        base_healed = self._switch.ensure_rules(where)
        if base_healed:
            log.warning("healed the guard rules place=%s", where.value)
            metrics.healed.labels("rules").inc()
            healed += 1
        # Before any port speaks again.
        if self._policies.restore(where, base_healed=base_healed):
            log.warning("healed the policies' rules place=%s", where.value)
            metrics.healed.labels("policies").inc()
            healed += 1
        return healed

    def _seen(self, where: Place, ports: Mapping[str, Port]) -> dict[str, SeenPort]:
        side = self._switch.side(where)
        every = links.list_links(side.namespace)
        names = {link.index: link.name for link in every}
        vlans = vlan.list_vlans(side.namespace)
        elements = self._switch.elements(where)
        return {
            link.name: SeenPort(
                link.name,
                names.get(link.master, "") if link.master is not None else "",
                mark,
                link.up,
                vlans.get(link.index, vlan.MUTED),
                element(guards.PORTS, link.name) in elements,
                link.name in ports and elements.issuperset(self._switch.guards_of(ports[link.name])),
                element(guards.SPEAKING, link.name) in elements,
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
                    isolated = port.name in self._policies.unenforced
                    why = "a policy isolates it that this kernel cannot enforce" if isolated else "held elsewhere now"
                    log.warning("muted port=%s interface=%s: %s", port.name, port.nic.interface, why)
                    self._switch.mute([port.name])
                    return 1
                case Reguard(port):
                    log.info("guards brought up to date port=%s interface=%s", port.name, port.nic.interface)
                    self._switch.reguard(port)
                    return 1
                case Reopen(port, why) | Replug(port, why):
                    return self._restore(step, port, why, wanted.entries[port.name])
        except HomeportError as error:
            self._failed(step, error)
        return 0

    def _remove(self, name: str) -> int:
        """A port that no live attachment has. One that an ADD is making is known to the switch before it exists."""
        if self._switch.plugged(name):
            return 0
        log.warning("removed stray port=%s", name)
        self._switch.unplug([name])
        metrics.healed.labels("stray port").inc()
        return 1

    def _lives(self, entry: Entry) -> bool:
        """Whether the journal has the same attachment still; under its lock."""
        now = self._journal.find(entry.attachment.key)
        return now is not None and now.ended is None and now.attachment.nics == entry.attachment.nics

    def _lost(self, nic: Nic) -> bool:
        """Whether the Interface was taken from this attachment, as of now and not as of the look that began the run."""
        with self._view.reading() as reading:
            interface = reading.interface(nic.interface)
        return interface is not None and moved_on(interface, nic)

    def _as_of_now(self, port: Port, entry: Entry) -> Port:
        """With the rights that the Interface gives now: its guest may have taken an address since the run began."""
        with self._view.reading() as reading:
            network, interface = reading.network(port.nic.network), reading.interface(port.nic.interface)
            others = _others(reading, port.nic, entry)
        if network is None:
            return port
        return replace(port, rights=rights_of(port.nic, network, interface, entry.attachment.nics, others))

    def _restore(self, step: Replug | Reopen, port: Port, why: str, entry: Entry) -> int:
        with self._locks.hold(port.key, PATIENCE):
            if not self._lives(entry) or self._lost(port.nic):
                return 0
            if isinstance(step, Reopen):
                self._reopen(port)
            elif not self._replug(port, entry):
                log.warning("port=%s interface=%s: %s, and its guest with it", port.name, port.nic.interface, why)
                metrics.swept.inc()
                self._end_held(port.key, "its port and its guest are gone")
                return 1
            if self._lost(port.nic):  # while it was opened
                self._switch.mute([port.name])
        log.warning("healed port=%s interface=%s: %s", port.name, port.nic.interface, why)
        metrics.healed.labels("port").inc()
        return 1

    def _reopen(self, port: Port) -> None:
        self._switch.forget_open(port.name)
        self._switch.admit([port])
        self._policies.require([port])
        self._switch.open([port])

    def _replug(self, port: Port, entry: Entry) -> bool:
        """False when nobody is left to be connected."""
        guest = self._guest(port, entry)
        if guest is None:
            return False
        try:
            self._switch.forget_open(port.name)
            self._switch.wire(port, guest)
            self._switch.admit([port])
            self._policies.require([port])
            self._configure(port, guest)
            self._switch.open([port])
        finally:
            if guest.netns is not None and guest.netns is not self._switch.host:
                guest.netns.close()
        return True

    def _guest(self, port: Port, entry: Entry) -> Guest | None:
        """Where the other end can be made again; None where nobody is left to be connected. A tap that is gone went
        with its hypervisor; one that is still there is only joined again."""
        if port.kind is PortKind.TAP:
            side = self._switch.side(port.placement.place)
            return None if links.find_link(side.namespace, port.name) is None else Guest(configure=False)
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
        first = port.nic == entry.attachment.nics[0]
        return Guest(namespace, default_route=entry.default_route and first)

    def _configure(self, port: Port, guest: Guest) -> None:
        with self._view.reading() as reading:
            interface = reading.interface(port.nic.interface)
        if interface is not None and guest.configure:
            config = guest_config(port.nic, interface, default_route=guest.default_route)
            self._switch.configure(port, guest, config if guest.routed else replace(config, routes=()))


def _others(reading: Snapshot, nic: Nic, entry: Entry) -> list[Interface]:
    """The Interfaces of the attachment's other NICs on the same Network."""
    keys = [each.interface for each in entry.attachment.nics if each != nic and each.network == nic.network]
    return [found for key in keys if (found := reading.interface(key)) is not None]
