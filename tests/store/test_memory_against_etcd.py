"""Memory and etcd, given the same random operations, give the same answers, to the revision."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport_api.errors import Invalid
from homeport_netns_fixtures.etcd import Etcd
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Change, Delete, Listing, PrefixEmpty, Put, Store, TxnResult, Unchanged
from tests.store.conftest import connect
from tests.store.watching import Reader

PREFIX = "/p/"
NAMES = ["a", "a/1", "a/10", "b", "b/1"]
Operation = tuple[Sequence[Unchanged | PrefixEmpty], Sequence[Put | Delete]]

keys = st.sampled_from([PREFIX + name for name in NAMES])
# A revision that an Unchanged compares with is chosen when the operation runs: of the key as it stands, or off by some.
offsets = st.sampled_from([0, 0, 0, 1, -1])
preconditions = st.lists(st.one_of(st.builds(Unchanged, keys, offsets), st.builds(PrefixEmpty, keys)), max_size=3)
writes = st.lists(st.one_of(st.builds(Put, keys, st.binary(max_size=3)), st.builds(Delete, keys)), max_size=3)
operations = st.lists(st.tuples(preconditions, writes), min_size=1, max_size=12)


def run(store: Store, operation: Operation) -> TxnResult | str:
    compares, changes = operation
    actual: list[Unchanged | PrefixEmpty] = []
    for compare in compares:
        if isinstance(compare, Unchanged):
            record = store.get(compare.key)
            compare = Unchanged(compare.key, (record.mod_revision if record else 0) + compare.revision)
        actual.append(compare)
    try:
        return store.txn(actual, changes)
    except Invalid:
        return "invalid"


def seen(store: Store, after: int, until: int) -> list[Change]:
    reader = Reader(store.watch(PREFIX, after))
    changes = reader.wait(lambda changes: bool(changes) and changes[-1].mod_revision >= until)
    reader.close()
    return changes


def relative(base: int, listing: Listing) -> list[tuple[str, bytes, int, int]]:
    return [(r.key, r.value, r.create_revision - base, r.mod_revision - base) for r in listing.records]


@pytest.mark.host
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations)
def test_same_answers(quiet_etcd: Etcd, steps: list[Operation]) -> None:
    memory, etcd = MemoryStore(), connect(quiet_etcd)
    try:
        etcd.txn([], [Delete(PREFIX + name) for name in NAMES])
        bases = [store.list(PREFIX).revision for store in (memory, etcd)]
        for step in steps:
            ours, theirs = run(memory, step), run(etcd, step)
            if isinstance(ours, TxnResult) and isinstance(theirs, TxnResult):
                assert (ours.applied, ours.revision - bases[0]) == (theirs.applied, theirs.revision - bases[1])
            else:
                assert ours == theirs
            assert relative(bases[0], memory.list(PREFIX)) == relative(bases[1], etcd.list(PREFIX))
        if memory.list(PREFIX).revision > bases[0]:
            both = [
                seen(store, base, store.list(PREFIX).revision)
                for store, base in zip((memory, etcd), bases, strict=True)
            ]
            shifted = [
                [
                    (c.key, c.value, c.create_revision and c.create_revision - base, c.mod_revision - base)
                    for c in changes
                ]
                for changes, base in zip(both, bases, strict=True)
            ]
            assert shifted[0] == shifted[1]
    finally:
        memory.close()
        etcd.close()
