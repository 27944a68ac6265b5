"""Exactly as many free addresses as racing allocators: each gets one, nobody the same, nobody a false "exhausted"."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from homeport_ipam.allocator import Allocator
from homeport_ipam.view import View
from homeport_netns_fixtures.etcd import Etcd
from homeport_store import keys
from homeport_store.etcd import EtcdStore
from homeport_store.protocol import Store
from tests.ipam.worlds import REST, World, addresses, call, network, nic

RACERS = 64


def race(store: Store, connect: Callable[[], Store], stale: bool) -> None:
    blue = network("blue", "10.0.0.0/25")
    pool = replace(blue.spec.ipam.pools[0], ranges=(addresses("10.0.0.1", f"10.0.0.{RACERS}"),))
    world = World((replace(blue, spec=replace(blue.spec, ipam=replace(blue.spec.ipam, pools=(pool,)))),), store)
    start = threading.Barrier(RACERS)
    got: dict[int, str] = {}
    failures: list[BaseException] = []

    def attach(number: int) -> None:
        mine = connect()
        view = View()
        if stale:
            view.load(mine.list(keys.PREFIX))
        allocator = Allocator(mine, view, "test", REST, time.time, random.Random(number))
        request = call(nic(f"vm{number}"), container=f"c{number}", node=f"n{number}")
        start.wait(60)
        try:
            (one,) = allocator.attach(request)
            got[number] = str(one.nic.addresses[0].ip)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=attach, args=(number,)) for number in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    assert sorted(got.values()) == sorted(f"10.0.0.{last}" for last in range(1, RACERS + 1))
    assert world.findings() == ()


@pytest.mark.parametrize("stale", [True, False], ids=["stale views", "empty views"])
def test_64_allocators_64_addresses(stale: bool) -> None:
    world = World(())
    race(world.store, lambda: world.store, stale)


def test_64_allocators_64_addresses_etcd(etcd: Etcd) -> None:
    store = EtcdStore(etcd.endpoints)
    try:
        race(store, lambda: store, stale=True)
    finally:
        store.close()
