"""A VM that is deleted and made again has what it had; one that stays away is reclaimed, by one agent of many."""

import random
import time
from collections.abc import Iterator

import pytest

from homeport_agent.sweeper import Sweeper
from homeport_api.interface import InterfaceKey
from homeport_api.wire import INTERFACE, NETWORK
from homeport_ipam import fsck
from homeport_ipam.allocator import Allocator
from homeport_ipam.view import View
from homeport_netns_fixtures.etcd import Etcd
from homeport_store import keys
from homeport_store.connect import StoreOptions, connect
from homeport_store.etcd import EtcdStore
from homeport_store.objects import Objects

from .lab import Lab, wait_until

VM = """
apiVersion: homeport.dev/v1
kind: VirtualMachine
metadata: {name: web, namespace: default}
spec:
  interfaces:
    - {name: eth0, networkName: lab}
"""


def test_a_vm_made_again_within_reclaim_after_has_what_it_had(lab: Lab) -> None:
    lab.node.homeport("apply", "-f", "-", stdin=VM)
    mine = lab.added("c1", lab.guest("one"), vm="web")
    assert lab.delete("c1").exit_code == 0
    lab.node.homeport("delete", "virtualmachine", "web")
    gone = lab.interface("web-eth0")
    assert gone is not None
    assert gone.status.orphaned is not None
    lab.node.homeport("apply", "-f", "-", stdin=VM)
    assert lab.added("c2", lab.guest("two"), vm="web") == mine
    kept = lab.interface("web-eth0")
    assert kept is not None
    assert kept.status.orphaned is None
    assert kept.meta.uid == gone.meta.uid


@pytest.fixture
def store(etcd: Etcd) -> Iterator[EtcdStore]:
    opened = connect(StoreOptions(etcd.directory, etcd.endpoints))
    yield opened
    opened.close()


MANIFEST = {
    "apiVersion": "homeport.dev/v1",
    "kind": "Network",
    "metadata": {"name": "short"},
    "spec": {"type": "L2", "ipam": {"pools": [{"cidr": "10.78.0.0/24"}], "reclaimAfter": "100ms"}},
}


def sweeper(node: str, store: EtcdStore) -> Sweeper:
    allocator = Allocator(store, View(), "homeport", 0.0, time.time, random.Random(0))
    return Sweeper(node, store, allocator, time.time, interval=0.05)


def orphan(store: EtcdStore, vm: str) -> InterfaceKey:
    """An Interface whose VM is gone."""
    allocator = Allocator(store, View(), "homeport", 0.0, time.time, random.Random(0))
    interface, _ = INTERFACE.parse(
        {
            "apiVersion": "homeport.dev/v1",
            "kind": "Interface",
            "metadata": {"name": f"{vm}-eth0", "namespace": "default"},
            "spec": {
                "networkName": "short",
                "ipAddresses": ["10.78.0.7"],
                "virtualMachineName": vm,
                "interfaceName": "eth0",
            },
        }
    )
    allocator.reserve(interface)
    assert allocator.orphan("default", vm) == (interface.key,)
    return interface.key


def test_what_stays_away_is_reclaimed_by_one_agent_and_by_another_after_it(store: EtcdStore) -> None:
    objects = Objects(store)
    objects.networks.save(NETWORK.parse(MANIFEST)[0])

    def chosen() -> str:
        record = store.get(keys.SWEEPER)
        return record.value.decode().split()[0] if record else ""

    one, two = sweeper("a", store), sweeper("b", store)
    one.start()
    wait_until(lambda: chosen() == "a", "one of them is chosen")
    two.start()
    first = orphan(store, "first")
    wait_until(lambda: objects.interfaces.find(first) is None, "reclaimed")
    assert chosen() == "a"
    one.close()
    wait_until(lambda: chosen() == "b", "the other has its place")
    second = orphan(store, "second")  # of the same address, which is free again
    wait_until(lambda: objects.interfaces.find(second) is None, "reclaimed by the other")
    two.close()
    assert fsck.judge(store.list(keys.PREFIX), time.time(), random.Random(0)) == ()


def test_what_is_held_is_never_reclaimed(lab: Lab) -> None:
    lab.apply("short", "10.78.0.0/24", ipam={"reclaimAfter": "100ms"})
    lab.node.homeport("apply", "-f", "-", stdin=VM.replace("lab", "short"))
    lab.added("c1", lab.guest("one"), vm="web", network="short")
    lab.node.homeport("delete", "virtualmachine", "web")
    allocator = Allocator(lab.store, View(), "homeport", 0.0, time.time, random.Random(0))
    time.sleep(0.2)
    assert allocator.reclaim(time.time()) == ()
    assert lab.delete("c1", network="short").exit_code == 0
    assert [str(key) for key in allocator.reclaim(time.time())] == ["default/web-eth0"]
    assert lab.findings() == []
