"""A store that is not the one a node knew says so."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from homeport_api.errors import BadInput, Unavailable
from homeport_netns_fixtures.etcd import Etcd
from homeport_store import generation, keys
from homeport_store.generation import Generation, Seen
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Delete, Put, Store
from tests.store.conftest import connect


@pytest.fixture
def store() -> Store:
    return MemoryStore()


def test_ensure_begins_it_once(store: Store) -> None:
    assert generation.read(store) is None
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: generation.ensure(store), range(32)))
    assert len(found) == 1 and generation.read(store) in found


def test_the_same_store_is_not_replaced(store: Store) -> None:
    generation.ensure(store)
    seen = generation.look(store)
    assert generation.replaced(store, seen) is None
    store.txn([], [Put("/elsewhere", b"")])
    assert generation.replaced(store, seen) is None


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        pytest.param(Delete(keys.GENERATION), "empty", id="emptied"),
        pytest.param(Put(keys.GENERATION, generation.dump(generation.new())), "restored", id="restored"),
        pytest.param(Put(keys.GENERATION, generation.dump(generation.new(True))), "being restored", id="restoring"),
    ],
)
def test_another_one_is_told(store: Store, write: Put | Delete, reason: str) -> None:
    generation.ensure(store)
    seen = generation.look(store)
    store.txn([], [write])
    assert reason in (generation.replaced(store, seen) or "")


def test_a_revision_that_went_backwards_is_told(store: Store) -> None:
    found = generation.ensure(store)
    revision = generation.look(store).revision
    assert "older copy" in (generation.replaced(store, Seen(found.id, revision + 1)) or "")


@pytest.mark.parametrize("value", [None, generation.dump(Generation("a", 0.0, restoring=True))])
def test_nothing_is_remembered_of_an_unfinished_one(store: Store, value: bytes | None) -> None:
    if value is not None:
        store.txn([], [Put(keys.GENERATION, value)])
    with pytest.raises(Unavailable):
        generation.look(store)


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"id": "a"}', b'{"id": "a", "since": "x"}', b"\xff"])
def test_rubbish_is_refused(store: Store, value: bytes) -> None:
    store.txn([], [Put(keys.GENERATION, value)])
    with pytest.raises(BadInput):
        generation.read(store)


def test_an_older_copy_of_etcd_s_files_is_told(etcd: Etcd) -> None:
    store = connect(etcd)
    generation.ensure(store)
    etcd.members[0].stop()
    shutil.copytree(etcd.directory / "data", etcd.directory / "copy")
    etcd.start()
    store.txn([], [Put(keys.PREFIX + "later", b"")])
    seen = generation.look(store)
    etcd.members[0].stop()
    shutil.rmtree(etcd.directory / "data")
    (etcd.directory / "copy").rename(etcd.directory / "data")
    etcd.start()
    assert "older copy" in (generation.replaced(store, seen) or "")
    store.close()
