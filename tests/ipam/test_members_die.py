"""Three nodes at random work against three etcd members, each of which is killed in turn.

While it runs, a VM's address and MAC never change, and the pool, which has room for all, is never "exhausted"; in the
end nothing is doubled and nothing has leaked.
"""

import random
import threading
import time
from collections import Counter

from homeport_api.errors import Held, Unavailable
from homeport_api.interface import InterfaceKey
from homeport_ipam.allocator import Allocator
from homeport_ipam.view import View
from homeport_netns_fixtures.etcd import Etcd
from homeport_store import keys
from homeport_store.etcd import EtcdStore
from homeport_store.watch import Follower
from tests.ipam.worlds import World, call, network, nic
from tests.store.conftest import tls_of

NODES = 3
VMS = 18
PODS = 4  # of each node: 30 in all, and 30 addresses


class Node(threading.Thread):
    def __init__(self, number: int, store: EtcdStore, told: dict[InterfaceKey, tuple[object, ...]]) -> None:
        super().__init__(name=f"node-{number}", daemon=True)
        self.node = f"n{number}"
        self.chance = random.Random(number)
        self.view = View()
        self.follower = Follower(store, keys.PREFIX, self.view.feed)
        self.allocator = Allocator(store, self.view, "test", 2.0, time.time, self.chance)
        self.told = told
        self.stop = threading.Event()
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def run(self) -> None:
        self.follower.start()
        try:
            while not self.stop.is_set():
                try:
                    self.done[self.act()] += 1
                except (Held, Unavailable) as refusal:
                    self.done[type(refusal).__name__] += 1
        except BaseException as failure:
            self.failure = failure
        finally:
            self.follower.close()

    def act(self) -> str:
        """One call; what is refused for want of the store is tried again some time, as a runtime would."""
        vm = call(nic(f"vm{self.chance.randrange(VMS)}"), container=f"c{self.chance.randrange(2)}", node=self.node)
        number = self.chance.randrange(PODS)
        pod = call(nic(f"{self.node}-pod{number}", ephemeral=True), container=f"p{number}", node=self.node)
        match self.chance.randrange(6):
            case 0 | 1:
                self.attach_vm(vm)
                return "vm attached"
            case 2:
                self.allocator.end(vm.key, "DEL")
                return "vm ended"
            case 3:
                self.allocator.attach(pod)
                return "pod attached"
            case 4:
                self.allocator.end(pod.key, "DEL")
                return "pod ended"
            case _:
                self.attach_vm(call(*vm.nics, container="c9", node=self.node, take_over=True))
                return "taken over"

    def attach_vm(self, request: object) -> None:
        (one,) = self.allocator.attach(request)  # type: ignore[arg-type]
        now = (one.nic.uid, one.nic.addresses, one.nic.mac)
        assert self.told.setdefault(one.nic.interface, now) == now


def test_members_die_under_three_nodes(etcd_three: Etcd) -> None:
    def connect(first: int) -> EtcdStore:
        endpoints = [*etcd_three.endpoints[first:], *etcd_three.endpoints[:first]]
        return EtcdStore(endpoints, tls_of(etcd_three), timeout=5)

    stores = [connect(number) for number in range(NODES)]
    world = World((network("blue", "10.0.0.0/27"),), stores[0])
    told: dict[InterfaceKey, tuple[object, ...]] = {}
    nodes = [Node(number, store, told) for number, store in enumerate(stores)]
    for node in nodes:
        node.start()
    for member in etcd_three.members:
        time.sleep(0.5)
        member.kill()
        time.sleep(0.5)
        member.start()
        member.wait_ready()
    for node in nodes:
        node.stop.set()
    for node in nodes:
        node.join(60)
        assert not node.is_alive()
        assert node.failure is None, node.failure
    print([dict(node.done) for node in nodes])
    assert all(node.done[verb] for node in nodes for verb in ("vm attached", "vm ended", "pod attached", "pod ended"))
    assert world.findings() == ()
    interfaces = world.objects.interfaces.list()
    addresses = [address for interface in interfaces for address in interface.status.addresses]
    assert len(set(addresses)) == len(addresses) == len(world.owners())
    for interface in interfaces:
        if interface.key in told:
            status = interface.status
            assert told[interface.key] == (interface.meta.uid, status.addresses, status.mac)
    for store in stores:
        store.close()
