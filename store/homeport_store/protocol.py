"""What Homeport needs of a store: six verbs over keys and bytes, with etcd's revisions. Held by `etcd` and `memory`.

Revisions are those of etcd (v3 API, "Revisions"): one counter for the whole store; a key's create revision is 0 when it
does not exist. Every verb raises `Unavailable` when the store cannot be reached in time; nothing is retried silently
that could have been applied.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """`lease` is the lease the key will vanish with; 0: it stays."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """All records under a prefix, sorted by key, as they stood at `revision`."""

    revision: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Holds while the key's mod revision is this; 0: while the key does not exist."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class PrefixEmpty:
    """Holds while no key exists under the prefix (a range compare)."""

    prefix: str


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


@dataclass(frozen=True, slots=True)
class TxnResult:
    """`revision` is the store's after the transaction, applied or not."""

    applied: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch: `value` None is a deletion. `resync` marks a record of the fresh list that a watch resumes
    from when the history it missed was compacted, or the store was replaced by an older copy; keys that vanished
    meanwhile are sent as deletions in the same batch, so nothing is ever missed."""

    key: str
    value: bytes | None
    create_revision: int
    mod_revision: int
    resync: bool = False


class Watch(Protocol):
    """Batches of changes in revision order, for one reader; a revision is never split over two batches. Iteration
    blocks; an empty batch comes at least every second or so, so that the reader can do its own housekeeping. Cuts are
    healed inside; `stale_since` tells of them. `close` from any thread, or the store's, ends the iteration."""

    @property
    def stale_since(self) -> float | None:
        """`time.monotonic()` of the moment the store was last heard; None while the watch is connected."""
        ...

    def __iter__(self) -> Iterator[tuple[Change, ...]]: ...
    def close(self) -> None: ...


class Lease(Protocol):
    """Kept alive in the background until `close`, which revokes it; its keys are then deleted. `lost` becomes True, for
    good, when it expired or cannot be known to be alive any more."""

    @property
    def id(self) -> int: ...
    @property
    def lost(self) -> bool: ...
    def close(self) -> None: ...


class Store(Protocol):
    def get(self, key: str) -> Record | None: ...
    def list(self, prefix: str, without: str = "", limit: int = 0) -> Listing:
        """All of it at one revision, however long it takes to read; but for what is under the prefix `without`, and
        only the first `limit` records by key (0: all)."""
        ...

    def put_if(self, key: str, value: bytes, revision: int, lease: int = 0) -> int | None:
        """The new mod revision, or None when the key's mod revision was not `revision` (0: must not exist). Raises
        NotFound when the lease is gone."""
        ...

    def txn(self, preconditions: Sequence[Unchanged | PrefixEmpty], writes: Sequence[Put | Delete]) -> TxnResult:
        """All writes at one revision when all preconditions hold, else nothing. Raises Invalid for more operations
        than the store takes (etcd: 128 writes, 128 preconditions) and for two writes to one key, NotFound when a
        lease is gone."""
        ...

    def watch(self, prefix: str, after_revision: int, known: Iterable[str] | None = None, without: str = "") -> Watch:
        """Every change under the prefix with a revision greater than `after_revision`, but for those `without`.

        `known` are the keys that existed then: those of the listing the reader starts from. Without it the watch asks
        the store, and raises Conflict when that revision is compacted already (list again, and watch from there)."""
        ...

    def lease(self, ttl: float, keep_alive: bool = True) -> Lease:
        """`keep_alive` False: expires by itself after `ttl` seconds (a resting address). The store may round `ttl` up
        (etcd: to whole seconds, at least 2)."""
        ...

    def close(self) -> None: ...
