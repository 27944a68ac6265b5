"""What no single call does: reclaiming Interfaces whose VM has been gone for long enough, and trimming the journal.

Where no controller runs, one agent does it: the one that holds a key on a lease. Losing the lease in the middle is
harmless, since every release is a compare-and-delete of exactly what was judged.
"""

import logging
from collections.abc import Callable

from homeport_agent.worker import Worker
from homeport_api.errors import HomeportError
from homeport_ipam.allocator import Allocator
from homeport_store import keys
from homeport_store.protocol import Lease, Store

log = logging.getLogger(__name__)

LEASE = 30.0
INTERVAL = 10.0
KEEP_JOURNAL = 30 * 86_400.0
TRIM_EVERY = 360
"""Intervals between two looks at the journal: an hour."""


class Sweeper(Worker):
    """`start` begins to try for the key; `close` gives it back."""

    def __init__(
        self,
        node: str,
        store: Store,
        allocator: Allocator,
        clock: Callable[[], float],
        interval: float = INTERVAL,
    ) -> None:
        super().__init__("sweeper", begin=interval, first=interval, longest=interval)
        self._node = node
        self._store = store
        self._allocator = allocator
        self._clock = clock
        self._interval = interval
        self._lease: Lease | None = None
        self._rounds = 0

    def close(self) -> None:
        super().close()
        if self._lease is not None:
            try:
                self._lease.close()
            except HomeportError as error:
                log.debug("the sweeper's lease runs out by itself error=%s", error)

    def work(self) -> float:
        if self._chosen():
            self._sweep(trim=self._rounds % TRIM_EVERY == 0)
            self._rounds += 1
        return self._interval

    def _chosen(self) -> bool:
        """Whether this agent is the one. The key of one that died is free when its lease has run out."""
        if self._lease is None or self._lease.lost:
            self._lease = self._store.lease(LEASE)
        found = self._store.get(keys.SWEEPER)
        if found is not None:
            return found.value == self._value()
        return self._store.put_if(keys.SWEEPER, self._value(), 0, self._lease.id) is not None

    def _value(self) -> bytes:
        assert self._lease is not None
        return f"{self._node} {self._lease.id}".encode()

    def _sweep(self, *, trim: bool) -> None:
        now = self._clock()
        for key in self._allocator.reclaim(now):
            log.info("reclaimed interface=%s", key)
        if trim and (trimmed := self._allocator.trim_journal(now - KEEP_JOURNAL)):
            log.info("trimmed the journal entries=%d", trimmed)
