"""Three members with TLS, killed and restarted in turn under load: the test by which the client was chosen."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from homeport_api.errors import Unavailable
from homeport_netns_fixtures.etcd import Etcd
from homeport_store.etcd import EtcdStore
from homeport_store.protocol import Put, Unchanged
from tests.store.conftest import connect, tls_of
from tests.store.watching import Reader, wait_until

COUNTER = "/t/counter"
WRITERS = 4


class Writer:
    """Counts up a shared counter. Each step leaves a receipt in the same transaction, so that after an Unavailable the
    store can be asked whether the step was taken."""

    def __init__(self, store: EtcdStore, number: int) -> None:
        self.store = store
        self.number = number
        self.steps = 0
        self.unavailable = 0
        self.asked_after = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.step(f"/t/receipts/{self.number}/{self.steps}")
            self.steps += 1

    def step(self, receipt: str) -> None:
        while True:
            try:
                if self.store.get(receipt) is not None:
                    self.asked_after += 1
                    return
                counter = self.store.get(COUNTER)
                assert counter is not None
                value = b"%d" % (int(counter.value) + 1)
                if self.store.txn(
                    [Unchanged(COUNTER, counter.mod_revision), Unchanged(receipt, 0)],
                    [Put(COUNTER, value), Put(receipt, value)],
                ).applied:
                    return
            except Unavailable:
                self.unavailable += 1


@pytest.fixture
def stores(etcd_three: Etcd) -> Iterator[list[EtcdStore]]:
    """One for each writer and watch, each starting at another member."""
    made = [
        EtcdStore([*etcd_three.endpoints[at % 3 :], *etcd_three.endpoints[: at % 3]], tls_of(etcd_three), timeout=5)
        for at in range(WRITERS + 3)
    ]
    yield made
    for store in made:
        store.close()


def test_no_write_is_lost_or_doubled_and_every_watch_sees_every_change(
    etcd_three: Etcd, stores: list[EtcdStore]
) -> None:
    stores[0].txn([], [Put(COUNTER, b"0")])
    start = stores[0].list("/t/").revision
    readers = [Reader(store.watch("/t/", start)) for store in stores[WRITERS:]]
    lease = stores[0].lease(10)
    stores[0].txn([], [Put("/leased", b"", lease.id)])
    writers = [Writer(store, number) for number, store in enumerate(stores[:WRITERS])]
    stop = threading.Event()
    with ThreadPoolExecutor(WRITERS) as pool:
        running = [pool.submit(writer.run, stop) for writer in writers]
        try:
            for member in etcd_three.members:
                member.kill()
                time.sleep(2)  # long enough for an election
                member.start()
                member.wait_ready()
            for member in etcd_three.members:
                member.pause()
                time.sleep(2)
                member.resume()
                member.wait_ready()
        finally:
            stop.set()
        for future in running:
            future.result(60)

    steps = sum(writer.steps for writer in writers)
    counter = stores[0].get(COUNTER)
    receipts = stores[0].list("/t/receipts/").records
    print(
        f"{steps} steps, {sum(w.unavailable for w in writers)} times unavailable, "
        f"{sum(w.asked_after for w in writers)} steps were taken though the answer was lost"
    )
    assert counter is not None and int(counter.value) == steps, "a step was lost or doubled"
    assert sorted(int(receipt.value) for receipt in receipts) == list(range(1, steps + 1))
    assert steps > 100, "there was no load"
    for reader in readers:
        reader.wait(lambda changes: len(changes) >= 2 * steps)
        changes = reader.changes
        assert [int(change.value or 0) for change in changes if change.key == COUNTER] == list(range(1, steps + 1))
        assert len(changes) == 2 * steps and not any(change.resync for change in changes)
        reader.close()
    assert not lease.lost and stores[1].get("/leased") is not None


def test_one_dead_member_is_not_noticed(etcd_three: Etcd, stores: list[EtcdStore]) -> None:
    """Neither by a store that begins with it, nor by one that used it: what never left is sent to the next."""
    used = stores[0]
    used.txn([], [Put(COUNTER, b"0")])
    etcd_three.members[1].kill()
    etcd_three.members[2].wait_ready()
    fresh = stores[1]
    wait_until(lambda: used.get(COUNTER) is not None)
    for number in range(20):
        assert fresh.put_if(f"/t/{number}", b"", 0) is not None


def test_a_member_without_the_others_serves_nothing(etcd_three: Etcd) -> None:
    """What it holds may be old: reads are refused, and its watches count as cut."""
    store = connect(etcd_three, timeout=1)
    store.txn([], [Put(COUNTER, b"0")])
    only = EtcdStore([etcd_three.endpoints[0]], tls_of(etcd_three), timeout=1)
    reader = Reader(only.watch("/t/", 0))
    reader.wait_key(COUNTER)
    for member in etcd_three.members[1:]:
        member.pause()
    for _ in range(2):  # while it still believes in a leader, and when it knows of none
        with pytest.raises(Unavailable):
            only.get(COUNTER)
        with pytest.raises(Unavailable):
            only.put_if("/t/alone", b"", 0)
    wait_until(lambda: reader.watch.stale_since is not None)
    for member in etcd_three.members[1:]:
        member.resume()
    wait_until(lambda: reader.watch.stale_since is None)
    store.txn([], [Put("/t/after", b"")])
    reader.wait_key("/t/after")
    reader.close()
    only.close()
    store.close()
