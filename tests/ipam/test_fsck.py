"""Records damaged by hand: each is found, explained with evidence, and repaired by exactly what was judged."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from homeport_api import wire
from homeport_api.addresses import L2Domain, MacAddress
from homeport_api.attachment import AttachRequest
from homeport_api.interface import Interface
from homeport_api.owner import Owner
from homeport_ipam.fsck import Finding, Wrong, repair
from homeport_store import keys
from homeport_store.protocol import Delete, Put
from tests.ipam.worlds import REST, World, call, nic, written

WEB = written().key
BLUE = L2Domain("bond0:100")
NINE = ip_address("10.0.0.9")
MAC = MacAddress("02:00:5e:10:00:01")
IDLE = call(nic("idle"), container="i1")
POD = call(nic("pod", ephemeral=True), container="p1")


def put(world: World, key: str, value: bytes) -> None:
    world.store.txn((), [Put(key, value)])


def drop(world: World, *gone: str) -> None:
    world.store.txn((), [Delete(key) for key in gone])


def rewrite(world: World, name: str, change: Callable[[Interface], Interface]) -> None:
    world.objects.interfaces.save(change(world.interface(name)))


def with_addresses(*texts: str) -> Callable[[Interface], Interface]:
    def change(interface: Interface) -> Interface:
        return replace(interface, status=replace(interface.status, addresses=tuple(map(ip_interface, texts))))

    return change


def own(world: World, interface: Interface, address: str) -> None:
    put(world, keys.address(BLUE, ip_address(address)), wire.OWNER.dumps(Owner(interface.key, interface.meta.uid)))


def address_of(world: World, name: str) -> str:
    return keys.address(BLUE, world.interface(name).status.addresses[0].ip)


def leak_of_a_gone_interface(world: World) -> str:
    put(world, keys.address(BLUE, NINE), wire.OWNER.dumps(Owner(written("gone").key, "u-gone")))
    return keys.address(BLUE, NINE)


def leak_of_an_earlier_uid(world: World) -> str:
    put(world, keys.address(BLUE, NINE), wire.OWNER.dumps(Owner(WEB, "u-before")))
    return keys.address(BLUE, NINE)


def leak_of_one_that_does_not_list_it(world: World) -> str:
    own(world, world.interface(), str(NINE))
    return keys.address(BLUE, NINE)


def leak_of_a_mac(world: World) -> str:
    key = keys.mac(world.networks[0].mac_domain, MAC, "100")
    put(world, key, wire.OWNER.dumps(Owner(written("gone").key, "u-gone")))
    return key


def ephemeral_without_holder(world: World) -> str:
    world.allocator.attach(POD)
    drop(world, keys.attachment(POD.key))
    rewrite(world, "pod-eth0", lambda one: replace(one, status=replace(one.status, holders=())))
    return keys.interface(written("pod-eth0").key)


def missing_address_key(world: World) -> str:
    drop(world, address_of(world, "web-eth0"))
    return keys.interface(WEB)


def missing_mac_key(world: World) -> str:
    drop(world, *world.below(keys.MACS))
    return keys.interface(WEB)


def address_key_of_nobody(world: World) -> str:
    put(world, address_of(world, "web-eth0"), wire.OWNER.dumps(Owner(written("gone").key, "u-gone")))
    return keys.interface(WEB)


def index_to_nowhere(world: World) -> str:
    key = keys.index("shop", "ghost", "eth0")
    put(world, key, wire.INDEX.dumps(written("ghost-eth0").key))
    return key


def index_missing(world: World) -> str:
    drop(world, keys.index("shop", "web", "eth0"))
    return keys.interface(WEB)


def attachment_of_what_it_does_not_hold(world: World) -> str:
    world.allocator.attach(IDLE)
    rewrite(world, "idle-eth0", lambda one: replace(one, status=replace(one.status, holders=())))
    return keys.attachment(IDLE.key)


def holder_without_attachment(world: World) -> str:
    drop(world, keys.attachment(call().key))
    return keys.interface(WEB)


def attachment_lost(world: World) -> None:
    drop(world, keys.attachment(POD.key))


def interface_lost(world: World) -> None:
    drop(world, keys.interface(written("pod-eth0").key))


def holder_lost(world: World) -> None:
    rewrite(world, "pod-eth0", lambda one: replace(one, status=replace(one.status, holders=())))


def addresses_lost(world: World) -> None:
    rewrite(world, "pod-eth0", lambda one: replace(one, status=replace(one.status, addresses=(), mac=None)))


def address_listed_twice(world: World) -> str:
    world.allocator.attach(IDLE)
    world.allocator.end(IDLE.key, "DEL")
    drop(world, address_of(world, "idle-eth0"))
    rewrite(world, "idle-eth0", with_addresses(str(world.interface().status.addresses[0])))
    return keys.interface(written("idle-eth0").key)


REPAIRABLE = [
    pytest.param(leak_of_a_gone_interface, Wrong.LEAKED, "does not exist", id="leak: Interface gone"),
    pytest.param(leak_of_an_earlier_uid, Wrong.LEAKED, "another one of that name", id="leak: earlier uid"),
    pytest.param(leak_of_one_that_does_not_list_it, Wrong.LEAKED, "does not list it", id="leak: not listed"),
    pytest.param(leak_of_a_mac, Wrong.LEAKED, "does not exist", id="leak: MAC"),
    pytest.param(ephemeral_without_holder, Wrong.LEAKED, "nothing holds it", id="leak: ephemeral"),
    pytest.param(missing_address_key, Wrong.ORPHANED, "its key is missing", id="orphan: address key missing"),
    pytest.param(missing_mac_key, Wrong.ORPHANED, "its key is missing", id="orphan: MAC key missing"),
    pytest.param(address_key_of_nobody, Wrong.ORPHANED, "no claim to it", id="orphan: address key foreign"),
    pytest.param(index_to_nowhere, Wrong.ORPHANED, "does not exist", id="orphan: index"),
    pytest.param(index_missing, Wrong.ORPHANED, "index does not point", id="orphan: index missing"),
    pytest.param(attachment_of_what_it_does_not_hold, Wrong.ORPHANED, "does not hold", id="orphan: attachment"),
    pytest.param(holder_without_attachment, Wrong.ORPHANED, "there is no attachment", id="orphan: holder"),
    pytest.param(address_listed_twice, Wrong.DOUBLED, "lists it too", id="double: address, idle"),
]


@pytest.fixture
def world() -> World:
    world = World()
    world.allocator.attach(call())
    assert world.findings() == ()
    return world


@pytest.mark.parametrize(("damage", "wrong", "text"), REPAIRABLE)
def test_found_and_repaired(world: World, damage: Callable[[World], str], wrong: Wrong, text: str) -> None:
    key = damage(world)
    before = world.store.list(keys.PREFIX)
    (finding,) = world.findings()
    assert (finding.wrong, finding.key) == (wrong, key)
    assert text in finding.explanation
    revisions = {record.key: record.mod_revision for record in before.records}
    assert finding.evidence
    for piece in finding.evidence:
        path, _, revision = piece.rpartition("@")
        assert revisions.get(path, 0) == int(revision)
    assert world.store.list(keys.PREFIX) == before
    assert repair(world.store, finding, REST)
    assert world.findings() == ()


@pytest.mark.parametrize(("damage", "wrong", "text"), REPAIRABLE)
def test_what_changed_since_is_left_alone(
    world: World, damage: Callable[[World], str], wrong: Wrong, text: str
) -> None:
    damage(world)
    (finding,) = world.findings()
    touched = [piece.rpartition("@") for piece in finding.evidence]
    record = next(found for key, _, _ in touched if (found := world.store.get(key)))
    put(world, record.key, record.value)
    before = world.store.list(keys.PREFIX)
    assert not repair(world.store, finding, REST)
    assert world.store.list(keys.PREFIX).records == before.records


def held_and_listed_twice(world: World) -> None:
    world.allocator.attach(IDLE)
    drop(world, address_of(world, "idle-eth0"))
    rewrite(world, "idle-eth0", with_addresses(str(world.interface().status.addresses[0])))


def two_of_a_family(world: World) -> None:
    first = world.interface().status.addresses[0]
    rewrite(world, "web-eth0", with_addresses(str(first), f"{NINE}/24"))
    own(world, world.interface(), str(NINE))


def two_for_one_identity(world: World) -> None:
    twin = world.interface()
    meta = replace(twin.meta, name="twin", uid="u-twin", revision=0)
    world.objects.interfaces.save(Interface(meta, twin.spec))


def unreadable(world: World) -> None:
    put(world, keys.interface(WEB), b'{"schema":99}')


@pytest.mark.parametrize(
    ("damage", "wrong", "remedy"),
    [
        pytest.param(held_and_listed_twice, Wrong.DOUBLED, "detach", id="address of a running guest"),
        pytest.param(two_of_a_family, Wrong.DOUBLED, "release all but one", id="two of a family"),
        pytest.param(two_for_one_identity, Wrong.DOUBLED, "delete the one", id="two for one identity"),
        pytest.param(unreadable, Wrong.UNREADABLE, "upgrade", id="unreadable"),
    ],
)
def test_what_a_human_has_to_decide(world: World, damage: Callable[[World], None], wrong: Wrong, remedy: str) -> None:
    damage(world)
    (finding,) = world.findings()
    assert finding.wrong is wrong
    assert remedy in finding.explanation
    assert finding.repair is None
    before = world.store.list(keys.PREFIX)
    assert not repair(world.store, finding, REST)
    assert world.store.list(keys.PREFIX) == before


def repair_all(world: World) -> list[str]:
    """As often as there is something to repair; what is left."""
    while any(repair(world.store, finding, REST) for finding in world.findings()):
        pass
    return [finding.explanation for finding in world.findings()]


@pytest.mark.parametrize("damage", [attachment_lost, interface_lost, holder_lost, addresses_lost])
def test_a_guest_that_may_run_keeps_its_address_whatever_was_lost(
    world: World, damage: Callable[[World], None]
) -> None:
    world.heartbeat("n1", "b1")
    (given,) = world.allocator.attach(POD)
    damage(world)
    before = set(world.below(keys.ADDRESSES)), set(world.below(keys.MACS))
    left = repair_all(world)
    assert left
    assert all("detach" in text for text in left)
    assert (set(world.below(keys.ADDRESSES)), set(world.below(keys.MACS))) == before
    world.sync()
    world.allocator.end(POD.key, "DEL", {given.interface.key: given.nic.epoch})
    assert repair_all(world) == []
    assert given.nic.addresses[0].ip not in world.owners()


@pytest.mark.parametrize("node", [b'{"schema":99}', None], ids=["unreadable", "another boot"])
def test_a_holder_is_lost_when_its_node_is_known_to_have_restarted(world: World, node: bytes | None) -> None:
    world.heartbeat("n1", "b2")
    if node is not None:
        put(world, keys.node("n1"), node)
    world.allocator.attach(POD)
    attachment_lost(world)
    (finding,) = [found for found in world.findings() if found.key == keys.interface(written("pod-eth0").key)]
    assert (finding.repair is None) == (node is not None)


def test_a_lost_attachment_is_put_back_while_it_holds_its_interface(world: World) -> None:
    attachment = world.attachment(call())
    assert attachment is not None
    holder_without_attachment(world)
    assert world.another().put_back(attachment)
    assert world.findings() == ()
    assert not world.another().put_back(attachment), "a repeat"
    world.sync()
    world.allocator.end(call().key, "DEL")
    assert not world.another().put_back(attachment), "it ended"
    world.allocator.attach(call(container="c2"))
    before = world.store.list(keys.PREFIX)
    assert not world.another(blind=True).put_back(attachment), "somebody else has the Interface"
    assert world.store.list(keys.PREFIX) == before


def test_a_nic_that_its_attachment_lost_is_put_back_beside_the_others(world: World) -> None:
    both = call(nic("two", "eth0"), nic("two", "eth1"), container="c2")
    world.allocator.attach(both)
    attachment = world.attachment(both)
    assert attachment is not None
    part = replace(attachment, nics=attachment.nics[1:])
    put(world, keys.attachment(both.key), wire.ATTACHMENT.dumps(part))
    assert world.another().put_back(attachment)
    found = world.attachment(both)
    assert found is not None
    assert set(found.nics) == set(attachment.nics)
    assert world.findings() == ()


def test_everything_at_once(world: World) -> None:
    for damage in (leak_of_a_gone_interface, leak_of_a_mac, index_to_nowhere, attachment_of_what_it_does_not_hold):
        damage(world)
    for finding in world.findings():
        assert repair(world.store, finding, REST)
    assert world.findings() == ()
    released = [record.key for record in world.store.list(keys.JOURNAL).records]
    assert len(released) == 2


def test_a_repaired_world_attaches_again(world: World) -> None:
    address = world.interface().status.addresses
    holder_without_attachment(world)
    (finding,) = world.findings()
    assert isinstance(finding, Finding)
    repair(world.store, finding, REST)
    again: AttachRequest = call(container="c2")
    (one,) = world.another().attach(again)
    assert one.nic.addresses == address
