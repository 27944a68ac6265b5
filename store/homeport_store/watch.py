"""Follow a prefix: list it, watch on from there, hand every batch to a callback. For views that the store feeds.

    list ──► apply(all of it, marked resync) ──► synced ──► watch ──► apply(batch), apply(batch), …
      ▲                                                       │
      └── the callback failed: begin anew ◄───────────────────┘     (cuts and compactions are healed in the watch)

The callback runs on the follower's one thread, so batches never overlap, and what it is fed is the store's state at
some revision after each call.
"""

import logging
import threading
import time
from collections.abc import Callable

from homeport_api.errors import HomeportError
from homeport_store.protocol import Change, Store, Watch

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_GOOD_WHILE = 10.0

log = logging.getLogger(__name__)

Apply = Callable[[tuple[Change, ...]], object]


class Follower:
    """Made by `follow`. What is under the prefix `without` is left out. `synced` is set once the first full list was
    applied, and stays set over outages."""

    def __init__(self, store: Store, prefix: str, apply: Apply, without: str = "") -> None:
        self.prefix = prefix
        self._without = without
        self.synced = threading.Event()
        self._store = store
        self._apply = apply
        self._revision = 0
        self._known: set[str] = set()
        self._watch: Watch | None = None
        self._unsynced_since: float | None = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow {prefix}", daemon=True)

    @property
    def revision(self) -> int:
        """Of the last batch that was applied."""
        return self._revision

    @property
    def stale_since(self) -> float | None:
        """`time.monotonic()` of the moment since which what was applied may be old; None while it is fresh."""
        if self._unsynced_since is not None or self._watch is None:
            return self._unsynced_since
        return self._watch.stale_since

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """After it the callback is not called again, unless `close` is called from the callback itself."""
        self._closed.set()
        if self._watch is not None:
            self._watch.close()
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closed.is_set():
            began = time.monotonic()
            try:
                self._sync()
                self._follow()
                return
            except HomeportError as error:
                log.warning("not following prefix=%s revision=%d: %s", self.prefix, self._revision, error)
            except Exception:
                log.exception("callback failed, all will be listed again prefix=%s", self.prefix)
            if self._unsynced_since is None:
                self._unsynced_since = time.monotonic()
            if time.monotonic() - began > _GOOD_WHILE:
                pause = _FIRST_PAUSE
            self._closed.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _sync(self) -> None:
        """Applies a fresh list, with deletions of what an earlier one had and this one has not."""
        listing = self._store.list(self.prefix, self._without)
        records = sorted(listing.records, key=lambda record: record.mod_revision)
        batch = [Change(r.key, r.value, r.create_revision, r.mod_revision, resync=True) for r in records]
        vanished = self._known - {record.key for record in records}
        batch += [Change(key, None, 0, listing.revision, resync=True) for key in sorted(vanished)]
        self._feed(tuple(batch))
        self._revision = listing.revision
        self._unsynced_since = None
        self.synced.set()

    def _follow(self) -> None:
        """Returns when the follower or the store is closed. Nothing of the list is held meanwhile but its keys."""
        self._watch = watch = self._store.watch(self.prefix, self._revision, self._known, self._without)
        try:
            if self._closed.is_set():  # between the two lines above
                return
            for batch in watch:
                self._feed(batch)
        finally:
            watch.close()

    def _feed(self, batch: tuple[Change, ...]) -> None:
        if not batch or self._closed.is_set():
            return
        # Known before it is applied: if that fails half-way, the next list must be able to take all of it back.
        self._known.update(change.key for change in batch if change.value is not None)
        self._apply(batch)
        self._known.difference_update(change.key for change in batch if change.value is None)
        self._revision = max(change.mod_revision for change in batch)


def follow(store: Store, prefix: str, apply: Apply, without: str = "") -> Follower:
    """Starts at once, and waits for a store that is away."""
    follower = Follower(store, prefix, apply, without)
    follower.start()
    return follower
