"""New addresses after a restore: withheld, and never for good."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from homeport_agent import replay
from homeport_agent.heartbeat import Heartbeat
from homeport_agent.journal import Journal
from homeport_agent.locks import KeyedLocks
from homeport_agent.replay import Replayer
from homeport_api.errors import Unavailable
from homeport_api.node import NodeRecord
from homeport_ipam.allocator import Allocator
from homeport_ipam.view import View
from homeport_store import generation, keys
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Listing, Put
from tests.ipam.worlds import World, call, nic


class Faltering(MemoryStore):
    """Loses every list of the nodes while `lost` is set."""

    lost = False

    def list(self, prefix: str, without: str = "", limit: int = 0) -> Listing:
        if self.lost and prefix == keys.NODES:
            raise Unavailable("no answer in time")
        return super().list(prefix, without, limit)


@contextmanager
def replaying(world: World, directory: Path, restore_wait: float) -> Iterator[Allocator]:
    """The agent of node n9, which has seen the store before it was restored."""
    generation.ensure(world.store)
    (directory / "generation.json").write_text(json.dumps(asdict(generation.look(world.store))))
    world.store.txn((), [Put(keys.GENERATION, generation.dump(generation.new()))])
    allocator = Allocator(world.store, View(), "test", 0.0, time.time, random.Random(0))
    heartbeat = Heartbeat(world.store, NodeRecord("n9", "m9", "b9"), 30.0)
    with closing(Journal(directory)) as journal:
        replayer = Replayer(
            world.store, directory, journal, KeyedLocks(), allocator, heartbeat, restore_wait, lambda: None
        )
        with closing(replayer):
            replayer.judge(store_up=True)
            replayer.start()
            yield allocator


def seconds_until_new_addresses(allocator: Allocator, within: float) -> float:
    began = time.monotonic()
    while True:
        try:
            allocator.attach(call(nic("new")))
        except Unavailable as error:
            assert "no new address" in str(error)
            assert time.monotonic() < began + within, f"still after {within:g} s: {error}"
            time.sleep(0.05)
        else:
            return time.monotonic() - began


def test_a_node_whose_record_cannot_be_read_is_waited_for_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "SETTLE", 0.1)
    world = World()
    world.store.txn((), [Put(keys.node("n2"), b'{"schema":99}')])
    with replaying(world, tmp_path, 1.5) as allocator:
        assert 1.0 < seconds_until_new_addresses(allocator, 10) < 5


def test_a_store_that_falters_meanwhile_does_not_begin_the_wait_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "SETTLE", 0.1)
    store = Faltering()
    world = World(store=store)
    world.heartbeat("n2", "b2")
    store.lost = True
    with replaying(world, tmp_path, 1.5) as allocator:
        assert 1.0 < seconds_until_new_addresses(allocator, 10) < 5
