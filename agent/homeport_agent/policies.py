"""Policies on this node: the store's news and this node's ports in, programs in the tables out.

    store's news ──► queue ──► facts ──► compilers ──► programs ──► tables ──► flows that are allowed no longer end
                                 ▲                                     │
    ADD: a port, still closed ───┘                                     └──► read back, then the port may open

One thread works off the queue in slices; an ADD takes its turn between two of them and waits for no resync. Until the
store's first full state is here nothing is touched: what the kernel has from before stays in force, and new ports stay
closed. A state that the kernel refuses is not applied either: the last good one stays.

On a kernel that does not track bridged connections no policy can be enforced: a guest that one isolates is not
attached, and one that runs is muted.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from homeport_agent import metrics
from homeport_agent.news import News
from homeport_agent.placement import Place
from homeport_agent.ports import Port
from homeport_agent.switch import Switch
from homeport_agent.tables import Table
from homeport_agent.troubles import Troubles
from homeport_agent.worker import Worker
from homeport_api import wire
from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.attachment import PortKind
from homeport_api.errors import BadInput, HomeportError, PolicyUnsupported, Unavailable
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.meta import ObjectMeta
from homeport_api.network import Network
from homeport_api.networkpolicy import Direction, NetworkPolicy, PolicyKey, PolicyKind, PolicySpec
from homeport_policy.facts import Facts, PortFact
from homeport_policy.program import Program
from homeport_policy.snapshot import WorkloadKey
from homeport_policy.update import tightened
from homeport_store import keys
from homeport_store.protocol import Change, Record
from homeport_store.zones import ZoneRecords

log = logging.getLogger(__name__)

SLICE = 64
"""Changes that are worked off before an ADD gets its turn."""
NEWS_SECONDS, NEWS_LOOK = 5.0, 0.001
"""How long an ADD waits for the store's news of itself, which mostly has come by then; and how often it looks."""

FOLLOWED = (keys.NETWORKS, keys.INTERFACES, keys.WORKLOADS, keys.NAMESPACES, keys.POLICIES, keys.ZONES)


class EndFlows(Protocol):
    """Ends the flows of these ports that the program of their side no longer allows; how many. Takes the lock for as
    long as it looks at the facts, and not for longer than a few flows at a time."""

    def __call__(
        self, place: Place, program: Program, ports: Collection[str], facts: Facts, lock: threading.Lock, /
    ) -> int: ...


class Policies(Worker):
    """Thread-safe. `start` begins to work off what `feed` brings."""

    def __init__(
        self,
        switch: Switch,
        end_flows: EndFlows,
        heal: Callable[[], None],
        trouble: Callable[[], None],
    ) -> None:
        super().__init__("policies")
        self._switch = switch
        self._end_flows = end_flows
        self._heal = heal
        self._tracking = switch.features.bridge_conntrack
        self._lock = threading.Lock()
        self._absorbed = threading.Condition(self._lock)
        self._facts = Facts()
        self._tables = {place: Table(switch.side(place)) for place in Place}
        self._zones = ZoneRecords()
        self.troubles = Troubles(trouble, tracking=self._tracking)
        self._good: set[str] = set()
        self._unread: dict[str, PolicyKey] = {}
        self._news = News()
        self._queue: deque[Change | None] = deque()
        self._ready = threading.Event()
        self._begun = threading.Event()
        self._unenforced: frozenset[str] = frozenset()
        self._unreviewed: dict[Place, set[str]] = {place: set() for place in Place}
        self._idle = threading.Event()

    def feed(self, changes: Iterable[Change]) -> None:
        """News of the store, in order, from one thread. Costs the caller next to nothing."""
        followed = [*self._news.of(change for change in changes if change.key.startswith(FOLLOWED))]
        if followed:
            self._idle.clear()
            self._queue.extend(followed)
            self.wake()

    def synced(self) -> None:
        """The store's first full state was fed. Nothing is applied before all of it is in: half of the policies allow
        more than all. A repeat does nothing."""
        if not self._ready.is_set():
            self._idle.clear()
            self._queue.append(None)
            self.wake()

    def know(self, interface: InterfaceKey, port: PortFact) -> None:
        """A port that is there already, after a restart or when it is healed: judged with the next slice. Repeating it
        does nothing, and neither does the port of an attachment that another has taken over from."""
        with self._lock:
            if self._facts.port(interface) == port or not self._facts.is_newer(interface, port):
                return
            self._facts.put_port(interface, port)
        self.wake()

    def begin(self) -> None:
        """Every port of this node is known by now: without that, the program would lead from fewer ports than speak.
        Until then the kernel keeps what it has. A repeat does nothing."""
        if not self._begun.is_set():
            self._begun.set()
            self.wake()

    def forget(self, interface: InterfaceKey, name: str) -> None:
        """The port is gone. What led from it is harmless, and goes with the next slice. A repeat does nothing, and
        neither does the word of a port that another has taken the place of."""
        with self._lock:
            known = self._facts.port(interface)
            if known is None or known.name != name:
                return
            self._facts.put_port(interface, None)
        self.wake()

    def admit(self, ports: Sequence[Port], interfaces: Sequence[Interface]) -> None:
        """Before these ports open: the rules of their guests are in the kernel, read back. What the store took before
        this attachment, such as the guest's labels, is known by then; what it took later may be too, and stays. Raises
        Unavailable where that is not so, PolicyUnsupported where a policy isolates one and this kernel cannot."""
        self.require_known()
        with self._lock:
            for interface in interfaces:
                self._await_news(interface)
            self._leave_resync()
            before = {interface.key: self._facts.port(interface.key) for interface in interfaces}
            for port, interface in zip(ports, interfaces, strict=True):
                self._facts.put_port(interface.key, fact_of(port))
            if self._tracking:
                self._enforce(ports)
                return
            try:
                self._refuse_isolated(ports)
            except PolicyUnsupported:  # what was there before the call is there still, and goes on being judged
                for key, known in before.items():
                    self._facts.put_port(key, known)
                raise

    def prepare(
        self, networks: Sequence[Network], ensure: Callable[[Sequence[L2Domain]], Mapping[L2Domain, int]]
    ) -> None:
        """Before ports on these Networks are wired: their L2 domains have zones. `ensure` allots those that are
        missing, for Networks that were applied when there were none."""
        if not self._tracking:
            return
        domains = [network.l2_domain for network in networks if network.l2_domain is not None]
        with self._lock:
            missing = [domain for domain in domains if self._facts.zone(domain) is None]
        if missing:
            allotted = ensure(missing)
            with self._lock:
                self._put_zones({**self._facts.zones(), **allotted})

    def require(self, ports: Sequence[Port]) -> None:
        """Before ports that are known open again: their rules are in the kernel, read back. Raises Unavailable,
        PolicyUnsupported where a policy isolates one and this kernel cannot."""
        self.require_known()
        with self._lock:
            self._leave_resync()
            if self._tracking:
                self._enforce(ports)
            else:
                self._refuse_isolated(ports)

    def require_known(self) -> None:
        """Raises Unavailable until the store's first state and this node's ports are known."""
        if not self._active:
            raise Unavailable("what policies say is not known yet: the store has not answered since the start")

    def restore(self, place: Place, *, base_healed: bool) -> bool:
        """The table of a side may have been changed by others: puts back what is missing; True if something was.
        `base_healed`: of the rules that lead to the policies' own something was missing, and is back."""
        if not (self._active and self._tracking):
            return False
        with self._lock:
            self._leave_resync()
            self._tables[place].doubt()
            changed = self._update(place)
            if changed or base_healed:  # meanwhile flows may have begun that would not have been let
                self._unreviewed[place] |= self._tables[place].program.ports
                self.wake()
            return changed

    def _await_news(self, interface: Interface) -> None:
        """Until what the store took before this Interface's attachment is known. Takes in what waits in the queue, for
        the thread may be at work on flows. Under the lock, which is free while there is nothing to take."""
        end = time.monotonic() + NEWS_SECONDS
        while not self._has_come(interface):
            if self._queue:
                self._absorb_next()
                self.wake()
            elif time.monotonic() > end:
                raise Unavailable(f"the store has not told of the attachment of {interface.key} yet: try again")
            else:
                self._absorbed.wait(NEWS_LOOK)

    def _has_come(self, interface: Interface) -> bool:
        known = self._facts.interface(interface.key)
        return (
            known is not None and known.meta.uid == interface.meta.uid and known.status.epoch >= interface.status.epoch
        )

    def _leave_resync(self) -> None:
        """Between the beginning of a list and its end, what is known is of two times. Under the lock."""
        while self._in_resync():
            self._absorb_next()

    def _in_resync(self) -> bool:
        return bool(self._queue) and (change := self._queue[0]) is not None and change.resync

    def _absorb_next(self) -> None:
        change = self._queue.popleft()
        if change is None:
            self._ready.set()
        else:
            self._absorb(change)

    @property
    def _active(self) -> bool:
        return self._ready.is_set() and self._begun.is_set()

    def wait_ready(self, seconds: float) -> bool:
        """Whether the store's first state is known, within that time."""
        return self._ready.wait(seconds)

    def wait_idle(self, seconds: float) -> bool:
        """Whether everything that was fed is in the kernel, within that time."""
        return self._idle.wait(seconds)

    @property
    def unenforced(self) -> frozenset[str]:
        """Ports that must be mute, since a policy isolates their guests and this kernel cannot."""
        return self._unenforced

    def program(self, place: Place) -> Program:
        """What the kernel was last given."""
        return self._tables[place].program

    @property
    def facts(self) -> Facts:
        """To be looked at under `lock`."""
        return self._facts

    def workload_of(self, interface: InterfaceKey) -> WorkloadKey | None:
        """Whose an Interface is; None when it is not known."""
        with self._lock:
            endpoints = self._facts.endpoints_of(interface)
        return endpoints[0].workload if endpoints else None

    def users_of(self, domain: L2Domain, address: IpAddress) -> frozenset[InterfaceKey]:
        """Whoever has an address in a domain or is allowed to use it."""
        with self._lock:
            return frozenset(each.key.interface for each in self._facts.owners(domain, address))

    @property
    def lock(self) -> threading.Lock:
        return self._lock

    # The thread

    def work(self) -> None:
        while self._work_off():
            time.sleep(0)  # an ADD that waits gets its turn
        for place in Place:
            self._review(place)
        if not self._queue:
            self._idle.set()

    def failed(self, error: Exception) -> None:
        metrics.policy_failures.inc()
        if isinstance(error, HomeportError):
            log.warning("policies are not as they should be, the last good state stays error=%s", error)
        else:
            log.error("policies are not as they should be, for a reason nobody foresaw", exc_info=error)

    def _work_off(self) -> bool:
        """One slice; True while there is more."""
        with self._lock, metrics.policy_seconds.time():
            for _ in range(min(SLICE, len(self._queue))):
                self._absorb_next()
            self._absorbed.notify_all()
            if self._in_resync():
                return True
            if self._active and self._tracking:
                for place in Place:
                    self._update(place)
            elif self._active:
                self._mute_isolated()
        return bool(self._queue)

    def _absorb(self, change: Change) -> None:
        try:
            self._put(change)
        except Exception as error:  # noqa: BLE001  whatever is wrong with it, it is not understood
            metrics.policy_failures.inc()
            log.error("cannot be read, the last good state stays: key=%s error=%s", change.key, error)
            if change.key.startswith(keys.POLICIES):
                kept = change.key in self._good
                self.troubles.unreadable(change.key, error, kept=kept)
                if not kept:
                    self._isolate_all(change.key)
            self._doubt(change.key)

    def _doubt(self, path: str) -> None:
        """Labels that were never read may be any: the guest is isolated by whatever policy is there, and nobody's
        peer."""
        match keys.split(path, keys.PREFIX):
            case "workloads", namespace, name:
                self._facts.doubt_workload(InterfaceKey(namespace, name))
            case "namespaces", name:
                self._facts.doubt_namespace(name)
            case _:  # what else cannot be read has other ways, or no meaning
                pass

    def _isolate_all(self, path: str) -> None:
        """A policy that was never read may isolate anybody in its namespace, so all are, until it can be read or is
        deleted."""
        namespace = keys.split(path, keys.POLICIES)[0]
        meta, spec = ObjectMeta(f"unreadable {path}", namespace), PolicySpec(types=frozenset(Direction))
        policy = NetworkPolicy(PolicyKind.NETWORK_POLICY, meta, spec, everywhere=True)
        self._unread[path] = policy.key
        self._facts.put_policy(policy.key, policy)

    def _put(self, change: Change) -> None:
        key, value, revision = change.key, change.value, change.mod_revision
        if key.startswith(keys.INTERFACES):
            namespace, name = keys.split(key, keys.INTERFACES)
            interface = None if value is None else wire.INTERFACE.stored.loads(value, revision)
            self._facts.put_interface(InterfaceKey(namespace, name), interface)
        elif key.startswith(keys.NETWORKS):
            (name,) = keys.split(key, keys.NETWORKS)
            self._facts.put_network(name, None if value is None else wire.NETWORK.stored.loads(value, revision))
        elif key.startswith(keys.WORKLOADS):
            namespace, name = keys.split(key, keys.WORKLOADS)
            labelled = None if value is None else wire.WORKLOAD.loads(value, revision)
            self._facts.put_workload(InterfaceKey(namespace, name), labelled)
        elif key.startswith(keys.NAMESPACES):
            (name,) = keys.split(key, keys.NAMESPACES)
            self._facts.put_namespace(name, None if value is None else wire.NAMESPACE.stored.loads(value, revision))
        elif key.startswith(keys.POLICIES):
            self._put_policy(key, None if value is None else wire.POLICY.loads(value, revision))
        else:
            self._zones.put(key, None if value is None else Record(key, value, change.create_revision, revision))
            self._put_zones(self._zones.settled())

    def _put_policy(self, path: str, policy: NetworkPolicy | None) -> None:
        """None: deleted. Of one that could never be read, that ends what stands in for it, whatever its path says."""
        if policy is not None or path in self._good:
            namespace, kind, name = keys.split(path, keys.POLICIES)
            key = PolicyKey(namespace, PolicyKind(kind), name)
            if policy is not None and policy.key != key:
                raise BadInput(f"what is stored there is {policy.key}")
            self._facts.put_policy(key, policy)
            (self._good.discard if policy is None else self._good.add)(path)
        if (stood_in := self._unread.pop(path, None)) is not None:
            self._facts.put_policy(stood_in, None)
        self.troubles.readable(path)

    def _review(self, place: Place) -> None:
        """Looks through the flows of ports whose policies allow less than before; until then the kernel asks for each
        of their packets."""
        with self._lock:
            ports, self._unreviewed[place] = self._unreviewed[place], set()
            program = self._tables[place].program
        if not ports:
            return
        try:
            ended = self._end_flows(place, program, ports, self._facts, self._lock)
        except BaseException:
            with self._lock:
                self._unreviewed[place] |= ports
            raise
        with self._lock:
            self._tables[place].judged(ports - self._unreviewed[place])
        if ended:
            log.info("ended flows that are allowed no longer place=%s flows=%d", place.value, ended)
            metrics.flows_ended.inc(ended)

    # Under the lock

    def _put_zones(self, zones: Mapping[L2Domain, int]) -> None:
        if zones != self._facts.zones():
            self._facts.put_zones(zones)
            self._switch.put_zones(zones)
            self._heal()  # ports that speak already have them from then on

    def _update(self, place: Place) -> bool:
        compiler = self._facts.compilers.get(place.value)
        if compiler is None:
            return False
        if not self._switch.tracks(place):
            if not compiler.program().ports:
                return False
            self._switch.track(place)
            self._heal()  # ports there have zones from then on
        table = self._tables[place]
        before, program, first = table.program, None, not table.applied
        try:
            program = compiler.program()
            ports = tightened(before, program) if program is not before else frozenset()
            changed = table.apply(program, ports)
        except Exception as error:
            self.troubles.refused(place, error, before, program)
            raise
        self.troubles.applied(place)
        if first:  # an agent before this one may have ended in between
            ports |= table.marked()
        if ports and (changed or first):
            self._unreviewed[place] |= ports
            self.wake()
        return changed

    def _enforce(self, ports: Sequence[Port]) -> None:
        """What policies say of these ports is in the kernel, read back. Raises Unavailable."""
        for place in {port.placement.place for port in ports}:
            self._update(place)
            self._read_back(place, [port.name for port in ports if port.placement.place is place])

    def _read_back(self, place: Place, names: Collection[str]) -> None:
        program = self._tables[place].program
        wanted = {each: program.isolated(each) for each in Direction}
        if not any(name in leads for leads in wanted.values() for name in names):
            return
        there = self._tables[place].leads()
        for direction, leads in wanted.items():
            for name in names:
                if there[direction.value.lower()].get(name) != leads.get(name):
                    self._tables[place].doubt()
                    raise Unavailable(f"the policies of port {name} are not in the kernel: try again")

    def _isolated(self) -> Mapping[str, InterfaceKey]:
        """The ports that some policy isolates."""
        found: dict[str, InterfaceKey] = {}
        for compiler in self._facts.compilers.values():
            program = compiler.program()
            names = program.egress.keys() | program.ingress.keys()
            found |= {port.name: key for key, port in self._facts.ports().items() if port.name in names}
        return found

    def _refuse_isolated(self, ports: Sequence[Port]) -> None:
        isolated = self._isolated()
        for port in ports:
            if port.name in isolated:
                raise PolicyUnsupported(
                    f"a policy isolates Interface {port.nic.interface}, and this node's kernel does not track bridged "
                    "connections (CONFIG_NF_CONNTRACK_BRIDGE): use a kernel that does, or take the policy away"
                )

    def _mute_isolated(self) -> None:
        isolated = self._isolated()
        names = frozenset(isolated)
        for name in names - self._unenforced:
            log.error(
                "muted port=%s interface=%s: a policy isolates it, and this kernel does not track bridged connections",
                name,
                isolated[name],
            )
        changed, self._unenforced = names != self._unenforced, names
        metrics.policy_unenforced.set(len(names))
        if changed:
            self._heal()


def fact_of(port: Port) -> PortFact:
    return PortFact(port.placement.place.value, port.name, port.kind is PortKind.HOST, port.nic.uid, port.nic.epoch)
