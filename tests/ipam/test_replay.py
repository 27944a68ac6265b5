"""A restored store learns again what runs."""

import random
from dataclasses import replace

import pytest

from homeport_api.attachment import Attachment, AttachmentKey
from homeport_api.interface import InterfaceKey
from homeport_ipam.allocator import Allocator
from homeport_ipam.view import View
from homeport_store import keys
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Delete, Put, Store
from tests.ipam.worlds import World, call, network, nic

WEB = InterfaceKey("shop", "web-eth0")


def world() -> World:
    return World((network("blue", "10.0.0.0/29"), network("green", "10.1.0.0/29", vlan=200)))


def saved(store: Store) -> dict[str, bytes]:
    return {record.key: record.value for record in store.list(keys.PREFIX).records}


def restore(store: Store, snapshot: dict[str, bytes]) -> None:
    now = saved(store)
    gone = [Delete(key) for key in now.keys() - snapshot.keys()]
    store.txn((), [*gone, *(Put(key, value) for key, value in snapshot.items() if now.get(key) != value)])


def living(made: World, key: AttachmentKey) -> Attachment:
    found = made.objects.attachments.get(key)
    return replace(found, revision=0)


def test_an_attachment_younger_than_the_snapshot_is_put_back_whole() -> None:
    made = world()
    before = saved(made.store)
    request = call(nic("web"))
    made.allocator.attach(request)
    after, attachment = saved(made.store), living(made, request.key)
    restore(made.store, before)
    assert made.another().replay(attachment) == ()
    again = saved(made.store)
    assert again.keys() == after.keys()
    interface = made.objects.interfaces.get(WEB)
    assert interface.meta.uid == attachment.nics[0].uid
    assert interface.status.addresses == attachment.nics[0].addresses
    assert (interface.spec.vm, interface.spec.interface) == ("web", "eth0")
    assert made.findings() == ()


def test_a_replay_of_what_the_store_knows_changes_nothing() -> None:
    made = world()
    request = call(nic("web"))
    made.allocator.attach(request)
    revision = made.store.list(keys.PREFIX).revision
    assert made.another().replay(living(made, request.key)) == ()
    assert made.store.list(keys.PREFIX).revision == revision


def test_an_older_holder_gives_way_and_the_epoch_never_goes_back() -> None:
    made = world()
    allocator = made.allocator
    first = call(nic("web"), container="c1")
    allocator.attach(first)
    before = saved(made.store)
    allocator.end(first.key, "DEL")
    second = call(nic("web"), container="c2")
    allocator.attach(second)
    attachment = living(made, second.key)
    restore(made.store, before)
    assert made.another().replay(attachment) == ()
    status = made.objects.interfaces.get(WEB).status
    assert status.epoch == 2
    assert [holder.container_id for holder in status.holders] == ["c2"]


def test_an_address_that_moved_on_since_is_taken_from_the_unheld_interface_that_had_it() -> None:
    made = world()
    allocator = made.allocator
    old = call(nic("old"), container="c1")
    (given,) = allocator.attach(old)
    allocator.end(old.key, "DEL")
    before = saved(made.store)
    allocator.delete_interface(given.interface.key, "test")
    address = given.nic.addresses[0]
    new = call(nic("new", ips=(address,)), container="c2")
    allocator.attach(new)
    attachment = living(made, new.key)
    restore(made.store, before)
    assert made.another().replay(attachment) == ()
    assert made.objects.interfaces.get(InterfaceKey("shop", "new-eth0")).status.addresses == (address,)
    assert made.objects.interfaces.get(given.interface.key).status.addresses == ()
    assert made.findings() == ()


def test_one_interface_that_loses_both_addresses_and_its_mac_loses_all_of_them() -> None:
    made = World((network("blue", "10.0.0.0/29", "2001:db8::/120"),))
    allocator = made.allocator
    old = call(nic("old"), container="c1")
    (given,) = allocator.attach(old)
    allocator.end(old.key, "DEL")
    before = saved(made.store)
    allocator.delete_interface(given.interface.key, "test")
    new = call(nic("new", ips=given.nic.addresses, mac=given.nic.mac), container="c2")
    allocator.attach(new)
    attachment = living(made, new.key)
    restore(made.store, before)
    assert made.another().replay(attachment) == ()
    assert len(given.nic.addresses) == 2
    status = made.objects.interfaces.get(given.interface.key).status
    assert (status.addresses, status.mac) == ((), None)
    assert made.findings() == ()


def test_what_is_held_elsewhere_is_a_contradiction_and_stays() -> None:
    made = world()
    allocator = made.allocator
    old = call(nic("old"), container="c1", node="n2")
    (given,) = allocator.attach(old)
    before = saved(made.store)
    allocator.end(old.key, "DEL")
    allocator.delete_interface(given.interface.key, "test")
    new = call(nic("new", ips=(given.nic.addresses[0],)), container="c2", node="n1")
    allocator.attach(new)
    attachment = living(made, new.key)
    restore(made.store, before)
    (contradiction,) = made.another().replay(attachment)
    assert str(given.nic.addresses[0].ip) in contradiction
    assert "shop/old-eth0" in contradiction
    assert saved(made.store) == before


def test_several_nics_come_back_into_one_attachment() -> None:
    made = world()
    before = saved(made.store)
    request = call(nic("web", "eth0"), nic("web", "eth1", net="green"))
    made.allocator.attach(request)
    attachment = living(made, request.key)
    restore(made.store, before)
    assert made.another().replay(attachment) == ()
    assert {each.network for each in made.objects.attachments.get(request.key).nics} == {"blue", "green"}
    assert made.findings() == ()


def test_a_network_that_the_restored_store_lacks_is_named() -> None:
    made = world()
    empty = MemoryStore()
    request = call(nic("web"))
    made.allocator.attach(request)
    attachment = living(made, request.key)
    other = Allocator(empty, View(), "test", 0.0, lambda: 0.0, random.Random(0))
    (contradiction,) = other.replay(attachment)
    assert "Network blue" in contradiction


@pytest.mark.parametrize("held", [True, False], ids=["held by this node too", "unheld"])
def test_an_object_of_the_same_name_from_before_gives_way(held: bool) -> None:
    made = world()
    allocator = made.allocator
    first = call(nic("web"), container="c1")
    allocator.attach(first)
    if not held:
        allocator.end(first.key, "DEL")
    before = saved(made.store)
    if held:
        allocator.end(first.key, "DEL")
    allocator.delete_interface(WEB, "test")
    second = call(nic("web"), container="c2")
    allocator.attach(second)
    attachment = living(made, second.key)
    restore(made.store, before)
    assert made.another().replay(attachment) == ()
    assert made.objects.interfaces.get(WEB).meta.uid == attachment.nics[0].uid


def test_a_record_that_cannot_be_read_keeps_no_other_nic_from_its_replay() -> None:
    made = world()
    before = saved(made.store)
    request = call(nic("web", "eth0"), nic("web", "eth1", net="green"))
    made.allocator.attach(request)
    attachment = living(made, request.key)
    restore(made.store, before | {keys.interface(WEB): b'{"schema":99}'})
    (text,) = made.another().replay(attachment)
    assert "web-eth0" in text
    assert [each.network for each in made.objects.attachments.get(request.key).nics] == ["green"]
