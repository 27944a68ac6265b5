"""Leases in etcd, and the one thread that keeps them alive.

A holder must never believe in a lease that etcd has ended, so its own clock decides first: a lease whose last
successful keep-alive was *sent* more than its TTL ago is lost for good, even where etcd, back after an outage, still
counts it as alive; its keys then vanish a TTL later. The clock goes on while the machine sleeps.
"""

import logging
import threading
import time
from collections.abc import Callable

from homeport_api.errors import HomeportError, NotFound, Unavailable

log = logging.getLogger(__name__)


class EtcdLease:
    """Made by `EtcdStore.lease`; kept alive only when it was given to the keeper."""

    def __init__(
        self, lease_id: int, ttl: float, asked: float, keeper: "Keeper", revoke: Callable[[int], None]
    ) -> None:
        self._id = lease_id
        self._ttl = ttl
        self._expires = asked + ttl
        self._ended = False
        self._keeper = keeper
        self._revoke = revoke

    @staticmethod
    def clock() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    @property
    def id(self) -> int:
        return self._id

    @property
    def ttl(self) -> float:
        """What etcd granted, in seconds."""
        return self._ttl

    @property
    def lost(self) -> bool:
        if self.clock() >= self._expires:
            self._ended = True
        return self._ended

    def close(self) -> None:
        """Revokes: etcd deletes the lease's keys. When etcd cannot be reached they go when the TTL is over."""
        self._ended = True
        self._keeper.discard(self)
        try:
            self._revoke(self._id)
        except NotFound:
            pass
        except Unavailable as error:
            log.warning("lease not revoked, it will expire id=%x ttl=%g: %s", self._id, self._ttl, error)

    def renewed(self, asked: float) -> None:
        self._expires = asked + self._ttl

    def end(self) -> None:
        self._ended = True


class Keeper:
    """Renews every lease three times in its TTL. `keep_alive(id, timeout)` is False when etcd says it is over."""

    def __init__(self, keep_alive: Callable[[int, float], bool]) -> None:
        self._keep_alive = keep_alive
        self._wake = threading.Condition()
        self._due: dict[EtcdLease, float] = {}
        self._closed = False
        self._thread: threading.Thread | None = None

    def add(self, lease: EtcdLease) -> None:
        with self._wake:
            self._due[lease] = lease.clock() + lease.ttl / 3
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease keeper", daemon=True)
                self._thread.start()
            self._wake.notify()

    def discard(self, lease: EtcdLease) -> None:
        with self._wake:
            self._due.pop(lease, None)

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(5)

    def _run(self) -> None:
        while (lease := self._next()) is not None:
            self._renew(lease)

    def _next(self) -> EtcdLease | None:
        """Sleeps until a lease is due; None when the keeper is closed."""
        with self._wake:
            while not self._closed:
                now = EtcdLease.clock()
                lease = min(self._due, key=self._due.__getitem__, default=None)
                if lease is not None and self._due[lease] <= now:
                    return lease
                self._wake.wait(None if lease is None else self._due[lease] - now)
        return None

    def _renew(self, lease: EtcdLease) -> None:
        asked = lease.clock()
        alive = not lease.lost
        pause = lease.ttl / 3
        if alive:
            try:
                alive = self._keep_alive(lease.id, lease.ttl / 3)
            except HomeportError as error:
                pause = lease.ttl / 10  # sooner: what is left of the TTL is running out
                log.debug("lease not renewed id=%x: %s", lease.id, error)
            else:
                if alive:
                    lease.renewed(asked)
        if not alive:
            lease.end()
            log.warning("lease lost id=%x ttl=%g", lease.id, lease.ttl)
        with self._wake:
            if not alive:
                self._due.pop(lease, None)
            elif lease in self._due:  # else it was closed meanwhile
                self._due[lease] = lease.clock() + pause
