"""What each verb costs over etcd on a unix socket: `python -m tests.store.measure` prints what docs/store.md has."""

import statistics
import threading
import time
from collections.abc import Callable

from homeport_netns_fixtures.etcd import etcd_member
from homeport_store.etcd import EtcdStore
from homeport_store.memory import MemoryStore
from homeport_store.protocol import PrefixEmpty, Put, Store, Unchanged
from tests.store.conftest import connect

VALUE = b"x" * 200
SECONDS = 3.0


def measure(name: str, act: Callable[[int], object], times: int) -> None:
    took = []
    for number in range(times):
        began = time.perf_counter()
        act(number)
        took.append((time.perf_counter() - began) * 1e6)
    took.sort()
    print(f"| {name} | {statistics.median(took):,.0f} | {took[int(times * 0.99)]:,.0f} |")


def measure_verbs(store: Store) -> None:
    for prefix, count in (("/k/", 1_000), ("/m/", 10_000)):
        for at in range(0, count, 100):
            store.txn([], [Put(f"{prefix}{number:05}", VALUE) for number in range(at, at + 100)])

    def attach(number: int) -> object:
        keys = [f"/attach/{number}/{at}" for at in range(5)]
        empty = PrefixEmpty(f"/macs/{number}/")
        return store.txn([empty, *(Unchanged(key, 0) for key in keys)], [Put(key, VALUE) for key in keys])

    measure("get", lambda number: store.get(f"/k/{number:05}"), 500)
    measure("put_if", lambda number: store.put_if(f"/c/{number}", VALUE, 0), 500)
    measure("txn, 6 preconditions, 5 writes", attach, 500)
    measure("txn, refused", lambda number: store.txn([Unchanged(f"/c/{number}", 0)], [Put("/c/0", VALUE)]), 500)
    measure("list, 1,000 records", lambda number: store.list("/k/"), 60)
    measure("list, 10,000 records", lambda number: store.list("/m/"), 20)
    measure("lease, not kept alive", lambda number: store.lease(600, keep_alive=False), 200)
    measure("watch, opened and closed", lambda number: store.watch("/none/", 1, ()).close(), 50)

    watch = store.watch("/w/", store.list("/w/").revision, ())
    batches = iter(watch)

    def seen(number: int) -> None:
        store.put_if(f"/w/{number}", b"", 0)
        while not next(batches):
            pass

    measure("put_if, until a watch has it", seen, 300)
    watch.close()


def measure_rate(store: Store, threads: int = 16) -> None:
    counts = [0] * threads
    stop = time.monotonic() + SECONDS

    def run(number: int) -> None:
        while time.monotonic() < stop:
            store.put_if(f"/r/{number}/{counts[number]}", VALUE, 0)
            counts[number] += 1

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    print(f"{threads} threads: {sum(counts) / SECONDS:,.0f} put_if a second")


def main() -> None:
    with etcd_member("--max-txn-ops", "512") as etcd:
        stores: list[EtcdStore | MemoryStore] = [connect(etcd), MemoryStore()]
        for store in stores:
            print(f"\n| {type(store).__name__} | median µs | p99 µs |\n|---|---|---|")
            measure_verbs(store)
            measure_rate(store)
            store.close()


if __name__ == "__main__":
    main()
