"""What a verb works with: the settings, the store and the agent, opened when they are first needed."""

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homeport_api.errors import Unavailable
from homeport_api.network import Network
from homeport_api.status import network_status
from homeport_cli.settings import Given, Settings, resolve
from homeport_cni import frames, sockets
from homeport_cni.errors import Code, exception_of
from homeport_ipam.allocator import Allocator
from homeport_ipam.journal import RELEASE
from homeport_ipam.status import in_use, owned_addresses, pool_statuses
from homeport_ipam.view import View
from homeport_store import keys
from homeport_store.objects import Objects
from homeport_store.protocol import Store

AGENT_TIMEOUT = 120.0
"""Longer than the agent lets a request queue and work, so that its own answer arrives."""

OpenStore = Callable[[Settings], Store]


def open_store(settings: Settings) -> Store:
    """The store that the settings name: an external etcd, or the one the agent of this node embeds."""
    from homeport_store.connect import StoreOptions, connect  # grpc takes long to import; many verbs need no store

    if not settings.endpoints:
        _require_embedded(settings)
    certificates = (settings.path("cacert"), settings.path("cert"), settings.path("key"))
    return connect(StoreOptions(settings.data_dir, settings.endpoints, *certificates))


def _require_embedded(settings: Settings) -> None:
    """Says at once what a connection would say after its timeout."""
    from homeport_store.embedded import endpoint_of

    socket = Path(endpoint_of(settings.data_dir).removeprefix("unix://"))
    try:
        socket.stat()
    except OSError as error:
        raise Unavailable(
            f"no embedded etcd answers at {socket} ({error.strerror}): start the agent of this node, or name the store "
            "with --data-dir or --etcd-endpoints; both need root"
        ) from error


@dataclass(slots=True)
class Session:
    """One invocation. `open_store` is what tests put a store of their own into. `view` is the allocator's: empty, so
    that it asks the store for what it needs."""

    environ: Mapping[str, str]
    open_store: OpenStore = open_store
    clock: Callable[[], float] = time.time
    given: Given = field(default_factory=Given)
    view: View = field(default_factory=View)
    _settings: Settings | None = None
    _store: Store | None = None

    @property
    def settings(self) -> Settings:
        """Resolved when the first verb asks, when all options have been read."""
        if self._settings is None:
            self._settings = resolve(self.given, self.environ)
        return self._settings

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = self.open_store(self.settings)
        return self._store

    @property
    def objects(self) -> Objects:
        return Objects(self.store)

    @property
    def allocator(self) -> Allocator:
        return Allocator(
            self.store,
            self.view,
            self.settings.text("cluster-name"),
            self.settings.seconds("rest"),
            self.clock,
            random.SystemRandom(),
        )

    def networks_with_status(self, networks: tuple[Network, ...]) -> tuple[Network, ...]:
        """Merged from the nodes' reports and the address records, as they are now."""
        objects = self.objects
        interfaces, reports = objects.interfaces_in(None), objects.reports()
        releases = [RELEASE.loads(record.value) for record in self.store.list(keys.JOURNAL).records]
        merged = []
        for network in networks:
            domain = network.l2_domain
            owned = owned_addresses(self.store.list(keys.addresses_of(domain)).records, domain) if domain else set()
            pools = pool_statuses(network, owned, interfaces, releases, self.clock())
            status = network_status(network, reports, pools, in_use(network.name, interfaces))
            merged.append(Network(network.meta, network.spec, status))
        return tuple(merged)

    def ask_agent(self, request: Mapping[str, Any], descriptors: tuple[int, ...] = ()) -> Any:
        """The result of one verb of the agent of this node. Raises Unavailable when it does not answer, and
        what it raised itself when it refuses."""
        with sockets.connect(str(self.settings.run_dir / "agent.sock")) as connection:
            sockets.send_frame(connection, frames.encode_json(request), descriptors)
            received = sockets.read_frame(connection, AGENT_TIMEOUT)
        if received is None:
            raise Unavailable("the agent closed the connection without an answer: look into its log")
        with received:
            answer = frames.decode_json(received.frame.payload)
        if answer.get("ok"):
            return answer.get("result")
        code, message = answer.get("code"), answer.get("msg") or "the agent refused without a reason"
        raise exception_of(code if isinstance(code, int) else Code.INTERNAL, str(message))

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


@contextmanager
def opened(environ: Mapping[str, str]) -> Iterator[Session]:
    session = Session(environ)
    try:
        yield session
    finally:
        session.close()


def is_terminal() -> bool:
    return sys.stdout.isatty()
