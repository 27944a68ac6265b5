"""The store in etcd: the one module that imports the etcd client.

The client is the PyPI package `python3-etcd3`, and of it only the generated messages and stubs (`etcd3.etcdrpc`), over
grpc directly: its own watches end without a word when a member dies, and so do those of its sisters. What each
candidate did when members were killed is in docs/store.md.

    EtcdStore ── verbs ──► _Members ── one grpc channel each ──► member, member, member
        ├── etcd_watch.EtcdWatch   a thread and a stream for each watch: resume, resync
        └── etcd_lease.Keeper      one thread for all leases that are kept alive

What is retried, and where:
- Reads are linearizable, and repeated at the next member until the time is up. `hasleader` makes a member that is cut
  off from the others refuse at once, and end its watches.
- A write is repeated only when it certainly never reached a member: no connection, or refused for want of a leader.
  Anything else may have been applied, so it raises Unavailable and the caller reads before it decides.
"""

import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

# Read when grpc is imported. What it would write to stderr (failed handshakes) is in our errors.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from etcd3 import etcdrpc

from homeport_api.errors import Conflict, HomeportError, Invalid, NotAllowed, NotFound, Unavailable
from homeport_store.etcd_lease import EtcdLease, Keeper
from homeport_store.etcd_watch import EtcdWatch, Heard
from homeport_store.protocol import Change, Delete, Listing, PrefixEmpty, Put, Record, TxnResult, Unchanged

PAGE = 5_000
_HAS_LEADER = (("hasleader", "true"),)
_CHANNEL_OPTIONS = (
    ("grpc.enable_retries", 0),  # one call is one request; what may be repeated is decided here
    ("grpc.use_local_subchannel_pool", 1),  # a store's connections are its own
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # how long one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 10_000),  # etcd closes connections that ping more often than every 5 s
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
)
_SPACE_BETWEEN_ROUNDS = 0.1
_NEVER_SENT = ("failed to connect to all addresses", "etcdserver: no leader")
_UNDECIDED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
)
_REFUSED: dict[grpc.StatusCode, type[HomeportError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.OUT_OF_RANGE: Conflict,  # compacted
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
    grpc.StatusCode.UNAUTHENTICATED: NotAllowed,
}

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM contents for mutual TLS, read once: new certificates need a new store."""

    ca: bytes
    cert: bytes
    key: bytes


class _Member:
    """One endpoint: a channel, which connects and reconnects by itself, and the calls we make on it."""

    def __init__(self, endpoint: str, tls: Tls | None) -> None:
        self.endpoint = endpoint
        scheme, _, address = endpoint.partition("://")
        if scheme == "https":
            if tls is None:
                raise Invalid(f"{endpoint}: https needs a CA, a certificate and a key")
            credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
            self.channel = grpc.secure_channel(address, credentials, _CHANNEL_OPTIONS)
        elif scheme in ("http", "unix"):
            self.channel = grpc.insecure_channel(endpoint if scheme == "unix" else address, _CHANNEL_OPTIONS)
        else:
            raise Invalid(f"{endpoint}: an endpoint is https://HOST:PORT or unix:///PATH")
        keys, leases = etcdrpc.KVStub(self.channel), etcdrpc.LeaseStub(self.channel)
        self.range, self.txn = keys.Range, keys.Txn
        self.grant, self.revoke, self.keep_alive = leases.LeaseGrant, leases.LeaseRevoke, leases.LeaseKeepAlive
        self.watch = etcdrpc.WatchStub(self.channel).Watch


class _Members:
    """Which member is asked: the same one until it fails, then the next."""

    def __init__(self, endpoints: Sequence[str], tls: Tls | None) -> None:
        self.all = tuple(_Member(endpoint, tls) for endpoint in endpoints)
        self._lock = threading.Lock()
        self._current = 0

    def current(self) -> _Member:
        return self.all[self._current]

    def failed(self, member: _Member) -> None:
        """Turns to the next one, unless another thread did already."""
        with self._lock:
            if self.all[self._current] is member:
                self._current = (self._current + 1) % len(self.all)

    def __str__(self) -> str:
        return ", ".join(member.endpoint for member in self.all)


class EtcdStore:
    """Any number of endpoints of one cluster. Nothing is connected until the first verb; every verb answers or raises
    Unavailable within `timeout` seconds, and works again by itself once etcd does."""

    def __init__(self, endpoints: Sequence[str], tls: Tls | None = None, timeout: float = 5.0) -> None:
        if not endpoints:
            raise Invalid("etcd has no endpoints: name at least one")
        self._members = _Members(endpoints, tls)
        self._timeout = timeout
        self._closed = threading.Event()
        self._watches: set[EtcdWatch] = set()
        self._lock = threading.Lock()
        self._keeper = Keeper(self._keep_alive)

    def get(self, key: str) -> Record | None:
        request = etcdrpc.RangeRequest(key=_bytes(key))
        answer = self._read(lambda member: member.range, request)
        return _record(answer.kvs[0]) if answer.kvs else None

    def list(self, prefix: str, without: str = "", limit: int = 0) -> Listing:
        """Large prefixes are read in pages, all at the first page's revision; begins anew in the rare case that this
        revision is compacted meanwhile."""
        while True:
            try:
                revision, pairs = self._pages(prefix, without=without, limit=limit)
            except Conflict:
                continue
            return Listing(revision, tuple(_record(pair) for pair in pairs))

    def put_if(self, key: str, value: bytes, revision: int, lease: int = 0) -> int | None:
        result = self.txn((Unchanged(key, revision),), (Put(key, value, lease),))
        return result.revision if result.applied else None

    def txn(self, preconditions: Sequence[Unchanged | PrefixEmpty], writes: Sequence[Put | Delete]) -> TxnResult:
        request = etcdrpc.TxnRequest(compare=map(_compare, preconditions), success=map(_operation, writes))
        try:
            answer = self._write(lambda member: member.txn, request)
        except Invalid as error:
            if "too many operations" not in str(error):
                raise
            count = max(len(preconditions), len(writes))
            raise Invalid(
                f"a transaction of {count} operations is more than this etcd takes: "
                "split it, or start etcd with a larger --max-txn-ops (its default is 128)"
            ) from error
        return TxnResult(answer.succeeded, answer.header.revision)

    def watch(
        self, prefix: str, after_revision: int, known: Iterable[str] | None = None, without: str = ""
    ) -> EtcdWatch:
        if known is None and after_revision > 0:
            _, pairs = self._pages(prefix, after_revision, keys_only=True, without=without)
            known = (_text(pair.key) for pair in pairs)
        watch = EtcdWatch(prefix, after_revision, known or (), self._stream, self.list, without)
        with self._lock:
            self._check_open()
            self._watches = {watch, *(old for old in self._watches if not old.closed)}
        watch.start()
        return watch

    def lease(self, ttl: float, keep_alive: bool = True) -> EtcdLease:
        """Unavailable may leave a lease behind that nobody knows; it holds no keys and ends by itself."""
        if ttl <= 0:
            raise Invalid(f"a lease of {ttl} seconds would never hold: give a positive number")
        asked = EtcdLease.clock()
        answer = self._write(lambda member: member.grant, etcdrpc.LeaseGrantRequest(TTL=math.ceil(ttl)))
        lease = EtcdLease(answer.ID, answer.TTL, asked, self._keeper, self._revoke)
        if keep_alive:
            self._keeper.add(lease)
        return lease

    def close(self) -> None:
        """Ends watches and keep-alives; leases that were not closed expire. Later calls raise Unavailable."""
        self._closed.set()
        self._keeper.close()
        with self._lock:
            watches = self._watches
        for watch in watches:
            watch.close()
        for watch in watches:
            watch.join()
        for member in self._members.all:
            member.channel.close()

    def _pages(
        self, prefix: str, revision: int = 0, keys_only: bool = False, without: str = "", limit: int = 0
    ) -> tuple[int, Sequence[Any]]:
        """The key-value pairs under the prefix as of `revision` (0: now), and the revision they were read at."""
        pairs: list[Any] = []
        for start, end in _ranges(prefix, without):
            more = True
            while more and (not limit or len(pairs) < limit):
                page = min(PAGE, limit - len(pairs)) if limit else PAGE
                request = etcdrpc.RangeRequest(
                    key=start, range_end=end, limit=page, revision=revision, keys_only=keys_only
                )
                answer = self._read(lambda member: member.range, request)
                revision = revision or answer.header.revision
                pairs.extend(answer.kvs)
                more = answer.more
                start = pairs[-1].key + b"\0" if more else start
        return revision, pairs

    def _revoke(self, lease_id: int) -> None:
        self._write(lambda member: member.revoke, etcdrpc.LeaseRevokeRequest(ID=lease_id))

    def _keep_alive(self, lease_id: int, timeout: float) -> bool:
        """False when etcd says that the lease is over."""
        request = etcdrpc.LeaseKeepAliveRequest(ID=lease_id)

        def once(member: _Member) -> Callable[..., Any]:
            return lambda request, **options: next(member.keep_alive(iter((request,)), **options))

        return bool(self._call(once, request, safe=True, timeout=timeout).TTL > 0)

    def _stream(self, prefix: str, start_revision: int) -> "_Stream":
        self._check_open()
        return _Stream(self._members, prefix, start_revision)

    def _read(self, verb: Callable[[_Member], Callable[..., R]], request: object) -> R:
        return self._call(verb, request, safe=True, timeout=self._timeout)

    def _write(self, verb: Callable[[_Member], Callable[..., R]], request: object) -> R:
        return self._call(verb, request, safe=False, timeout=self._timeout)

    def _call(self, verb: Callable[[_Member], Callable[..., R]], request: object, *, safe: bool, timeout: float) -> R:
        """One verb at one member after another, until it is answered, refused, undecided, or `timeout` is over."""
        deadline = time.monotonic() + timeout
        # A member that hangs must leave a read time for the others. A write has one try: it waits as long as it may.
        share = timeout / len(self._members.all) if safe else timeout
        for tries in itertools.count(1):
            self._check_open()
            member = self._members.current()
            within = min(share, max(deadline - time.monotonic(), 0.001))
            try:
                return verb(member)(request, timeout=within, metadata=_HAS_LEADER)
            except ValueError as error:  # grpc's way to say that the channel was closed under the call
                raise Unavailable("the store was closed") from error
            except grpc.RpcError as error:
                if (failure := _failure(error, member)) is not None:
                    raise failure from error
                self._members.failed(member)
                details = _details(error)
                if not safe and not details.startswith(_NEVER_SENT):
                    raise Unavailable(
                        f"etcd at {member.endpoint} did not answer ({details}); the write may have been applied: "
                        "read before writing again"
                    ) from error
                if time.monotonic() + _SPACE_BETWEEN_ROUNDS > deadline:
                    raise Unavailable(
                        f"etcd at {self._members} is out of reach ({details}); it was tried for {timeout:g} s"
                    ) from error
            if tries % len(self._members.all) == 0:
                self._closed.wait(_SPACE_BETWEEN_ROUNDS)
        raise AssertionError("counting ended")

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise Unavailable("the store is closed")


class _Stream:
    """One watch stream at one member. Iterating raises Unavailable when it is cut; `cancel` from any thread ends it."""

    def __init__(self, members: _Members, prefix: str, start_revision: int) -> None:
        self._members = members
        self._member = members.current()
        self._done = threading.Event()
        start, end = _range(prefix)
        create = etcdrpc.WatchCreateRequest(
            key=start, range_end=end, start_revision=start_revision, progress_notify=True
        )
        requests = self._requests(etcdrpc.WatchRequest(create_request=create))
        try:
            self._call = self._member.watch(requests, metadata=_HAS_LEADER)
        except ValueError as error:
            raise Unavailable("the store was closed") from error

    def __iter__(self) -> Iterator[Heard]:
        try:
            for answer in self._call:
                if answer.canceled and not answer.compact_revision:
                    raise Unavailable(f"etcd at {self._member.endpoint} ended the watch: {answer.cancel_reason}")
                yield Heard(
                    cluster=answer.header.cluster_id,
                    revision=answer.header.revision,
                    created=answer.created,
                    compacted=answer.compact_revision > 0,
                    changes=tuple(_change(event) for event in answer.events),
                )
        except grpc.RpcError as error:
            self._members.failed(self._member)
            raise Unavailable(f"etcd at {self._member.endpoint}: {_details(error)}") from error
        finally:
            self.cancel()

    def cancel(self) -> None:
        self._done.set()
        self._call.cancel()

    def _requests(self, create: object) -> Iterator[object]:
        """Stays open after its one request: a proxy ends a watch whose client has nothing more to say."""
        yield create
        self._done.wait()


def _failure(error: Any, member: _Member) -> HomeportError | None:
    """The error to raise when etcd decided; None when it did not, or nobody knows. (The type of what grpc raises has
    none of its methods.)"""
    if error.code() in _UNDECIDED:
        return None
    return _REFUSED.get(error.code(), Unavailable)(f"etcd at {member.endpoint} refused: {_details(error)}")


def _details(error: Any) -> str:
    return str(error.details() or error.code().name)


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _text(key: bytes) -> str:
    """A key that is no text is somebody else's, and must not end a watch."""
    return key.decode("utf-8", "surrogateescape")


def _range(prefix: str) -> tuple[bytes, bytes]:
    """Key and range_end of all keys with the prefix. The last byte of UTF-8 is never 0xff, so one more is enough."""
    start = _bytes(prefix)
    return (start, start[:-1] + bytes([start[-1] + 1])) if start else (b"\0", b"\0")


def _ranges(prefix: str, without: str) -> list[tuple[bytes, bytes]]:
    """What is before and after that which is left out; the one range of the prefix where it lies elsewhere."""
    start, end = _range(prefix)
    if not without or not without.startswith(prefix):
        return [(start, end)]
    first, last = _range(without)
    return [(low, high) for low, high in ((start, first), (last, end)) if low != high]


def _record(pair: Any) -> Record:
    return Record(_text(pair.key), pair.value, pair.create_revision, pair.mod_revision, pair.lease)


def _change(event: Any) -> Change:
    pair = event.kv
    deleted = event.type == event.DELETE
    return Change(_text(pair.key), None if deleted else pair.value, pair.create_revision, pair.mod_revision)


def _compare(precondition: Unchanged | PrefixEmpty) -> Any:
    """The mod revision of an absent key compares as 0, and so does that of an empty range."""
    options = {"result": etcdrpc.Compare.EQUAL, "target": etcdrpc.Compare.MOD}
    match precondition:
        case Unchanged(key, revision):
            return etcdrpc.Compare(key=_bytes(key), mod_revision=revision, **options)
        case PrefixEmpty(prefix):
            start, end = _range(prefix)
            return etcdrpc.Compare(key=start, range_end=end, mod_revision=0, **options)


def _operation(write: Put | Delete) -> Any:
    match write:
        case Put(key, value, lease):
            return etcdrpc.RequestOp(request_put=etcdrpc.PutRequest(key=_bytes(key), value=value, lease=lease))
        case Delete(key):
            return etcdrpc.RequestOp(request_delete_range=etcdrpc.DeleteRangeRequest(key=_bytes(key)))
