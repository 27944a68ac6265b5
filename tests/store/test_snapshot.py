"""What is taken, saved, loaded and restored is the same; everything else is refused by line."""

import hashlib
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.errors import BadInput, Conflict, InUse, Invalid
from homeport_netns_fixtures.etcd import Etcd
from homeport_store import generation, keys, snapshot
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Put, Store, Unchanged
from homeport_store.snapshot import Snapshot
from tests.store.conftest import connect

A, B, C = (keys.PREFIX + name for name in ("a", "b/1", "b/ü"))


def filled(store: Store, values: dict[str, bytes]) -> Store:
    for key, value in values.items():
        store.txn([], [Put(key, value)])
    return store


def contents(store: Store) -> dict[str, bytes]:
    return {r.key: r.value for r in store.list("/").records if r.key != keys.GENERATION}


def signed(lines: list[str]) -> bytes:
    body = "".join(line + "\n" for line in lines).encode()
    return body + json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n"


class TestTake:
    def test_ours_without_leases_and_generation(self) -> None:
        store = filled(MemoryStore(), {A: b"1", B: b"2", "/elsewhere": b"3"})
        first = generation.ensure(store)
        lease = store.lease(60)
        store.txn([], [Put(C, b"heartbeat", lease.id)])
        taken = snapshot.take(store)
        assert taken.values == {A: b"1", B: b"2"}
        assert (taken.generation, taken.revision) == (first.id, store.list("/").revision)

    def test_not_of_a_half_restored_store(self) -> None:
        store = filled(MemoryStore(), {keys.GENERATION: generation.dump(generation.new(restoring=True))})
        with pytest.raises(Conflict):
            snapshot.take(store)


class TestFile:
    @given(
        st.dictionaries(st.text(st.characters(codec="utf-8")).map(keys.PREFIX.__add__), st.binary()),
        st.integers(0, 1 << 62),
    )
    def test_saved_and_loaded_it_is_the_same(self, tmp_path_factory: pytest.TempPathFactory, values, revision) -> None:  # type: ignore[no-untyped-def]
        path = tmp_path_factory.getbasetemp() / "snapshot"
        taken = Snapshot("generation", revision, 1.5, values)
        snapshot.save(taken, path)
        assert snapshot.load(path) == taken

    def test_private_whole_and_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "snapshot"
        path.write_text("the one before")
        path.chmod(0o644)
        snapshot.save(Snapshot("", 1, 0.0, {A: b"1"}), path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(tmp_path.iterdir()) == [path]

    def test_a_failure_leaves_the_one_before(self, tmp_path: Path) -> None:
        path = tmp_path / "snapshot"
        path.write_text("the one before")
        with pytest.raises(TypeError):
            snapshot.save(Snapshot("", 1, 0.0, {A: b"1", 7: b""}), path)  # type: ignore[dict-item]
        assert path.read_text() == "the one before" and list(tmp_path.iterdir()) == [path]

    def test_cut_or_changed_anywhere_it_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "snapshot"
        snapshot.save(Snapshot("g", 1, 0.0, {A: b"1", B: b"\xff"}), path)
        whole = path.read_bytes()
        for at in range(len(whole) - 1):
            path.write_bytes(whole[:at])
            with pytest.raises(BadInput):
                snapshot.load(path)
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(BadInput):
                snapshot.load(path)

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            pytest.param(['{"homeportSnapshot": 2}'], "format 2", id="newer"),
            pytest.param(["{}"], "format None", id="other"),
            pytest.param(["[]"], "line 1", id="no object"),
            pytest.param(['{"homeportSnapshot": 1, "records": 0}'], "line 1", id="no generation"),
            pytest.param(['{"homeportSnapshot": 1}', '{"key": "/etc/a", "value": ""}'], "line 2", id="foreign key"),
            pytest.param(['{"homeportSnapshot": 1}', f'{{"key": "{A}", "value": 1}}'], "line 2", id="no text"),
            pytest.param(
                ['{"homeportSnapshot": 1, "records": 2}', *[f'{{"key": "{A}", "value": ""}}'] * 2], "1 keys", id="twice"
            ),
        ],
    )
    def test_wrong_content(self, tmp_path: Path, lines: list[str], message: str) -> None:
        path = tmp_path / "snapshot"
        path.write_bytes(signed(lines))
        with pytest.raises(BadInput, match=message):
            snapshot.load(path)


class TestRestore:
    TAKEN = Snapshot("old", 7, 0.0, {A: b"1", B: b"2"})

    def test_into_an_empty_store(self) -> None:
        store = MemoryStore()
        done = snapshot.restore(store, self.TAKEN)
        assert contents(store) == self.TAKEN.values
        assert (done.written, done.deleted, done.unchanged) == (2, 0, 0)
        assert generation.read(store) == done.generation and not done.generation.restoring

    def test_not_into_one_that_holds_something(self) -> None:
        store = filled(MemoryStore(), {C: b"3"})
        with pytest.raises(InUse, match="--force"):
            snapshot.restore(store, self.TAKEN)
        assert contents(store) == {C: b"3"} and generation.read(store) is None

    def test_an_agent_that_only_registered_is_no_hindrance(self) -> None:
        store = MemoryStore()
        first = generation.ensure(store)
        lease = store.lease(60)
        store.txn([], [Put(keys.node("n1"), b"", lease.id), Put("/elsewhere", b"")])
        done = snapshot.restore(store, self.TAKEN)
        assert done.generation.id != first.id
        assert contents(store) == {**self.TAKEN.values, keys.node("n1"): b"", "/elsewhere": b""}

    def test_with_force_the_snapshot_wins(self) -> None:
        store = filled(MemoryStore(), {A: b"1", B: b"changed", C: b"later"})
        done = snapshot.restore(store, self.TAKEN, force=True)
        assert contents(store) == self.TAKEN.values
        assert (done.written, done.deleted, done.unchanged) == (1, 1, 1)

    def test_each_begins_a_new_generation(self) -> None:
        store = MemoryStore()
        seen = []
        for _ in range(3):
            snapshot.restore(store, self.TAKEN, force=True)
            seen.append(generation.look(store))
        assert len({look.generation for look in seen}) == 3
        assert "restored" in (generation.replaced(store, seen[0]) or "")

    def test_what_a_watcher_sees_begins_and_ends_with_the_generation(self) -> None:
        store = MemoryStore()
        watch = store.watch(keys.PREFIX, store.list("/").revision)
        snapshot.restore(store, Snapshot("", 1, 0.0, {f"{keys.PREFIX}{n:04}": b"x" * 4000 for n in range(700)}))
        store.close()
        changes = [change for batch in watch for change in batch]
        assert [at for at, change in enumerate(changes) if change.key == keys.GENERATION] == [0, 701]
        assert [b'"restoring":true' in (changes[at].value or b"") for at in (0, 701)] == [True, False]


@pytest.mark.parametrize("world_name", ["quiet_etcd", pytest.param("quiet_three", id="three with TLS")])
@pytest.mark.host
def test_from_one_store_to_another(request: pytest.FixtureRequest, world_name: str, tmp_path: Path) -> None:
    """3,000 records, some large, through a file, into etcd's limits of 128 operations and 1.5 MiB."""
    values = {f"{keys.PREFIX}x/{n:05}": b"%d" % n if n % 10 else b"x" * 20_000 for n in range(3_000)}
    path = tmp_path / "snapshot"
    snapshot.save(Snapshot("memory", 1, 0.0, values), path)
    store = connect(request.getfixturevalue(world_name))
    snapshot.restore(store, snapshot.load(path), force=True)
    assert snapshot.take(store).values == values
    for key in (keys.PREFIX + "x/00000", keys.PREFIX + "x/00001"):
        record = store.get(key)
        assert record is not None and store.txn([Unchanged(key, record.mod_revision)], []).applied
    snapshot.restore(store, Snapshot("", 1, 0.0, {}), force=True)
    store.close()


def test_broken_off_it_shows_and_can_be_repeated(etcd: Etcd) -> None:
    store = connect(etcd)
    generation.ensure(store)
    remembered = generation.look(store)
    values = {f"{keys.PREFIX}{n:05}": b"x" for n in range(1_000)}
    too_large = {f"{keys.PREFIX}{700:05}": b"x" * 2_000_000}
    with pytest.raises(Invalid, match="too large"):
        snapshot.restore(store, Snapshot("", 1, 0.0, values | too_large))
    assert 0 < len(store.list(keys.PREFIX).records) < len(values)
    assert "being restored" in (generation.replaced(store, remembered) or "")
    with pytest.raises(InUse):
        snapshot.restore(store, Snapshot("", 1, 0.0, values))
    done = snapshot.restore(store, Snapshot("", 1, 0.0, values), force=True)
    assert "was restored" in (generation.replaced(store, remembered) or "")
    assert generation.look(store).generation == done.generation.id and snapshot.take(store).values == values
    store.close()
