"""Locks by key: calls for the same thing wait for one another, calls for different things never do."""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from homeport_api.errors import Unavailable


class KeyedLocks:
    """A lock exists while somebody holds or awaits it, so the table stays as small as the work in hand."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Hashable, tuple[threading.Lock, int]] = {}

    def busy(self, key: Hashable) -> bool:
        """Whether somebody holds or awaits the key just now: by the time of the answer it may be otherwise."""
        with self._guard:
            return key in self._locks

    @contextmanager
    def hold(self, key: Hashable, timeout: float = 60.0) -> Iterator[None]:
        """Raises Unavailable when another call keeps the key for longer than `timeout` seconds."""
        with self._guard:
            lock, waiting = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, waiting + 1)
        try:
            if not lock.acquire(timeout=timeout):
                raise Unavailable(f"another call for {key} has been at work for {timeout:.0f} s")
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                lock, waiting = self._locks[key]
                if waiting == 1:
                    del self._locks[key]
                else:
                    self._locks[key] = (lock, waiting - 1)
