"""What a view makes of news in any order."""

import random
from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st

from homeport_api import wire
from homeport_api.addresses import L2Domain
from homeport_api.owner import Owner
from homeport_ipam.view import View
from homeport_store import keys
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Change, Put
from tests.ipam.worlds import World, call, network, nic, written

BLUE = L2Domain("bond0:100")


def everything(view: View) -> dict[str, int]:
    return {key: entry[0] for key, entry in view._held(keys.PREFIX)}


def in_store(world: World) -> dict[str, int]:
    return {
        record.key: record.mod_revision
        for record in world.store.list(keys.PREFIX).records
        if not record.key.startswith(keys.JOURNAL)
    }


def busy() -> tuple[World, list[Change]]:
    """A world with some history, and its whole watch."""
    world = World((network("blue", "10.0.0.0/29", "fd00::/120"), network("red", "10.0.1.0/24", vlan=200)))
    watch = world.store.watch(keys.PREFIX, 0)
    pod = call(nic("pod", ephemeral=True), container="p")
    world.allocator.attach(call(nic(), nic(interface="eth1", net="red")))
    world.allocator.attach(pod)
    world.allocator.end(pod.key, "DEL")
    world.allocator.end(call().key, "DEL")
    world.allocator.attach(pod)
    end = world.store.list(keys.PREFIX).revision
    changes: list[Change] = []
    for batch in watch:
        changes.extend(batch)
        if changes[-1].mod_revision == end:
            break
    watch.close()
    return world, changes


def test_feed_load_and_own_transactions_agree() -> None:
    world, changes = busy()
    fed, loaded = View(), View()
    fed.feed(changes)
    loaded.load(world.store.list(keys.PREFIX))
    assert everything(fed) == everything(loaded) == everything(world.views[0]) == in_store(world)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000))
def test_late_and_repeated_news_never_wins(seed: int) -> None:
    world, changes = busy()
    view = View()
    view.load(world.store.list(keys.PREFIX))
    before = everything(view)
    late = [change for change in changes if change.key in before]
    random.Random(seed).shuffle(late)
    view.feed(late)
    assert everything(view) == before


def test_a_list_drops_what_it_lacks_unless_that_is_newer() -> None:
    store = MemoryStore()
    view = View()
    key, newer = keys.address(BLUE, _ip("10.0.0.5")), keys.address(BLUE, _ip("10.0.0.6"))
    value = wire.OWNER.dumps(Owner(written().key, "u"))
    store.txn((), [Put("/unrelated", b"")])
    listing = store.list(keys.addresses_of(BLUE))
    view.feed([Change(key, value, 1, 1), Change(newer, value, 99, 99)])
    assert view.load(listing, keys.addresses_of(BLUE))
    assert list(everything(view)) == [newer]
    assert not view.load(listing, keys.addresses_of(BLUE))


def test_what_is_not_ours_to_know_is_ignored() -> None:
    view = View()
    view.feed(
        [
            Change(keys.ADDRESSES + "bond0:100/not-an-address", b"x", 1, 1),
            Change(keys.JOURNAL + "x", b"x", 1, 1),
            Change("/elsewhere", b"x", 1, 1),
        ]
    )
    assert everything(view) == {}


def test_networks_but_the_unreadable() -> None:
    world = World((network("red", vlan=200), network("blue")))
    view = world.views[0]
    view.feed([Change(keys.network("grey"), b'{"schema":99}', 50, 50)])
    assert [each.name for each in view.networks()] == ["blue", "red"]
    view.feed([Change(keys.network("blue"), None, 0, 60)])
    assert [each.name for each in view.networks()] == ["red"]


def test_a_changed_network_is_laid_out_anew() -> None:
    world = World((network("blue", "10.0.0.0/30"),))
    for vm in ("a", "b"):
        world.allocator.attach(call(nic(vm), container=vm))
    world.change_network("blue", ipam=network("blue", "10.0.0.0/30", "10.0.5.0/30").spec.ipam)
    (one,) = world.allocator.attach(call(nic("c"), container="c"))
    assert str(one.nic.addresses[0]).startswith("10.0.5.")


def _ip(text: str) -> IPv4Address:
    return IPv4Address(text)
