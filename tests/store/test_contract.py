"""What every store does alike. Runs over memory, one etcd, and three etcds with mutual TLS."""

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from homeport_api.errors import Conflict, Invalid, NotFound, Unavailable
from homeport_store import etcd
from homeport_store.protocol import Delete, PrefixEmpty, Put, Record, Store, Unchanged
from tests.store.conftest import World
from tests.store.watching import Reader, wait_until


def put(store: Store, key: str, value: bytes = b"1", lease: int = 0) -> int:
    return store.txn([], [Put(key, value, lease)]).revision


class TestKeys:
    def test_absent(self, store: Store, world: World) -> None:
        assert store.get(world.prefix + "nothing") is None
        assert store.list(world.prefix).records == ()

    def test_create_if_absent(self, store: Store, world: World) -> None:
        key = world.prefix + "a"
        created = store.put_if(key, b"first", 0)
        assert created is not None
        assert store.put_if(key, b"second", 0) is None
        assert store.get(key) == Record(key, b"first", created, created)

    def test_update_at_the_revision_read(self, store: Store, world: World) -> None:
        key = world.prefix + "a"
        created = store.put_if(key, b"1", 0)
        assert created is not None
        updated = store.put_if(key, b"2", created)
        assert updated is not None and updated > created
        assert store.put_if(key, b"3", created) is None
        assert store.get(key) == Record(key, b"2", created, updated)

    def test_an_update_of_an_absent_key_is_refused(self, store: Store, world: World) -> None:
        assert store.put_if(world.prefix + "a", b"1", 7) is None
        assert store.get(world.prefix + "a") is None

    def test_made_again_it_has_a_new_create_revision(self, store: Store, world: World) -> None:
        key = world.prefix + "a"
        first = put(store, key)
        assert store.txn([Unchanged(key, first)], [Delete(key)]).applied
        assert store.get(key) is None
        again = put(store, key)
        record = store.get(key)
        assert record is not None and record.create_revision == again > first

    @pytest.mark.parametrize("value", [b"", b"\x00\xff", b"x" * 500_000], ids=["empty", "no text", "large"])
    def test_values_are_bytes(self, store: Store, world: World, value: bytes) -> None:
        put(store, world.prefix + "a", value)
        record = store.get(world.prefix + "a")
        assert record is not None and record.value == value

    def test_the_empty_key_is_refused(self, store: Store) -> None:
        with pytest.raises(Invalid):
            store.put_if("", b"", 0)

    def test_what_one_handle_writes_the_other_reads(self, store: Store, world: World) -> None:
        other = world.connect()
        for number in range(50):
            put(store, world.prefix + "a", b"%d" % number)
            record = other.get(world.prefix + "a")
            assert record is not None and record.value == b"%d" % number

    def test_of_racing_creators_one_wins(self, world: World) -> None:
        stores = [world.connect() for _ in range(4)]
        start = threading.Barrier(16)

        def race(number: int) -> list[bool]:
            start.wait()
            return [
                stores[number % 4].put_if(f"{world.prefix}{key}", b"%d" % number, 0) is not None for key in range(20)
            ]

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(race, range(16)))
        assert [sum(wins) for wins in zip(*won, strict=True)] == [1] * 20


class TestList:
    def test_sorted_and_of_the_prefix_alone(self, store: Store, world: World) -> None:
        names = ["b", "a", "a/1", "a/10", "ä", "€", "\U0001f600"]
        for name in names:
            put(store, world.prefix + name)
        put(store, world.prefix.removesuffix("/") + "0")  # the key right behind the range
        assert [record.key for record in store.list(world.prefix).records] == [
            world.prefix + name for name in sorted(names)
        ]
        assert [record.key for record in store.list(world.prefix + "a/1").records] == [
            world.prefix + "a/1",
            world.prefix + "a/10",
        ]

    def test_revision_is_the_store_s(self, store: Store, world: World) -> None:
        written = put(store, world.prefix + "a")
        elsewhere = put(store, world.prefix.removesuffix("/") + "-elsewhere")
        listing = store.list(world.prefix)
        assert listing.revision >= elsewhere > written == listing.records[0].mod_revision

    def test_all_pages_are_of_one_revision(self, store: Store, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(etcd, "PAGE", 16)
        for at in range(0, 100, 50):
            store.txn([], [Put(f"{world.prefix}m{number:03}", b"") for number in range(at, at + 50)])
        first, last = world.prefix + "a", world.prefix + "z"
        stop = threading.Event()
        writer_store = world.connect()

        def write() -> None:
            for number in itertools.count():
                writer_store.txn([], [Put(first, b"%d" % number), Put(last, b"%d" % number)])
                if stop.is_set():
                    return

        writer = threading.Thread(target=write)
        writer.start()
        values: set[bytes] = set()

        def consistent_and_moving() -> bool:
            records = store.list(world.prefix).records
            if len(records) == 102:
                assert records[0].value == records[-1].value
                values.add(records[0].value)
            return len(values) >= 10

        try:
            wait_until(consistent_and_moving)
        finally:
            stop.set()
            writer.join()


class TestTransactions:
    def test_all_writes_have_one_revision(self, store: Store, world: World) -> None:
        put(store, world.prefix + "gone")
        result = store.txn(
            [Unchanged(world.prefix + "a", 0), PrefixEmpty(world.prefix + "dir/")],
            [Put(world.prefix + "a", b"1"), Put(world.prefix + "b", b"2"), Delete(world.prefix + "gone")],
        )
        assert result.applied
        assert [(r.key[-1], r.mod_revision) for r in store.list(world.prefix).records] == [
            ("a", result.revision),
            ("b", result.revision),
        ]

    @pytest.mark.parametrize(
        "failing",
        [
            pytest.param(Unchanged("there", 0), id="exists"),
            pytest.param(Unchanged("there", 1), id="changed"),
            pytest.param(Unchanged("absent", 1), id="absent"),
            pytest.param(PrefixEmpty("the"), id="prefix in use"),
        ],
    )
    def test_one_failing_precondition_stops_all_writes(
        self, store: Store, world: World, failing: Unchanged | PrefixEmpty
    ) -> None:
        there = put(store, world.prefix + "there")
        match failing:
            case Unchanged(key, revision):
                failing = Unchanged(world.prefix + key, revision)
            case PrefixEmpty(prefix):
                failing = PrefixEmpty(world.prefix + prefix)
        before = store.list(world.prefix)
        holding = [Unchanged(world.prefix + "new", 0), Unchanged(world.prefix + "there", there)]
        result = store.txn([*holding, failing], [Put(world.prefix + "new", b""), Delete(world.prefix + "there")])
        assert not result.applied
        assert store.list(world.prefix) == before
        assert result.revision == before.revision

    @pytest.mark.parametrize(
        ("prefix", "holds"), [("dir/", False), ("dir", False), ("dir/1", False), ("dir/10/", True), ("di/", True)]
    )
    def test_an_empty_prefix(self, store: Store, world: World, prefix: str, holds: bool) -> None:
        put(store, world.prefix + "dir/10")
        assert store.txn([PrefixEmpty(world.prefix + prefix)], []).applied is holds

    def test_without_preconditions_and_without_writes(self, store: Store, world: World) -> None:
        revision = put(store, world.prefix + "a")
        result = store.txn([], [])
        assert result.applied and result.revision == revision

    def test_deleting_what_is_not_there_makes_no_revision(self, store: Store, world: World) -> None:
        revision = put(store, world.prefix + "a")
        result = store.txn([], [Delete(world.prefix + "b"), Delete(world.prefix + "b")])
        assert result.applied and result.revision == revision

    def test_128_operations_pass_and_129_are_refused(self, store: Store, world: World) -> None:
        keys = [f"{world.prefix}{number}" for number in range(129)]
        assert store.txn([Unchanged(key, 0) for key in keys[:128]], [Put(key, b"") for key in keys[:128]]).applied
        for preconditions, writes in (
            ([], [Delete(key) for key in keys]),
            ([Unchanged(key, 0) for key in keys], []),
        ):
            with pytest.raises(Invalid, match=r"129 operations .*128.*"):
                store.txn(preconditions, writes)
        assert len(store.list(world.prefix).records) == 128

    @pytest.mark.parametrize("second", [Put("a", b"2"), Delete("a")], ids=["two puts", "put and delete"])
    @pytest.mark.parametrize("reverse", [False, True])
    def test_two_writes_to_one_key_are_refused(
        self, store: Store, world: World, second: Put | Delete, reverse: bool
    ) -> None:
        key = world.prefix + "a"
        writes = [Put(key, b"1"), Put(key, b"2") if isinstance(second, Put) else Delete(key)]
        with pytest.raises(Invalid):
            store.txn([], writes[::-1] if reverse else writes)
        assert store.get(key) is None


class TestLimit:
    @pytest.mark.parametrize(("limit", "without", "names"), [(2, "", "ab"), (9, "", "abcd"), (2, "b", "ac")])
    def test_the_first_by_key(self, store: Store, world: World, limit: int, without: str, names: str) -> None:
        for name in "dcba":
            put(store, world.prefix + name)
        listing = store.list(world.prefix, without=without and world.prefix + without, limit=limit)
        assert [record.key for record in listing.records] == [world.prefix + name for name in names]


@pytest.fixture
def watched(store: Store, world: World) -> Iterator[Reader]:
    """The whole prefix, from before its first key."""
    reader = Reader(store.watch(world.prefix, store.list(world.prefix).revision))
    yield reader
    reader.close()


class TestWatch:
    def test_every_change_in_order(self, store: Store, world: World, watched: Reader) -> None:
        a, b = world.prefix + "a", world.prefix + "b"
        first = put(store, a, b"1")
        put(store, world.prefix.removesuffix("/") + "-elsewhere", b"not ours")
        second = store.txn([], [Put(b, b"2"), Delete(a)]).revision
        third = put(store, b, b"")
        changes = watched.wait(lambda changes: len(changes) >= 4)
        assert [(c.key, c.value, c.mod_revision) for c in changes] == [
            (a, b"1", first),
            (b, b"2", second),
            (a, None, second),
            (b, b"", third),
        ]
        assert [c.create_revision for c in changes if c.value is not None] == [first, second, second]
        assert not any(c.resync for c in changes)
        assert sum(second in {c.mod_revision for c in batch} for batch in watched.batches) == 1, (
            "one revision, two batches"
        )

    def test_from_a_revision_in_the_past(self, store: Store, world: World) -> None:
        revisions = [put(store, f"{world.prefix}{number}") for number in range(10)]
        reader = Reader(store.watch(world.prefix, revisions[3]))
        changes = reader.wait(lambda changes: len(changes) >= 6)
        assert [c.mod_revision for c in changes] == revisions[4:]
        reader.close()

    def test_two_watches_see_the_same(self, store: Store, world: World, watched: Reader) -> None:
        other = Reader(world.connect().watch(world.prefix, store.list(world.prefix).revision))
        for number in range(100):
            put(store, f"{world.prefix}{number % 7}", b"%d" % number)
        assert watched.wait(lambda changes: len(changes) >= 100) == other.wait(lambda changes: len(changes) >= 100)
        other.close()

    def test_what_is_left_out_is_neither_listed_nor_told(self, store: Store, world: World) -> None:
        out = world.prefix + "k/"
        names = ("a", "k", "k/1", "k/2", "k0", "z")
        for name in names[:4]:
            put(store, world.prefix + name)
        known = store.list(world.prefix, without=out)
        assert [record.key for record in known.records] == [world.prefix + name for name in ("a", "k")]
        assert store.list(out, without=out).records == ()
        assert store.list(world.prefix, without="/elsewhere/") == store.list(world.prefix)
        reader = Reader(
            store.watch(world.prefix, known.revision, [record.key for record in known.records], without=out)
        )
        mixed = store.txn([], [Put(world.prefix + name, b"2") for name in names]).revision
        put(store, out + "3")
        put(store, world.prefix + "last")
        changes = reader.wait_key(world.prefix + "last")
        assert [(c.key, c.mod_revision) for c in changes[:-1]] == [
            (world.prefix + name, mixed) for name in ("a", "k", "k0", "z")
        ]
        assert sum(mixed in {c.mod_revision for c in batch} for batch in reader.batches) == 1
        reader.close()

    def test_a_resync_leaves_out_what_is_left_out(self, store: Store, world: World) -> None:
        out = world.prefix + "k/"
        put(store, out + "1")
        put(store, world.prefix + "gone")
        known = store.list(world.prefix, without=out)
        store.txn(
            [], [Delete(world.prefix + "gone"), Delete(out + "1"), Put(out + "2", b""), Put(world.prefix + "z", b"")]
        )
        put(store, out + "3")
        world.compact()
        reader = Reader(
            store.watch(world.prefix, known.revision, [record.key for record in known.records], without=out)
        )
        changes = reader.wait_key(world.prefix + "gone")
        assert [(c.key, c.resync) for c in changes] == [(world.prefix + "z", True), (world.prefix + "gone", True)]
        reader.close()

    def test_an_idle_watch_gives_signs_of_life(self, watched: Reader) -> None:
        wait_until(lambda: watched.empty_batches >= 1)
        assert watched.changes == []
        assert watched.watch.stale_since is None

    def test_a_closed_store_ends_its_watches(self, world: World) -> None:
        store = world.connect()
        reader = Reader(store.watch(world.prefix, 0))
        store.close()
        reader.close()
        with pytest.raises(Unavailable):
            store.get(world.prefix)
        with pytest.raises(Unavailable):
            store.watch(world.prefix, 0)

    def test_after_compaction_it_begins_with_a_resync(self, store: Store, world: World) -> None:
        kept, gone, new = (world.prefix + name for name in ("kept", "gone", "new"))
        kept_at = put(store, kept)
        put(store, gone)
        known = store.list(world.prefix)
        store.txn([], [Delete(gone), Put(new, b"2")])
        new_at = put(store, new, b"3")
        put(store, world.prefix.removesuffix("/") + "-elsewhere")
        world.compact()
        reader = Reader(store.watch(world.prefix, known.revision, [record.key for record in known.records]))
        reader.wait_key(gone)
        later = put(store, world.prefix + "later")
        changes = reader.wait_key(world.prefix + "later")
        assert [(c.key, c.value, c.resync) for c in changes] == [
            (kept, b"1", True),
            (new, b"3", True),
            (gone, None, True),
            (world.prefix + "later", b"1", False),
        ]
        assert [c.mod_revision for c in changes[:2]] == [kept_at, new_at] and changes[3].mod_revision == later
        assert len(reader.batches[0]) == 3, "a resync is one batch"
        reader.close()

    def test_after_compaction_without_what_was_known(self, store: Store, world: World) -> None:
        old = put(store, world.prefix + "a")
        put(store, world.prefix + "a")
        world.compact()
        with pytest.raises(Conflict):
            store.watch(world.prefix, old)

    def test_from_the_beginning_of_time(self, store: Store, world: World) -> None:
        put(store, world.prefix + "gone")
        store.txn([], [Delete(world.prefix + "gone"), Put(world.prefix + "a", b"1")])
        put(store, world.prefix + "a", b"2")
        world.compact()
        reader = Reader(store.watch(world.prefix, 0))
        changes = reader.wait_key(world.prefix + "a")
        assert [(c.value, c.resync) for c in changes] == [(b"2", True)]
        reader.close()


class TestLeases:
    def test_keys_go_when_it_is_closed(self, store: Store, world: World, watched: Reader) -> None:
        lease = store.lease(60)
        a, b = put(store, world.prefix + "a", lease=lease.id), put(store, world.prefix + "b", lease=lease.id)
        put(store, world.prefix + "stays")
        assert [(r.mod_revision, r.lease) for r in store.list(world.prefix).records[:2]] == [
            (a, lease.id),
            (b, lease.id),
        ]
        assert not lease.lost
        lease.close()
        assert [record.key for record in store.list(world.prefix).records] == [world.prefix + "stays"]
        changes = watched.wait(lambda changes: len(changes) >= 5)
        assert [(c.key, c.value) for c in changes[3:]] == [(world.prefix + "a", None), (world.prefix + "b", None)]
        assert changes[3].mod_revision == changes[4].mod_revision
        assert lease.lost
        lease.close()

    def test_it_expires_by_itself(self, store: Store, world: World) -> None:
        lease = store.lease(world.shortest_ttl, keep_alive=False)
        assert store.put_if(world.prefix + "a", b"", 0, lease.id) is not None
        wait_until(lambda: store.get(world.prefix + "a") is None)
        wait_until(lambda: lease.lost)

    def test_kept_alive_it_stays(self, store: Store, world: World) -> None:
        lease = store.lease(world.shortest_ttl)
        put(store, world.prefix + "a", lease=lease.id)
        until = time.monotonic() + 2 * world.shortest_ttl
        while time.monotonic() < until:
            assert store.get(world.prefix + "a") is not None and not lease.lost
            time.sleep(0.1)
        lease.close()

    def test_nothing_is_written_on_a_lost_lease(self, store: Store, world: World) -> None:
        lease = store.lease(60)
        lease.close()
        with pytest.raises(NotFound):
            store.txn([], [Put(world.prefix + "a", b""), Put(world.prefix + "b", b"", lease.id)])
        with pytest.raises(NotFound):
            store.put_if(world.prefix + "a", b"", 0, lease.id)
        assert store.list(world.prefix).records == ()

    def test_a_put_takes_the_key_off_its_lease(self, store: Store, world: World) -> None:
        old, new = store.lease(60), store.lease(60)
        for name, lease in (("free", 0), ("other", new.id)):
            put(store, world.prefix + name, lease=old.id)
            put(store, world.prefix + name, lease=lease)
        old.close()
        assert [record.lease for record in store.list(world.prefix).records] == [0, new.id]
        new.close()
        assert [record.key for record in store.list(world.prefix).records] == [world.prefix + "free"]

    @pytest.mark.parametrize("ttl", [0, -1])
    def test_a_lease_of_no_time_is_refused(self, store: Store, ttl: float) -> None:
        with pytest.raises(Invalid):
            store.lease(ttl)
