"""What Homeport needs of a store: six verbs over keys and bytes, with etcd's revisions. Held by `etcd` and `memory`.

Revisions are those of etcd (v3 API, "Revisions"): one counter for the whole store; a key's create revision is 0 when it
does not exist. Every verb raises `Unavailable` when the store cannot be reached in time; nothing is retried silently
that could have been applied.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    key: str
    value: bytes
    create_revision: int
    mod_revision: int


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
    """One event of a watch: `value` None is a deletion. `resync` marks a record of the fresh list that a cut or
    compacted watch resumes from; keys that vanished meanwhile are sent as deletions, so no change is ever missed."""

    key: str
    value: bytes | None
    create_revision: int
    mod_revision: int
    resync: bool = False


class Watch(Protocol):
    """Batches of changes in revision order. Iteration blocks; an empty batch is a sign of life at least every second
    or so, so that the reader can do its own housekeeping. `close` from any thread ends it."""

    def __iter__(self) -> Iterator[tuple[Change, ...]]: ...
    def close(self) -> None: ...


class Lease(Protocol):
    """Kept alive in the background until `close`, which revokes it. `lost` is True once it expired anyhow."""

    @property
    def id(self) -> int: ...
    @property
    def lost(self) -> bool: ...
    def close(self) -> None: ...


class Store(Protocol):
    def get(self, key: str) -> Record | None: ...
    def list(self, prefix: str) -> Listing: ...
    def put_if(self, key: str, value: bytes, revision: int, lease: int = 0) -> int | None:
        """The new mod revision, or None when the key's mod revision was not `revision` (0: must not exist)."""

    def txn(self, preconditions: Sequence[Unchanged | PrefixEmpty], writes: Sequence[Put | Delete]) -> TxnResult: ...
    def watch(self, prefix: str, after_revision: int) -> Watch:
        """Every change under the prefix with a revision greater than `after_revision`."""

    def lease(self, ttl: float, keep_alive: bool = True) -> Lease:
        """`keep_alive` False: expires by itself after `ttl` seconds (a resting address)."""

    def close(self) -> None: ...
