"""A watch over etcd's streams that misses nothing: streams are cut and histories compacted, the watch goes on.

    stream cut ──► open another, from the last revision heard ──► events go on
                        │ that revision is compacted, the cluster is another one,
                        │ or its revision lies behind ours (an older copy was put in its place)
                        └──► resync: list anew, send all of it, and a deletion for every key that vanished

It knows no grpc: `open_stream` and `list_prefix` are given by `etcd.EtcdStore`, which made it.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from homeport_api.errors import HomeportError
from homeport_store.protocol import Change, Listing

SIGN_OF_LIFE = 1.0
QUEUE = 1_000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer on a stream. `revision` is the whole store's when it was sent: without changes, and not the first
    answer, it promises that nothing up to there is still to come."""

    cluster: int
    revision: int
    created: bool
    compacted: bool
    changes: tuple[Change, ...]


class Stream(Protocol):
    def __iter__(self) -> Iterator[Heard]: ...
    def cancel(self) -> None: ...


class EtcdWatch:
    """One thread reads the stream, the reader takes batches from a bounded queue: a slow reader slows the stream."""

    def __init__(
        self,
        prefix: str,
        after_revision: int,
        known: Iterable[str],
        open_stream: Callable[[str, int], Stream],
        list_prefix: Callable[[str, str], Listing],
        without: str = "",
    ) -> None:
        self._prefix = prefix
        self._without = without
        self._last = after_revision
        self._keys = set(known)
        self._cluster = 0
        self._open_stream = open_stream
        self._list_prefix = list_prefix
        self._batches: queue.Queue[tuple[Change, ...]] = queue.Queue(QUEUE)
        self._closed = threading.Event()
        self._stream: Stream | None = None
        self._stale_since: float | None = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"watch {prefix}", daemon=True)

    @property
    def stale_since(self) -> float | None:
        return self._stale_since

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def start(self) -> None:
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[Change, ...]]:
        while not self.closed:
            try:
                batch = self._batches.get(timeout=SIGN_OF_LIFE)
            except queue.Empty:
                batch = ()
            if not self.closed:
                yield batch

    def close(self) -> None:
        self._closed.set()
        if stream := self._stream:
            stream.cancel()
        with contextlib.suppress(queue.Full):
            self._batches.put_nowait(())  # wakes the reader

    def join(self) -> None:
        """Waits for the thread, which ends soon after `close`; a reader of the watch may call it, the thread not."""
        if self._thread.ident is not None:
            self._thread.join(5)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self.closed:
            try:
                if self._follow():
                    self._resync()
                pause = _FIRST_PAUSE
            except HomeportError as error:
                if self.closed:
                    return
                if self._stale_since is None:
                    self._stale_since = time.monotonic()
                    log.warning("watch cut prefix=%s revision=%d: %s", self._prefix, self._last, error)
                    pause = _FIRST_PAUSE
                self._closed.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _follow(self) -> bool:
        """Reads one stream. True when what it missed cannot be had from a stream, and a resync is due."""
        # From the last revision again and not the one after: were it the very revision of a compaction, older etcds
        # would leave out a deletion there without saying that they compacted.
        stream = self._stream = self._open_stream(self._prefix, max(self._last, 1))
        if self.closed:
            stream.cancel()
        for heard in stream:
            if self._replaced(heard) or heard.compacted:
                stream.cancel()
                return True
            self._cluster = heard.cluster
            if self._stale_since is not None:
                log.info("watch open prefix=%s revision=%d", self._prefix, self._last)
                self._stale_since = None
            if heard.changes:
                self._deliver(tuple(change for change in heard.changes if self._wants(change)))
                self._last = max(self._last, heard.changes[-1].mod_revision)
            elif not heard.created:
                self._last = max(self._last, heard.revision)
        return False

    def _wants(self, change: Change) -> bool:
        left_out = self._without and change.key.startswith(self._without)
        return change.mod_revision > self._last and not left_out

    def _replaced(self, heard: Heard) -> bool:
        """Whether this is not the store that was watched before, or an older copy of it."""
        if heard.created and heard.revision < self._last:
            # A member that is only behind the others will catch up; a list is never behind.
            return self._list_prefix(self._prefix, self._without).revision < self._last
        return self._cluster not in (0, heard.cluster)

    def _resync(self) -> None:
        listing = self._list_prefix(self._prefix, self._without)
        found = sorted(listing.records, key=lambda record: record.mod_revision)
        batch = [Change(r.key, r.value, r.create_revision, r.mod_revision, resync=True) for r in found]
        vanished = self._keys - {record.key for record in found}
        batch += [Change(key, None, 0, listing.revision, resync=True) for key in sorted(vanished)]
        log.warning(
            "watch resynced prefix=%s revision=%d was=%d records=%d vanished=%d",
            *(self._prefix, listing.revision, self._last, len(found), len(vanished)),
        )
        self._cluster = 0
        self._deliver(tuple(batch))
        self._last = listing.revision

    def _deliver(self, batch: tuple[Change, ...]) -> None:
        """Waits while the reader is behind, so that memory stays bounded."""
        if not batch:
            return
        while not self.closed:
            with contextlib.suppress(queue.Full):
                self._batches.put(batch, timeout=SIGN_OF_LIFE)
                break
        for change in batch:
            if change.value is None:
                self._keys.discard(change.key)
            else:
                self._keys.add(change.key)
        self._last = max(self._last, batch[-1].mod_revision)
