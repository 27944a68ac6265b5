"""From a plan to the store: the one loop in which plans become transactions. Shell.

    view ──plan──► transaction ──applied──► view told, answered
             │          └──not applied──► what the plan looked at is read again ──► plan again
             ├──► refusal, or nothing to write: answered if all it looked at was read since the call began,
             │    else read first, then plan again
             └──► exhausted: the same, with a fresh list of the addresses

So a stale view costs time, never a wrong answer. A transaction whose outcome is unknown (the store was lost in the
middle) raises Unavailable and is never repeated here: every plan guards the key that would tell, so the caller's next
try finds out by itself whether the first had been applied.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from homeport_api.addresses import L2Domain
from homeport_api.errors import Exhausted, HomeportError, NotFound, Unavailable
from homeport_ipam.transaction import Transaction
from homeport_ipam.view import Reading, View
from homeport_store import keys
from homeport_store.protocol import Change, Put, Store

log = logging.getLogger(__name__)

T = TypeVar("T")
Planner = Callable[[Reading], tuple[Transaction | None, T]]

ATTEMPTS = 256
"""Each failed attempt is somebody else's success, so only more rivals than this could use them up."""
RELIST_AFTER = 4
"""Conflicts in a row after which the addresses are listed anew: the view learns of the taken one by one otherwise."""
REST_SHARED = 1 / 60
"""The part of the rest time during which releases share a lease. Each saves a round trip by it, and none rests longer
than by that much. Longer, and a busy store would wake thousands of addresses in one revision."""


class Committer:
    """Thread-safe; `rest_seconds` 0 lets no address rest."""

    def __init__(self, store: Store, view: View, rest_seconds: float) -> None:
        self._store = store
        self._view = view
        self._rest = _Rest(store, rest_seconds) if rest_seconds > 0 else None

    def run(self, planner: Planner[T]) -> T:
        """The answer of a plan that was applied, or that needed nothing. Raises the planner's refusal once it is
        confirmed; Unavailable when the store is out of reach or rivals never let go."""
        return _Run(self._store, self._view, self._rest).until_settled(planner)


class _Rest:
    """The lease that ends the rest of addresses, shared by those released within a short while. Thread-safe."""

    def __init__(self, store: Store, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._lock = threading.Lock()
        self._lease = 0
        self._good_until = 0.0

    def lease(self, lost: int = 0) -> int:
        """One with the whole rest time ahead. `lost` is one that the store turned out not to know."""
        with self._lock:
            now = time.monotonic()
            if now >= self._good_until or self._lease == lost:
                shared = self._seconds * REST_SHARED
                self._lease = self._store.lease(self._seconds + shared, keep_alive=False).id
                self._good_until = now + shared
            return self._lease


class _Run:
    """One call's attempts. `_fresh` and `_listed` are what was read since the last transaction was tried."""

    def __init__(self, store: Store, view: View, rest: _Rest | None) -> None:
        self._store = store
        self._view = view
        self._rest = rest
        self._fresh: set[str] = set()
        self._listed: set[L2Domain] = set()

    def until_settled(self, planner: Planner[T]) -> T:
        conflicts = 0
        for _ in range(ATTEMPTS):
            with self._view.reading() as reading:
                planned = _plan(planner, reading)
            if isinstance(planned, HomeportError):
                if self._confirmed(reading, isinstance(planned, Exhausted)):
                    raise planned
                continue
            transaction, answer = planned
            if transaction is None:
                if self._confirmed(reading, exhausted=False):
                    return answer
                continue
            if self._apply(transaction):
                return answer
            conflicts += 1
            self._fresh.clear()
            self._listed.clear()
            self._read_again(reading)
            if conflicts % RELIST_AFTER == 0:
                self._list_again(reading)
        raise Unavailable(f"the store's records changed under {conflicts} attempts in a row: try again")

    def _apply(self, transaction: Transaction) -> bool:
        if self._rest is None or not transaction.rests:
            return self._try(transaction, 0)
        lease = self._rest.lease()
        try:
            return self._try(transaction, lease)
        except NotFound:  # the store was restored from an older copy, or this machine slept for longer than the lease
            return self._try(transaction, self._rest.lease(lost=lease))

    def _try(self, transaction: Transaction, lease: int) -> bool:
        writes = transaction.writes
        if lease:
            writes += tuple(Put(rest.key, rest.value, lease) for rest in transaction.rests)
        result = self._store.txn(transaction.preconditions, writes)
        if not result.applied:
            log.debug("conflict: revision=%d", result.revision)
            return False
        self._view.feed(
            Change(write.key, write.value if isinstance(write, Put) else None, 0, result.revision) for write in writes
        )
        return True

    def _confirmed(self, reading: Reading, exhausted: bool) -> bool:
        """Whether all this depends on was read in this call; if not, it is read now."""
        if _grounds(reading) <= self._fresh and (not exhausted or reading.domains <= self._listed):
            return True
        self._read_again(reading)
        if exhausted:
            self._list_again(reading)
        return False

    def _read_again(self, reading: Reading) -> None:
        for key, seen in reading.keys.items():
            if key not in self._fresh:
                self._view.reread(key, self._store.get(key), seen)
                self._fresh.add(key)
        for scopes in reading.mac_scopes:
            if scopes not in self._fresh:
                self._view.load(self._store.list(scopes), scopes)
                self._fresh.add(scopes)

    def _list_again(self, reading: Reading) -> None:
        for domain in reading.domains:
            for prefix in (keys.addresses_of(domain), keys.rest_of(domain)):
                self._view.load(self._store.list(prefix), prefix)
            self._listed.add(domain)


def _plan(planner: Planner[T], reading: Reading) -> tuple[Transaction | None, T] | HomeportError:
    try:
        return planner(reading)
    except HomeportError as refusal:
        return refusal


def _grounds(reading: Reading) -> set[str]:
    """What an answer without a transaction can rest on. Not a free address that was picked at random on the way to it:
    another try picks another, and no refusal follows from an address being free or at rest."""
    return {
        key
        for key, seen in reading.keys.items()
        if not key.startswith(keys.REST) and (seen or not key.startswith(keys.ADDRESSES))
    } | reading.mac_scopes
