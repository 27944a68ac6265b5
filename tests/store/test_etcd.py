"""etcd's own troubles, with one member: gone, hanging, back, compacted or replaced while the watch was cut."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homeport_api.errors import Invalid, Unavailable
from homeport_netns_fixtures.etcd import Etcd, etcd_member, make_certificates
from homeport_store.etcd import EtcdStore, Tls
from homeport_store.protocol import Delete, Put, Store, Unchanged
from tests.store.conftest import compact, connect, tls_of
from tests.store.watching import Reader, wait_until

TIMEOUT = 1.0
KEY = "/t/a"
VERBS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get(KEY),
    "list": lambda store: store.list("/t/"),
    "put_if": lambda store: store.put_if(KEY, b"", 0),
    "txn": lambda store: store.txn([], [Put(KEY, b"")]),
    "lease": lambda store: store.lease(60, keep_alive=False),
    "watch": lambda store: store.watch("/t/", 1),
}


@pytest.fixture
def store(etcd: Etcd) -> Iterator[EtcdStore]:
    store = connect(etcd, TIMEOUT)
    store.txn([], [Put(KEY, b"0")])
    yield store
    store.close()


def version(etcd: Etcd, key: str) -> int:
    """How often a key was written since it was made, as etcd counts it."""
    answer = json.loads(etcd.etcdctl("get", key, "-w", "json"))
    return int(answer["kvs"][0]["version"]) if "kvs" in answer else 0


class TestGone:
    @pytest.mark.parametrize("how", ["killed", "hanging"])
    def test_every_verb_gives_up_in_time(self, etcd: Etcd, how: str) -> None:
        store = connect(etcd, timeout=0.4)
        assert store.get(KEY) is None
        etcd.members[0].kill() if how == "killed" else etcd.members[0].pause()
        for name, verb in VERBS.items():
            began = time.monotonic()
            with pytest.raises(Unavailable, match=str(etcd.members[0].socket_path)):
                verb(store)
            took = time.monotonic() - began
            print(f"{name} gave up after {took:.2f} s")
            assert took < 2
        store.close()

    def test_it_works_again_by_itself(self, etcd: Etcd, store: EtcdStore) -> None:
        reader = Reader(store.watch("/t/", store.list("/t/").revision))
        wait_until(lambda: reader.watch.stale_since is None)
        for number in range(3):
            etcd.kill()
            wait_until(lambda: reader.watch.stale_since is not None)
            with pytest.raises(Unavailable):
                store.get(KEY)
            etcd.start()
            wait_until(lambda: reader.watch.stale_since is None)
            store.txn([], [Put(KEY, b"%d" % number)])
        changes = reader.wait(lambda changes: len(changes) >= 3)
        assert [(change.value, change.resync) for change in changes] == [(b"%d" % n, False) for n in range(3)]
        reader.close()

    def test_a_read_waits_for_a_restart(self, etcd: Etcd) -> None:
        patient = connect(etcd, timeout=30)
        patient.txn([], [Put(KEY, b"1")])
        etcd.kill()
        etcd.members[0].start()
        record = patient.get(KEY)
        assert record is not None and record.value == b"1"
        patient.close()

    def test_a_write_that_was_sent_is_not_sent_again(self, etcd: Etcd, store: EtcdStore) -> None:
        for _ in range(3):
            etcd.members[0].pause()
            with pytest.raises(Unavailable, match="may have been applied"):
                store.txn([], [Put("/t/once", b"")])
            etcd.members[0].resume()
        wait_until(lambda: version(etcd, KEY) == 1)  # it answers again
        assert version(etcd, "/t/once") <= 3


@pytest.mark.host
def test_full_it_refuses_writes_and_serves_reads() -> None:
    with etcd_member("--quota-backend-bytes", "1000000") as etcd:
        store = connect(etcd)
        store.txn([], [Put(KEY, b"first")])
        with pytest.raises(Unavailable, match="space exceeded"):
            for number in range(100):
                store.txn([], [Put(f"/t/{number}", b"x" * 100_000)])
        record = store.get(KEY)
        assert record is not None and record.value == b"first"
        store.close()


class TestLeases:
    def test_one_that_cannot_be_renewed_is_lost(self, etcd: Etcd, store: EtcdStore) -> None:
        lease = store.lease(2)
        store.txn([], [Put("/t/leased", b"", lease.id)])
        etcd.kill()
        assert not lease.lost
        wait_until(lambda: lease.lost)
        etcd.start()
        assert lease.lost, "lost is lost, though etcd counts a lease anew when it starts"
        wait_until(lambda: store.get("/t/leased") is None)

    def test_it_outlives_a_short_restart(self, etcd: Etcd, store: EtcdStore) -> None:
        lease = store.lease(4)
        store.txn([], [Put("/t/leased", b"", lease.id)])
        etcd.kill()
        etcd.start()
        until = time.monotonic() + 6
        while time.monotonic() < until:
            assert not lease.lost and store.get("/t/leased") is not None
            time.sleep(0.2)
        lease.close()
        assert store.get("/t/leased") is None

    def test_closing_one_without_etcd_does_not_fail(self, etcd: Etcd, store: EtcdStore) -> None:
        lease = store.lease(2)
        etcd.kill()
        lease.close()
        assert lease.lost


class TestCutWatch:
    """The store under test reaches etcd through a symbolic link, so that the test can cut and mend the way to it."""

    @pytest.fixture
    def way(self, etcd: Etcd) -> Path:
        link = etcd.directory / "way"
        link.symlink_to(etcd.directory)
        return link

    @pytest.fixture
    def far(self, way: Path, store: EtcdStore) -> Iterator[EtcdStore]:
        far = EtcdStore([f"unix://{way}/client:0"], timeout=TIMEOUT)
        yield far
        far.close()

    @pytest.fixture
    def reader(self, far: EtcdStore) -> Iterator[Reader]:
        far.txn([], [Put("/t/kept", b"1"), Put("/t/gone", b"1"), Put("/t/changed", b"1")])
        reader = Reader(far.watch("/t/", far.list("/t/").revision))
        wait_until(lambda: reader.watch.stale_since is None)
        yield reader
        reader.close()

    def cut(self, etcd: Etcd, way: Path, reader: Reader) -> None:
        way.unlink()
        etcd.kill()
        wait_until(lambda: reader.watch.stale_since is not None)

    def mend(self, etcd: Etcd, way: Path) -> None:
        way.symlink_to(etcd.directory)

    def test_what_it_missed_comes_later(self, etcd: Etcd, way: Path, reader: Reader, store: EtcdStore) -> None:
        self.cut(etcd, way, reader)
        etcd.start()
        for number in range(2_500):
            store.txn([], [Put(f"/t/{number % 10}", b"%d" % number)])
        self.mend(etcd, way)
        changes = reader.wait(lambda changes: len(changes) >= 2_500)
        assert [change.value for change in changes] == [b"%d" % number for number in range(2_500)]
        assert not any(change.resync for change in changes)

    def test_compacted_meanwhile(self, etcd: Etcd, way: Path, reader: Reader, store: EtcdStore) -> None:
        self.cut(etcd, way, reader)
        etcd.start()
        store.txn([], [Delete("/t/gone"), Put("/t/changed", b"2"), Put("/t/brief", b"")])
        store.txn([], [Delete("/t/brief"), Put("/t/new", b"2")])
        compact(etcd, store)
        self.mend(etcd, way)
        reader.wait_key("/t/gone")
        store.txn([], [Put("/t/later", b"3")])
        changes = reader.wait_key("/t/later")
        assert [(change.key, change.value, change.resync) for change in changes] == [
            ("/t/a", b"0", True),
            ("/t/kept", b"1", True),
            ("/t/changed", b"2", True),
            ("/t/new", b"2", True),
            ("/t/gone", None, True),
            ("/t/later", b"3", False),
        ]

    def test_compacted_at_the_very_next_revision(self, etcd: Etcd, way: Path, reader: Reader, store: EtcdStore) -> None:
        """etcd forgets a deletion at the revision it compacts, and serves a watch from there without a word."""
        seen = store.txn([], [Put("/t/mark", b"")]).revision
        reader.wait_key("/t/mark")
        self.cut(etcd, way, reader)
        etcd.start()
        assert store.txn([], [Delete("/t/gone")]).revision == seen + 1
        compact(etcd, store)
        self.mend(etcd, way)
        assert reader.wait_key("/t/gone")[-1].value is None

    def test_replaced_by_an_older_copy(self, etcd: Etcd, way: Path, reader: Reader, store: EtcdStore) -> None:
        etcd.members[0].stop()
        shutil.copytree(etcd.directory / "data", etcd.directory / "copy")
        etcd.start()
        for number in range(10):
            store.txn([], [Put(f"/t/lost{number}", b"")])
        reader.wait_key("/t/lost9")
        self.cut(etcd, way, reader)
        shutil.rmtree(etcd.directory / "data")
        (etcd.directory / "copy").rename(etcd.directory / "data")
        etcd.start()
        self.mend(etcd, way)
        changes = reader.wait(lambda changes: sum(change.value is None for change in changes) >= 10)
        assert {change.key for change in changes if change.value is None} == {f"/t/lost{n}" for n in range(10)}
        store.txn([], [Put("/t/later", b"")])
        assert reader.wait_key("/t/later")[-1].resync is False

    def test_replaced_by_another_cluster(self, etcd: Etcd, way: Path, reader: Reader, store: EtcdStore) -> None:
        self.cut(etcd, way, reader)
        shutil.rmtree(etcd.directory / "data")
        member = etcd.members[0]
        member.arguments = (*member.arguments, "--initial-cluster-token", "another")
        etcd.start()
        for number in range(20):  # its revision has passed the one that was watched
            store.txn([], [Put("/t/kept", b"%d" % number)])
        self.mend(etcd, way)
        changes = reader.wait(lambda changes: sum(change.value is None for change in changes) >= 3)
        assert {change.key for change in changes if change.value is None} == {"/t/a", "/t/gone", "/t/changed"}

    def test_a_foreign_key_that_is_no_text_does_not_end_it(self, etcd: Etcd, reader: Reader, store: EtcdStore) -> None:
        etcd.etcdctl("put", "/t/\udcff", "foreign")
        store.txn([], [Put("/t/later", b"")])
        reader.wait_key("/t/later")
        foreign = next(record.key for record in store.list("/t/").records if record.value == b"foreign")
        assert store.txn([Unchanged(foreign, 0)], []).applied is False


class TestEndpoints:
    @pytest.mark.parametrize("endpoints", [[], ["ftp://a:1"], ["127.0.0.1:2379"], ["https://127.0.0.1:2379"]])
    def test_refused(self, endpoints: list[str]) -> None:
        with pytest.raises(Invalid):
            EtcdStore(endpoints)

    @pytest.mark.host
    def test_a_stranger_is_not_let_in(self, quiet_three: Etcd, tmp_path: Path) -> None:
        ours = tls_of(quiet_three)
        strange = make_certificates(tmp_path / "strange")
        assert ours is not None
        for tls in (
            Tls(ours.ca, strange.client_cert.read_bytes(), strange.client_key.read_bytes()),
            Tls(strange.ca.read_bytes(), ours.cert, ours.key),
        ):
            store = EtcdStore(quiet_three.endpoints, tls, timeout=TIMEOUT)
            with pytest.raises(Unavailable, match="out of reach"):
                store.get(KEY)
            store.close()
