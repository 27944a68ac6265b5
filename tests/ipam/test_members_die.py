"""Random work of three nodes against three etcd members, some of which are killed or silenced on the way.

What each node does, and when which member goes and comes back, is drawn anew in every run; a plan that fails is printed
whole. How the nodes' calls fall between one another is the machine's own chance, so nothing is shrunk.

While a plan runs, an Interface's MAC never changes, nor its address unless it was released; a VM's that nobody released
stays the same one; and the pool, which has room for all, is never "exhausted". In the end nothing is doubled or leaked.
"""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from homeport_api.addresses import IpInterface, MacAddress
from homeport_api.attachment import AttachedNic, AttachRequest
from homeport_api.errors import Held, InUse, NotFound, Unavailable
from homeport_api.interface import InterfaceKey
from homeport_ipam.allocator import Allocator
from homeport_ipam.view import View
from homeport_netns_fixtures.etcd import Etcd
from homeport_store import keys
from homeport_store.etcd import EtcdStore
from homeport_store.protocol import Delete
from homeport_store.watch import Follower
from tests.ipam.worlds import World, call, network, nic
from tests.store.conftest import tls_of

NODES = 3
LASTING = 12  # VMs that nobody releases
VMS = 18
RELEASABLE = {f"vm{number}-eth0" for number in range(LASTING, VMS)}
PODS = 4  # of each node: 30 in all, and 30 addresses
PLANS = 8
STEPS = 40  # of each node
SILENCE = 0.7  # seconds that a member, or two, are away

Step = tuple[str, int, int]
Fault = tuple[int, int, str]

_verb = st.sampled_from(
    ["attach"] * 5 + ["end"] * 3 + ["take over", "pod", "pod", "end pod", "release", "delete", "restart"]
)
_step = st.tuples(_verb, st.integers(0, VMS - 1), st.integers(0, 1))
_steps = st.lists(_step, min_size=STEPS, max_size=STEPS)
_fault = st.tuples(st.integers(0, NODES * STEPS), st.integers(0, 2), st.sampled_from(["kill", "pause", "kill two"]))


@dataclass
class Told:
    """What callers were told; every answer is held against those before it."""

    uids: dict[InterfaceKey, str] = field(default_factory=dict)
    answers: dict[str, tuple[object, ...]] = field(default_factory=dict)

    def hear(self, one: AttachedNic) -> None:
        nic = one.nic
        self.hold(nic.interface, nic.uid, nic.mac, nic.addresses)
        if not releasable(nic.interface) and nic.interface.name.startswith("vm"):
            assert self.uids.setdefault(nic.interface, nic.uid) == nic.uid

    def hold(self, key: InterfaceKey, uid: str, mac: MacAddress | None, addresses: tuple[IpInterface, ...]) -> None:
        now = (key, mac, () if releasable(key) else addresses)
        assert self.answers.setdefault(uid, now) == now


def releasable(key: InterfaceKey) -> bool:
    return key.name in RELEASABLE


class Node(threading.Thread):
    def __init__(self, number: int, store: EtcdStore, steps: list[Step], told: Told) -> None:
        super().__init__(name=f"node-{number}", daemon=True)
        self.node = f"n{number}"
        self.store, self.steps, self.told = store, steps, told
        self.chance = random.Random(number)
        self.taken = 0
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self.view = View()
        self.follower = Follower(store, keys.PREFIX, self.view.feed)
        self.allocator = self.begin()

    def begin(self) -> Allocator:
        return Allocator(self.store, self.view, "test", 0.0, time.time, self.chance)

    def run(self) -> None:
        self.follower.start()
        try:
            for step in self.steps:
                try:
                    self.take(*step)
                    self.done[step[0]] += 1
                except (Held, InUse, NotFound, Unavailable) as refusal:  # tried again some time, as a runtime would
                    self.done[type(refusal).__name__] += 1
                self.taken += 1
        except BaseException as failure:
            self.failure = failure
        finally:
            self.taken = len(self.steps)
            self.follower.close()

    def take(self, verb: str, which: int, container: int) -> None:
        vm = call(nic(f"vm{which}"), container=f"c{container}", node=self.node)
        number = which % PODS
        pod = call(nic(f"{self.node}-pod{number}", ephemeral=True), container=f"p{number}", node=self.node)
        loose = InterfaceKey("shop", f"vm{LASTING + which % (VMS - LASTING)}-eth0")
        match verb:
            case "attach":
                self.attach(vm)
            case "take over":
                self.attach(call(*vm.nics, container="c9", node=self.node, take_over=True))
            case "end":
                self.allocator.end(vm.key, "DEL")
            case "pod":
                self.attach(pod)
            case "end pod":
                self.allocator.end(pod.key, "DEL")
            case "release":
                self.allocator.release(loose, "operator")
            case "delete":
                self.allocator.delete_interface(loose, "operator")
            case _:
                self.restart(blind=bool(container))

    def attach(self, request: AttachRequest) -> None:
        (one,) = self.allocator.attach(request)
        self.told.hear(one)

    def restart(self, *, blind: bool) -> None:
        """As an agent does: with a new view, which is filled while it works (`blind`) or before."""
        self.follower.close()
        self.view = View()
        if not blind:
            self.view.load(self.store.list(keys.PREFIX))
        self.follower = Follower(self.store, keys.PREFIX, self.view.feed)
        self.follower.start()
        self.allocator = self.begin()


def strike(etcd: Etcd, nodes: list[Node], faults: list[Fault]) -> None:
    """Each fault when the nodes have taken so many steps together; all members are well again in the end."""
    for at, which, how in sorted(faults):
        while sum(node.taken for node in nodes) < at:
            time.sleep(0.002)
        struck = [etcd.members[which]]
        if how == "kill two":
            struck.append(etcd.members[which - 1])
        for member in struck:
            member.pause() if how == "pause" else member.kill()
        time.sleep(SILENCE)
        for member in struck:
            member.resume() if how == "pause" else member.start()
        for member in struck:
            member.wait_ready()


def wiped(store: EtcdStore) -> World:
    records = store.list(keys.PREFIX).records
    for at in range(0, len(records), 100):
        assert store.txn([], [Delete(record.key) for record in records[at : at + 100]]).applied
    return World((network("blue", "10.0.0.0/27"),), store)


@settings(
    max_examples=PLANS,
    phases=(Phase.explicit, Phase.generate),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(plans=st.tuples(_steps, _steps, _steps), faults=st.lists(_fault, min_size=1, max_size=3))
def test_members_die_under_three_nodes(etcd_three: Etcd, plans: tuple[list[Step], ...], faults: list[Fault]) -> None:
    def connect(first: int) -> EtcdStore:
        endpoints = [*etcd_three.endpoints[first:], *etcd_three.endpoints[:first]]
        return EtcdStore(endpoints, tls_of(etcd_three), timeout=5)

    stores = [connect(number) for number in range(NODES)]
    try:
        world = wiped(stores[0])
        told = Told()
        nodes = [Node(number, stores[number], list(steps), told) for number, steps in enumerate(plans)]
        for node in nodes:
            node.start()
        strike(etcd_three, nodes, faults)
        for node in nodes:
            node.join(60)
            assert not node.is_alive()
            assert node.failure is None, node.failure
        print(faults, [dict(node.done) for node in nodes])
        require_sound(world, told)
    finally:
        for store in stores:
            store.close()


def require_sound(world: World, told: Told) -> None:
    assert world.findings() == ()
    interfaces = world.objects.interfaces.list()
    addresses = [address for interface in interfaces for address in interface.status.addresses]
    macs = [interface.status.mac for interface in interfaces if interface.status.mac]
    assert len(set(addresses)) == len(addresses) == len(world.owners())
    assert len(set(macs)) == len(macs)
    for interface in interfaces:
        if interface.meta.uid in told.answers:
            told.hold(interface.key, interface.meta.uid, interface.status.mac, interface.status.addresses)
    for key, uid in told.uids.items():
        assert world.interface(key.name).meta.uid == uid
