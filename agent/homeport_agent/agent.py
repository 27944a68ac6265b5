"""The agent, put together: what starts in which order, and what the parts tell one another.

    options ─► embedded etcd ─► store ─► node registered ─► view followed ─► switch ─► healed once ─► socket open
                                              │                                          ▲
                                              └── store away: the journal and the kernel ┘ are enough to serve DEL

Nothing that runs here outlives `stop` but the switch itself, with every guest on it.
"""

import logging
import threading
import time
from collections.abc import Sequence
from functools import partial
from random import SystemRandom

from homeport_agent import metrics
from homeport_agent.attach import GAVE_UP, Attacher
from homeport_agent.calls import Calls
from homeport_agent.commands import Node
from homeport_agent.conflicts import Conflicts
from homeport_agent.counters import PolicyCollector
from homeport_agent.doctor import Doctor
from homeport_agent.droplog import DropLog
from homeport_agent.events import Events
from homeport_agent.flows import FlowEnder
from homeport_agent.healer import Healer
from homeport_agent.health import HealthServer
from homeport_agent.heartbeat import Heartbeat
from homeport_agent.journal import Journal
from homeport_agent.learner import Learner
from homeport_agent.locks import KeyedLocks
from homeport_agent.machine import read_boot_id, read_machine_id
from homeport_agent.options import AgentOptions
from homeport_agent.placement import Place
from homeport_agent.policies import Policies
from homeport_agent.readiness import Readiness
from homeport_agent.remains import Remains
from homeport_agent.replay import Replayer
from homeport_agent.reports import Reporter
from homeport_agent.requests import Requests
from homeport_agent.server import Server
from homeport_agent.settle import Epochs, Settler
from homeport_agent.steps import Hook
from homeport_agent.sweeper import Sweeper
from homeport_agent.switch import Switch
from homeport_agent.tracer import Tracer
from homeport_api import wire
from homeport_api.attachment import AttachmentKey
from homeport_api.errors import BadInput, HomeportError, Unavailable
from homeport_api.interface import InterfaceKey
from homeport_api.network import Network
from homeport_api.node import NodeRecord
from homeport_ipam.allocator import Allocator
from homeport_ipam.view import View
from homeport_store import keys
from homeport_store.connect import StoreOptions, connect
from homeport_store.embedded import EmbeddedEtcd
from homeport_store.objects import Objects
from homeport_store.protocol import Change
from homeport_store.watch import Follower
from homeport_store.zones import ensure_zones

log = logging.getLogger(__name__)

FIRST_STATE = 10.0
"""Seconds that a start waits for the store's first state; later it comes by itself."""


class Agent:
    """`start` returns when requests are served, `stop` when none is at work any more."""

    def __init__(self, options: AgentOptions, hook: Hook) -> None:
        self._options = options
        self.boot_id = read_boot_id(options.boot_id)
        self.machine_id = read_machine_id(options.machine_id, options.data_dir)
        self._store_options = StoreOptions(
            options.data_dir, options.etcd_endpoints, options.cacert, options.cert, options.key
        )
        self._etcd = EmbeddedEtcd(options.data_dir) if self._store_options.is_embedded else None
        self._store = connect(self._store_options)
        self._journal = Journal(options.data_dir)
        for key in self._journal.disown(options.node_name, self.boot_id):
            log.warning("forgot an attachment of another node, whose journal this was key=%s", key)
        self._view = View()
        self._locks = KeyedLocks()
        self._hook = hook
        self._allocator = Allocator(
            self._store, self._view, options.cluster_name, options.rest, time.time, SystemRandom()
        )
        self._follower = Follower(self._store, keys.PREFIX, self._feed, without=keys.JOURNAL)
        self._remains = Remains(
            options.node_name,
            self.boot_id,
            self._store,
            self._journal,
            self._locks,
            lambda name: self._switch.has_port(name),
            lambda: self._healer.wake(),
            self._allocator.put_back,
        )
        self._settler = Settler(
            self._journal, self._locks, self._end, self._store_up, self._remains.end_unanswered, hook
        )
        self._heartbeat = Heartbeat(
            self._store,
            NodeRecord(
                options.node_name,
                self.machine_id,
                self.boot_id,
                time.time(),
                run_dir=str(options.run_dir.absolute()),
            ),
            options.heartbeat,
        )
        self._ready = threading.Event()

    def start(self) -> None:
        """Raises what makes a start impossible: another machine has the node's name, a directory is not ours to write,
        etcd cannot be started. A store that is out of reach is none of these."""
        try:
            self._start()
        except BaseException:
            if self._etcd is not None:
                self._etcd.stop()
            raise

    def _start(self) -> None:
        options = self._options
        if self._etcd is not None:
            self._etcd.start()
        registered = self._register()
        self._heartbeat.start()
        self._switch = Switch(options.switch_namespace, self._networks)
        self._switch.start()
        end_flows = FlowEnder(lambda place: self._switch.side(place).namespace)
        self._policies = Policies(self._switch, end_flows, lambda: self._healer.wake(), lambda: self._reporter.wake())
        self._switch.on_gone(lambda port: self._policies.forget(port.nic.interface, port.name))
        self._drops = DropLog(self._switch, self._policies)
        self._collector = PolicyCollector(self._switch, self._policies, metrics.REGISTRY)
        self._readiness = Readiness(
            self._view, lambda: self._follower.stale_since, self._switch.check, options.store_grace, time.monotonic
        )
        self._conflicts = Conflicts(self._switch.namespace, Objects(self._store))
        self._learner = Learner(
            self._switch,
            self._view,
            self._allocator,
            self._policies.users_of,
            self._store_up,
            lambda port, address: self._conflicts.ask([port], address),
            options.learned_idle,
        )
        attacher = Attacher(
            self._allocator,
            self._view,
            self._switch,
            self._journal,
            self._settler,
            self._locks,
            self._hook,
            self._policies,
            partial(ensure_zones, self._store),
            self._conflicts.ask,
            lambda: self._healer.wake(),
        )
        synced = self._follower.synced.is_set
        self._healer = Healer(
            self._switch, self._view, self._journal, self._locks, attacher.detach_held, synced, self._policies
        )
        self._events = Events(self._switch, self._kernel_changed)
        self._reporter = Reporter(options.node_name, self._store, self._switch, self._networks, self._policies)
        self._sweeper = Sweeper(options.node_name, self._store, self._allocator, time.time)
        self._replayer = Replayer(
            self._store,
            options.data_dir,
            self._journal,
            self._locks,
            self._allocator,
            self._heartbeat,
            options.restore_wait,
            self._healer.wake,
        )
        self._policies.start()
        self._follower.start()
        if not (registered and self._follower.synced.wait(FIRST_STATE)):
            log.warning("no state from the store yet: what runs is left as it is, and DEL works")
        else:
            self._policies.synced()
            self._policies.wait_ready(FIRST_STATE)
        self._events.start()
        self._drops.start()
        self._replayer.judge(store_up=registered)
        self._replayer.start()
        self._remains.end_of_before()
        if self._follower.synced.is_set():
            self._end_unanswered()
        self._healer.run()
        self._healer.start()
        self._settler.start()
        self._settler.wake()
        self._reporter.start()
        self._sweeper.start()
        self._conflicts.start()
        self._learner.start()
        node = Node(
            options.node_name,
            self.boot_id,
            attacher,
            self._switch,
            self._view,
            self._journal,
            self._readiness,
            self._hook,
        )
        doctor = Doctor(
            options.node_name,
            self._store,
            self._view,
            self._switch,
            self._journal,
            self._policies,
            lambda: self._follower.stale_since,
        )
        tracer = Tracer(options.node_name, self._switch, self._policies)
        self._calls = Calls(node, Requests(node, doctor, tracer))
        self._server = Server(
            options.socket_path, self._calls.handle, self._calls.refuse, options.max_requests, options.queue_deadline
        )
        self._health = HealthServer(options.http_path, options.http_address, self._missing, self._refresh)
        self._server.start()
        self._ready.set()
        self._healer.wake()  # the store may have had news since the look above, and nobody was told
        self._reporter.wake()
        log.info("ready node=%s boot_id=%s socket=%s", options.node_name, self.boot_id, options.socket_path)

    def _register(self) -> bool:
        try:
            self._heartbeat.register()
        except Unavailable as error:
            log.warning("started without the store error=%s", error)
            return False
        return True

    def _end(self, key: AttachmentKey, reason: str, epochs: Epochs | None) -> None:
        if reason == GAVE_UP and epochs is None:
            self._allocator.end_unanswered(key, reason)
        else:
            self._allocator.end(key, reason, epochs)

    def _end_unanswered(self) -> None:
        try:
            self._remains.end_unanswered()
        except HomeportError as error:
            log.warning("remains are looked for later error=%s", error)

    def stop(self) -> None:
        """In the order that leaves nothing half done: no new request, then the threads, then the store."""
        self._ready.clear()
        for part in (
            self._server,
            self._health,
            self._collector,
            self._events,
            self._healer,
            self._drops,
            self._learner,
            self._policies,
            self._conflicts,
            self._replayer,
            self._sweeper,
            self._reporter,
            self._settler,
            self._heartbeat,
            self._follower,
            self._switch,
            self._journal,
            self._store,
        ):
            part.close()
        if self._etcd is not None:
            self._etcd.stop()

    def _feed(self, changes: tuple[Change, ...]) -> None:
        """One batch of the store's news: into the view, and to whoever acts on it."""
        self._view.feed(changes)
        self._policies.feed(changes)
        if any(change.resync for change in changes):  # the first time, it is all there is
            self._policies.synced()
        if not self._ready.is_set():
            return
        for change in changes:
            if change.key.startswith(keys.NETWORKS) or change.resync:
                self._healer.wake()
                self._reporter.wake()
            elif change.key.startswith(keys.INTERFACES) and self._concerns(change):
                self._healer.wake()
            if change.resync:
                self._settler.wake()
                self._reporter.doubt()
            if change.resync or change.key == keys.GENERATION:
                self._replayer.wake()

    def _concerns(self, change: Change) -> bool:
        """Whether an Interface that this node has attached was taken from it, or gives its guest other rights: every
        ADD and DEL is told here, this node's own too."""
        if change.value is None:
            return False
        try:
            namespace, name = keys.split(change.key, keys.INTERFACES)
            if not self._healer.watches(InterfaceKey(namespace, name)):
                return False
            interface = wire.INTERFACE.stored.loads(change.value, change.mod_revision)
            return self._healer.lost(interface) or self._healer.outdated(interface)
        except (BadInput, ValueError) as error:
            log.warning("ignored: key=%s error=%s", change.key, error)
            return False

    def _kernel_changed(self, place: Place) -> None:
        self._healer.wake()
        if place is Place.HOST:
            self._reporter.wake()

    def _networks(self) -> Sequence[Network]:
        return self._view.networks()

    def _store_up(self) -> bool:
        return self._follower.stale_since is None

    def _missing(self) -> str | None:
        if not self._ready.is_set():
            return "starting"
        if not self._follower.synced.is_set():
            return "the store has not answered since the start"
        return None

    def _refresh(self) -> None:
        metrics.requests_busy.set(self._server.busy)
        metrics.requests_waiting.set(self._server.waiting)
        metrics.attachments.set(len(self._journal.live()))
        metrics.pending.set(len(self._journal.pending()))
        metrics.store_up.set(1 if self._store_up() else 0)
