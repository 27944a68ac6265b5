"""The worlds that the contract runs over: memory, one etcd on a unix socket, three with mutual TLS."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from homeport_netns_fixtures.etcd import Etcd, etcd_cluster, etcd_member
from homeport_store.etcd import EtcdStore, Tls
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Store

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class World:
    """`connect` gives another handle to the same store; `compact` forgets its history; `prefix` is this test's own;
    no lease is shorter than `shortest_ttl`, in seconds."""

    prefix: str
    connect: Callable[[], Store]
    compact: Callable[[], None]
    shortest_ttl: float


def tls_of(etcd: Etcd) -> Tls | None:
    if etcd.certificates is None:
        return None
    certificates = etcd.certificates
    return Tls(*map(Path.read_bytes, (certificates.ca, certificates.client_cert, certificates.client_key)))


def connect(etcd: Etcd, timeout: float = 5.0) -> EtcdStore:
    return EtcdStore(etcd.endpoints, tls_of(etcd), timeout)


def compact(etcd: Etcd, store: Store) -> None:
    etcd.etcdctl("compaction", str(store.list("/").revision))


@pytest.fixture(scope="session")
def quiet_etcd() -> Iterator[Etcd]:
    """One member for all tests that harm nobody."""
    with etcd_member() as etcd:
        yield etcd


@pytest.fixture(scope="session")
def quiet_three() -> Iterator[Etcd]:
    with etcd_cluster() as etcd:
        yield etcd


@pytest.fixture(
    params=[
        "memory",
        pytest.param("quiet_etcd", marks=pytest.mark.host, id="etcd"),
        pytest.param("quiet_three", marks=pytest.mark.host, id="three with TLS"),
    ]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    prefix = f"/test/{next(_numbers)}/"
    if request.param == "memory":
        memory = MemoryStore()
        yield World(prefix, lambda: memory, memory.compact, shortest_ttl=0.1)
        memory.close()
        return
    etcd = request.getfixturevalue(request.param)
    stores = [connect(etcd)]

    def another() -> Store:
        stores.append(connect(etcd))
        return stores[-1]

    yield World(prefix, another, lambda: compact(etcd, stores[0]), shortest_ttl=1 if len(etcd.members) == 1 else 2)
    for store in stores:
        store.close()


@pytest.fixture
def store(world: World) -> Store:
    return world.connect()
