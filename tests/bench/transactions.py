"""Row 4: address transactions of three nodes at once, on pools of four sizes, up to 99 % full.

Three processes, a node each: a `homeport_ipam` allocator with a view that follows one real etcd, as agents have it.
Each attaches an Interface and ends it again, over and over, so a pool stays as full as it was made. All pools live in
one store, and short slices of work on each follow one another, so a busy moment of the machine hits all of them.

How a pool is filled: /24 and /16 with real records, in etcd and in every view. Of a /64, the 99 % that can be: as many
records as the fullest /16 has. Sixteen million records of a /8 fit neither etcd's quota nor this machine's memory
three times over: there the views' occupancy alone is told that the addresses are owned, which is what the choice of an
address looks at.
"""

import gc
import itertools
import multiprocessing
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from multiprocessing.connection import Connection

from homeport_api import wire
from homeport_api.addresses import IpAddress
from homeport_api.attachment import AttachmentKey, AttachRequest, Identity, NicRequest, Source
from homeport_api.interface import InterfaceKey
from homeport_api.meta import ObjectMeta
from homeport_api.network import Ipam, L2Config, Network, NetworkSpec
from homeport_api.owner import Owner, OwnerKind
from homeport_api.pool import Pool
from homeport_ipam.allocator import Allocator
from homeport_ipam.pool import space_of
from homeport_ipam.view import View
from homeport_netns_fixtures.etcd import Etcd, etcd_member
from homeport_store import keys
from homeport_store.etcd import EtcdStore
from homeport_store.objects import Objects
from homeport_store.protocol import Change, Put
from homeport_store.watch import Follower
from tests.bench.figures import median, ratio
from tests.bench.report import Row, Section, at_least

NODES = 3
SLICE = 0.4
BATCH = 512
WANTED = 500.0
FLAT = 0.9
NOTHING = ""
"""Instead of a Network's name: transactions of etcd alone, which nobody planned."""
BARE_WRITES = 5
FILLS = (10, 50, 90, 99)
REST = 600.0


@dataclass(frozen=True, slots=True)
class Filled:
    """One pool: its size as people say it, how full, and whether its records are real or only counted."""

    size: int
    percent: int
    owned: int
    network: Network
    real: bool

    @property
    def name(self) -> str:
        return f"/{self.size}, {self.owned:,} owned" if self.size == 64 else f"/{self.size}, {self.percent} % full"


def section(quick: bool) -> Section:
    pools = _pools((10, 99) if quick else FILLS, quick)
    rounds = 5 if quick else 20
    with etcd_member("--max-txn-ops", str(BATCH)) as etcd:
        networks = _fill(etcd, pools)
        with _nodes(etcd, pools, networks) as connections:
            rates: dict[str, list[float]] = {pool.name: [] for pool in pools}
            resting: list[float] = []
            bare: list[float] = []
            rested = next(pool for pool in pools if pool.size == 16)
            order = random.Random(1)
            for number in range(-1, rounds):
                for pool in order.sample(pools, len(pools)):
                    rate = _slice(connections, pool.network.name, 0.0)
                    if number >= 0:
                        rates[pool.name].append(rate)
                if number >= 0:
                    resting.append(_slice(connections, rested.network.name, REST))
                    bare.append(_slice(connections, NOTHING, 0.0))
    return Section(
        f"Address transactions, {NODES} nodes",
        f"{NODES} processes with a watch-fed view each and one etcd on a unix socket; a transaction is one attach or "
        f"one end of an Interface with its address, MAC, index and attachment, committed. {rounds} slices of {SLICE} s "
        "for each pool in turn, released addresses free at once, in one line at rest; the last "
        "line is what the same etcd does for the same processes without any planning. "
        "/8: the views' occupancy alone is filled, for sixteen million records fit no etcd.",
        (*_rows(pools, rates), *_compared(rested, rates, resting, bare)),
    )


def _rows(pools: Sequence[Filled], rates: dict[str, list[float]]) -> list[Row]:
    rows = []
    for pool in pools:
        base = next(each for each in pools if each.size == pool.size)
        here = rates[pool.name]
        rate = f"{median(here):,.0f} a second"
        if pool is base:
            rows.append(Row(pool.name, rate, goal=f"≥ {WANTED:.0f} a second", reached=median(here) >= WANTED))
        else:
            there = f"{median(rates[base.name]):,.0f} a second"
            row = at_least(pool.name, rate, base.name, there, ratio(here, rates[base.name]), FLAT)
            rows.append(row)
    return rows


def _compared(pool: Filled, rates: dict[str, list[float]], resting: list[float], bare: list[float]) -> list[Row]:
    rate = f"{median(rates[pool.name]):,.0f} a second"
    return [
        at_least(
            f"{pool.name}, with rest",
            f"{median(resting):,.0f} a second",
            "without",
            rate,
            ratio(resting, rates[pool.name]),
            None,
        ),
        at_least(
            pool.name,
            rate,
            f"etcd alone, {BARE_WRITES} writes",
            f"{median(bare):,.0f} a second",
            ratio(rates[pool.name], bare),
            None,
        ),
    ]


def _pools(fills: Sequence[int], quick: bool) -> list[Filled]:
    """The first of each size is the one that the others are compared with."""
    pools = []
    for size, percent in itertools.product((24, 16, 8), fills):
        if size == 8 and quick and percent != fills[0]:
            continue
        network = _network(f"p{size}-{percent}", f"10.0.0.0/{size}")
        owned = space_of(network, 4).capacity * percent // 100
        pools.append(Filled(size, percent, owned, network, real=size != 8))
    most = max(pool.owned for pool in pools if pool.size == 16)
    for percent, owned in ((0, 0), (99, most)):
        pools.append(Filled(64, percent, owned, _network(f"p64-{percent}", "fd00::/64"), real=True))
    return pools


def _network(name: str, cidr: str) -> Network:
    """On a bridge of its own, so that every pool is an L2 domain of its own."""
    return Network(ObjectMeta(name), NetworkSpec(None, L2Config(), ipam=Ipam((Pool(ip_network(cidr)),))))


def _fill(etcd: Etcd, pools: Sequence[Filled]) -> list[tuple[str, bytes, int]]:
    """Writes Networks and real records; the Networks' keys, values and revisions. In a process of its own, since this
    one is going to fork and must not have spoken to etcd before."""
    ours, theirs = multiprocessing.Pipe()
    writer = multiprocessing.get_context("fork").Process(target=_write, args=(etcd.endpoints, pools, theirs))
    writer.start()
    theirs.close()
    try:
        written: list[tuple[str, bytes, int]] = ours.recv()
    finally:
        writer.join()
    return written


def _write(endpoints: tuple[str, ...], pools: Sequence[Filled], answer: Connection) -> None:
    store = EtcdStore(endpoints)
    for pool in pools:
        Objects(store).networks.save(pool.network)
        if pool.real:
            puts = (_record(pool.network, address) for address in _owned(pool))
            while batch := tuple(itertools.islice(puts, BATCH)):
                store.txn((), batch)
    answer.send([(each.key, each.value, each.mod_revision) for each in store.list(keys.NETWORKS).records])
    store.close()


def _owned(pool: Filled) -> list[IpAddress]:
    """Spread over the pool at random, as use leaves it."""
    space = space_of(pool.network, 6 if pool.size == 64 else 4)
    numbers = random.Random(1).sample(range(min(space.capacity, 2**40)), pool.owned)
    return [space.address(number) for number in numbers]


def _record(network: Network, address: IpAddress) -> Put:
    owner = Owner(
        InterfaceKey("other", f"vm-{int(address) & 0xFFFFFF:x}-eth0"), f"{int(address):032x}", OwnerKind.CHOSEN
    )
    assert network.l2_domain is not None
    return Put(keys.address(network.l2_domain, address), wire.OWNER.dumps(owner))


@contextmanager
def _nodes(
    etcd: Etcd, pools: Sequence[Filled], networks: Sequence[tuple[str, bytes, int]]
) -> Iterator[list[Connection]]:
    """The processes, forked from this one so that they share what stands for sixteen million addresses."""
    view = View()
    view.feed(Change(key, value, revision, revision) for key, value, revision in networks)
    for pool in pools:
        if not pool.real:
            occupancy = view.occupancy(pool.network, 4)
            first = int(ip_address(occupancy.space.address(0)))
            for number in range(first, first + pool.owned):
                occupancy.set(number, owned=True, resting=False)
    gc.freeze()
    context = multiprocessing.get_context("fork")
    pairs = [context.Pipe() for _ in range(NODES)]
    started = [
        context.Process(target=_node, args=(number, etcd.endpoints, view, theirs), daemon=True)
        for number, (_, theirs) in enumerate(pairs)
    ]
    for process in started:
        process.start()
    try:
        for ours, _ in pairs:
            assert ours.recv() == "ready"
        yield [ours for ours, _ in pairs]
    finally:
        for ours, _ in pairs:
            ours.send(None)
        for process in started:
            process.join()


def _slice(connections: Sequence[Connection], network: str, rest: float) -> float:
    """Transactions a second of all nodes together."""
    for connection in connections:
        connection.send((network, rest))
    rates: list[float] = [connection.recv() for connection in connections]
    return sum(rates)


def _node(number: int, endpoints: tuple[str, ...], view: View, orders: Connection) -> None:
    """One node's allocator: (network, rest) in, its rate out."""
    store = EtcdStore(endpoints)
    follower = Follower(store, keys.PREFIX, view.feed, without=keys.JOURNAL)
    follower.start()
    follower.synced.wait(120)
    randomness = random.Random(os.getpid())
    allocators = {rest: Allocator(store, view, "bench", rest, time.time, randomness) for rest in (0.0, REST)}
    orders.send("ready")
    serial = itertools.count()
    while (order := orders.recv()) is not None:
        network, rest = order
        began, done = time.perf_counter(), 0
        while (took := time.perf_counter() - began) < SLICE:
            if network == NOTHING:
                store.txn((), [Put(f"/bench/{number}/{at}", bytes(200)) for at in range(BARE_WRITES)])
                done += 1
                continue
            call = _call(number, network, next(serial))
            allocators[rest].attach(call)
            allocators[rest].end(call.key, "bench")
            done += 2
        orders.send(done / took)
    follower.close()
    store.close()


def _call(node: int, network: str, serial: int) -> AttachRequest:
    """A container that nobody knew: a new Interface, gone with its end."""
    container = f"c{node}-{serial}"
    key = AttachmentKey(f"n{node}", "homeport", "bench", container, "eth0")
    nic = NicRequest(Identity("default", container, "eth0", ephemeral=True), "eth0", network)
    return AttachRequest(key, Source.CNI, f"boot-{node}", (nic,))
