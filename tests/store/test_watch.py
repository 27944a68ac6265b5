"""A follower's callback is told the store's state, whatever happens to follower, callback and store."""

import gc
import itertools
import random
import threading
import tracemalloc

import pytest

from homeport_netns_fixtures.etcd import Etcd
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Change, Delete, Put, Store
from homeport_store.watch import follow
from tests.store.conftest import World, connect
from tests.store.watching import wait_until


class Mirror:
    """What a view would be: the last value of each key, and how it was told."""

    def __init__(self) -> None:
        self.state: dict[str, bytes] = {}
        self.batches: list[tuple[Change, ...]] = []
        self.fail_at: set[int] = set()

    def apply(self, batch: tuple[Change, ...]) -> None:
        self.batches.append(batch)
        for at, change in enumerate(batch):
            if len(self.batches) in self.fail_at and at == len(batch) // 2:
                raise RuntimeError("the view failed half-way")
            if change.value is None:
                self.state.pop(change.key, None)
            else:
                self.state[change.key] = change.value


def state_of(store: Store, prefix: str) -> dict[str, bytes]:
    return {record.key: record.value for record in store.list(prefix).records}


def churn(store: Store, prefix: str, steps: int, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(steps):
        a, b = (f"{prefix}{name}" for name in chance.sample(range(12), 2))
        store.txn([], [Put(a, b"%d" % number), Delete(b)])


def test_what_is_there_and_what_comes(store: Store, world: World) -> None:
    churn(store, world.prefix, 20, 1)
    mirror = Mirror()
    follower = follow(store, world.prefix, mirror.apply)
    assert follower.synced.wait(30)
    assert mirror.state == state_of(store, world.prefix) and all(change.resync for change in mirror.batches[0])
    churn(store, world.prefix, 50, 2)
    last = store.list(world.prefix)
    wait_until(lambda: follower.revision >= max(record.mod_revision for record in last.records))
    assert mirror.state == state_of(store, world.prefix)
    wait_until(lambda: follower.stale_since is None)
    follower.close()
    told = len(mirror.batches)
    churn(store, world.prefix, 5, 3)
    assert len(mirror.batches) == told


def test_an_empty_prefix_is_synced_too(store: Store, world: World) -> None:
    mirror = Mirror()
    follower = follow(store, world.prefix, mirror.apply)
    assert follower.synced.wait(30) and mirror.batches == []
    follower.close()


def test_what_is_left_out_is_not_held_either(store: Store, world: World) -> None:
    """An agent follows all but the journal, which grows for as long as it runs."""
    mirror, journal = Mirror(), world.prefix + "journal/"
    churn(store, journal, 5, 1)
    churn(store, world.prefix, 20, 2)
    follower = follow(store, world.prefix, mirror.apply, without=journal)
    assert follower.synced.wait(30)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for start in range(0, 4000, 100):
        store.txn([], [Put(f"{journal}{number:040d}", b"") for number in range(start, start + 100)])
    last = store.txn([], [Put(world.prefix + "last", b"")]).revision
    wait_until(lambda: follower.revision == last)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    if not isinstance(store, MemoryStore):  # which has the records itself
        assert held < 4000 * 20
    left = {key: value for key, value in state_of(store, world.prefix).items() if not key.startswith(journal)}
    assert mirror.state == left
    follower.close()


@pytest.mark.parametrize("fail_at", [{1}, {2}, {3, 4}, {1, 4}], ids=str)
def test_a_callback_that_fails_is_told_again(fail_at: set[int]) -> None:
    store, mirror = MemoryStore(), Mirror()
    churn(store, "/p/", 20, 4)
    mirror.fail_at = fail_at
    follower = follow(store, "/p/", mirror.apply)
    seeds = itertools.count()

    def all_failures_are_over() -> bool:
        churn(store, "/p/", 4, next(seeds))
        return len(mirror.batches) > max(fail_at)

    wait_until(all_failures_are_over)
    store.txn([], [Put("/p/last", b"")])
    wait_until(lambda: "/p/last" in mirror.state and follower.stale_since is None)
    wait_until(lambda: mirror.state == state_of(store, "/p/"))
    follower.close()
    store.close()


def test_it_may_be_closed_from_its_callback() -> None:
    store = MemoryStore()
    store.txn([], [Put("/p/a", b"")])
    ready, told = threading.Event(), []

    def apply(batch: tuple[Change, ...]) -> None:
        ready.wait(30)
        told.append(batch)
        follower.close()

    follower = follow(store, "/p/", apply)
    ready.set()
    wait_until(lambda: bool(told))
    store.txn([], [Put("/p/b", b"")])
    follower.close()
    assert len(told) == 1


def test_a_closed_store_ends_it() -> None:
    store = MemoryStore()
    follower = follow(store, "/p/", lambda batch: None)
    assert follower.synced.wait(30)
    store.close()
    follower.close()


def test_it_waits_for_a_store_that_is_away(etcd: Etcd) -> None:
    store, mirror = connect(etcd, timeout=0.5), Mirror()
    churn(store, "/p/", 20, 5)
    etcd.kill()
    follower = follow(store, "/p/", mirror.apply)
    assert not follower.synced.wait(1) and follower.stale_since is not None
    etcd.start()
    assert follower.synced.wait(30)
    assert mirror.state == state_of(store, "/p/")
    wait_until(lambda: follower.stale_since is None)
    etcd.kill()
    wait_until(lambda: follower.stale_since is not None)
    etcd.start()
    churn(store, "/p/", 20, 6)
    wait_until(lambda: mirror.state == state_of(store, "/p/") and follower.stale_since is None)
    follower.close()
    store.close()
