"""The store in this process: etcd's revisions, leases and watches, held by a lock and a dictionary.

A real implementation, not a fake: it passes the contract tests that etcd passes, and the domain is tested on it. It
does not outlive its process, and nothing outside the process can reach it.

Threads: every verb takes the one lock; watches receive their batches under it, so each sees every revision in order.
Leases without keep-alive are ended by one background thread, started with the first of them.
"""

import itertools
import queue
import threading
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from homeport_api.errors import Conflict, Invalid, NotFound, Unavailable
from homeport_store.protocol import Change, Delete, Listing, PrefixEmpty, Put, Record, TxnResult, Unchanged

SIGN_OF_LIFE = 1.0
MAX_TXN_OPS = 128


class MemoryWatch:
    """Made by `MemoryStore.watch`. Never stale: what it watches is in the same process."""

    def __init__(self, store: "MemoryStore", prefix: str, without: str) -> None:
        self.prefix = prefix
        self._without = without
        self._store = store
        self._batches: queue.SimpleQueue[tuple[Change, ...] | None] = queue.SimpleQueue()

    @property
    def stale_since(self) -> float | None:
        return None

    def deliver(self, changes: Iterable[Change]) -> None:
        """Called under the store's lock, once for each revision."""
        if mine := tuple(change for change in changes if _is_under(change.key, self.prefix, self._without)):
            self._batches.put(mine)

    def __iter__(self) -> Iterator[tuple[Change, ...]]:
        while True:
            try:
                batch = self._batches.get(timeout=SIGN_OF_LIFE)
            except queue.Empty:
                yield ()
                continue
            if batch is None:
                self._batches.put(None)  # a second iteration ends at once as well
                return
            yield batch

    def close(self) -> None:
        self._store.forget(self)
        self.end()

    def end(self) -> None:
        self._batches.put(None)


@dataclass(slots=True)
class _Term:
    """A living lease: when it ends (None: kept alive), and what ends with it."""

    deadline: float | None
    keys: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class MemoryLease:
    """Made by `MemoryStore.lease`."""

    store: "MemoryStore"
    id: int

    @property
    def lost(self) -> bool:
        return not self.store.holds(self.id)

    def close(self) -> None:
        """Deletes the lease's keys, at one revision. Does nothing when it has ended already."""
        self.store.revoke(self.id)


class MemoryStore:
    """`max_txn_ops` as etcd's `--max-txn-ops`; `history` is how many revisions a late watch may go back."""

    def __init__(self, max_txn_ops: int = MAX_TXN_OPS, history: int = 10_000) -> None:
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._closed = False
        self._max_txn_ops = max_txn_ops
        self._records: dict[str, Record] = {}
        self._keys: list[str] = []  # sorted, so that a prefix is a slice
        self._revision = 1  # as etcd's, so that 0 always means "before everything"
        self._history: deque[tuple[int, tuple[Change, ...]]] = deque()
        self._history_limit = history
        self._compacted = 0
        self._watches: set[MemoryWatch] = set()
        self._terms: dict[int, _Term] = {}
        self._lease_ids = itertools.count(1)
        self._expiry: threading.Thread | None = None

    def get(self, key: str) -> Record | None:
        with self._open():
            _check_key(key)
            return self._records.get(key)

    def list(self, prefix: str, without: str = "", limit: int = 0) -> Listing:
        with self._open():
            return Listing(self._revision, tuple(itertools.islice(self._under(prefix, without), limit or None)))

    def put_if(self, key: str, value: bytes, revision: int, lease: int = 0) -> int | None:
        result = self.txn((Unchanged(key, revision),), (Put(key, value, lease),))
        return result.revision if result.applied else None

    def txn(self, preconditions: Sequence[Unchanged | PrefixEmpty], writes: Sequence[Put | Delete]) -> TxnResult:
        with self._open():
            self._check_txn(preconditions, writes)
            if not all(self._holds(precondition) for precondition in preconditions):
                return TxnResult(False, self._revision)
            for write in writes:
                if isinstance(write, Put) and write.lease and write.lease not in self._terms:
                    raise NotFound(f"{write.key}: lease {write.lease:x} has expired; take a new one and write again")
            self._apply(writes)
            return TxnResult(True, self._revision)

    def watch(
        self, prefix: str, after_revision: int, known: Iterable[str] | None = None, without: str = ""
    ) -> MemoryWatch:
        with self._open():
            watch = MemoryWatch(self, prefix, without)
            if after_revision < self._compacted:
                if known is None and after_revision > 0:
                    raise Conflict(
                        f"revision {after_revision} of {prefix} is compacted: list again, and watch from there"
                    )
                watch.deliver(self._resync(prefix, known or ()))
            else:
                for revision, changes in self._history:
                    if revision > after_revision:
                        watch.deliver(changes)
            self._watches.add(watch)
            return watch

    def lease(self, ttl: float, keep_alive: bool = True) -> MemoryLease:
        if ttl <= 0:
            raise Invalid(f"a lease of {ttl} seconds would never hold: give a positive number")
        with self._open():
            lease_id = next(self._lease_ids)
            self._terms[lease_id] = _Term(None if keep_alive else time.monotonic() + ttl)
            if not keep_alive:
                self._ensure_expiry()
                self._wake.notify_all()
            return MemoryLease(self, lease_id)

    def close(self) -> None:
        """Ends every watch. Later calls raise Unavailable."""
        with self._lock:
            self._closed = True
            for watch in self._watches:
                watch.end()
            self._watches.clear()
            self._wake.notify_all()

    def compact(self) -> None:
        """Forgets the history up to now, as etcd does in its own time: a watch from before it starts with a resync."""
        with self._open():
            self._compacted = self._revision
            self._history.clear()

    def forget(self, watch: MemoryWatch) -> None:
        with self._lock:
            self._watches.discard(watch)

    def holds(self, lease_id: int) -> bool:
        with self._lock:
            return not self._closed and lease_id in self._terms

    def revoke(self, lease_id: int) -> None:
        with self._lock:
            if term := self._terms.pop(lease_id, None):
                self._apply([Delete(key) for key in sorted(term.keys)])

    def _open(self) -> threading.RLock:
        """The lock, for `with`; refuses a closed store."""
        if self._closed:
            raise Unavailable("the store is closed")
        return self._lock

    def _under(self, prefix: str, without: str = "") -> Iterator[Record]:
        for at in range(bisect_left(self._keys, prefix), len(self._keys)):
            if not self._keys[at].startswith(prefix):
                return
            if not _is_under(self._keys[at], prefix, without):
                continue
            yield self._records[self._keys[at]]

    def _holds(self, precondition: Unchanged | PrefixEmpty) -> bool:
        match precondition:
            case Unchanged(key, revision):
                record = self._records.get(key)
                return (record.mod_revision if record else 0) == revision
            case PrefixEmpty(prefix):
                return next(self._under(prefix), None) is None

    def _check_txn(self, preconditions: Sequence[Unchanged | PrefixEmpty], writes: Sequence[Put | Delete]) -> None:
        count = max(len(preconditions), len(writes))
        if count > self._max_txn_ops:
            raise Invalid(
                f"a transaction of {count} operations is more than this store takes ({self._max_txn_ops}): split it"
            )
        put: set[str] = set()
        for write in writes:
            _check_key(write.key)
            if isinstance(write, Put):
                if write.key in put:
                    raise Invalid(f"{write.key}: written twice in one transaction")
                put.add(write.key)
        for write in writes:
            if isinstance(write, Delete) and write.key in put:
                raise Invalid(f"{write.key}: written and deleted in one transaction")

    def _apply(self, writes: Iterable[Put | Delete]) -> None:
        """One revision for all of them; none when nothing changes (deletions of what is not there)."""
        revision = self._revision + 1
        changes: list[Change] = []
        for write in writes:
            old = self._records.get(write.key)
            if old is not None and old.lease in self._terms:
                self._terms[old.lease].keys.discard(write.key)
            match write:
                case Put(key, value, lease):
                    created = old.create_revision if old else revision
                    if old is None:
                        insort(self._keys, key)
                    if lease:
                        self._terms[lease].keys.add(key)
                    self._records[key] = Record(key, value, created, revision, lease)
                    changes.append(Change(key, value, created, revision))
                case Delete(key):
                    if old is not None:
                        del self._records[key]
                        del self._keys[bisect_left(self._keys, key)]
                        changes.append(Change(key, None, 0, revision))
        if changes:
            self._publish(revision, tuple(changes))

    def _publish(self, revision: int, changes: tuple[Change, ...]) -> None:
        self._revision = revision
        self._history.append((revision, changes))
        if len(self._history) > self._history_limit:
            self._compacted = self._history.popleft()[0]
        for watch in self._watches:
            watch.deliver(changes)

    def _resync(self, prefix: str, known: Iterable[str]) -> Iterator[Change]:
        for record in sorted(self._under(prefix), key=lambda record: record.mod_revision):
            yield Change(record.key, record.value, record.create_revision, record.mod_revision, resync=True)
        for key in sorted(set(known) - self._records.keys()):
            yield Change(key, None, 0, self._revision, resync=True)

    def _ensure_expiry(self) -> None:
        if self._expiry is None:
            self._expiry = threading.Thread(target=self._expire, name="memory-store-expiry", daemon=True)
            self._expiry.start()

    def _expire(self) -> None:
        with self._lock:
            while not self._closed:
                now = time.monotonic()
                due = [(term.deadline, key) for key, term in self._terms.items() if term.deadline is not None]
                for deadline, lease_id in sorted(due):
                    if deadline <= now:
                        self.revoke(lease_id)
                later = [deadline for deadline, _ in due if deadline > now]
                self._wake.wait(min(later) - now if later else None)


def _check_key(key: str) -> None:
    if not key:
        raise Invalid("the empty key cannot be stored")


def _is_under(key: str, prefix: str, without: str) -> bool:
    return key.startswith(prefix) and not (without and key.startswith(without))
