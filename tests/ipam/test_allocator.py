"""Ends, releases, reservations and reclaim, on the memory store; and what a stale view or a lost store does to them."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from unittest.mock import ANY

import pytest

from homeport_api.addresses import L2Domain, MacAddress, VlanId, VlanRange
from homeport_api.attachment import Attachment, AttachRequest, Source
from homeport_api.errors import AlreadyExists, Exhausted, Held, InUse, Invalid, NotAllowed, NotFound, Unavailable
from homeport_api.interface import AllowedAddress, Interface, Phase
from homeport_api.meta import ObjectMeta
from homeport_api.network import L2Config, Network, NetworkSpec, Trunk
from homeport_ipam.allocator import Allocator
from homeport_ipam.journal import RELEASE, Release, entry_key
from homeport_ipam.view import View
from homeport_store import keys
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Change, Delete, Listing, PrefixEmpty, Put, Record, TxnResult, Unchanged
from tests.ipam.worlds import REST, START, World, call, ips, network, nic, written

WEB = written().key
POD = call(nic("pod", ephemeral=True), container="p1")
BLUE = L2Domain("bond0:100")

TRUNK = Network(
    ObjectMeta("trunk"),
    NetworkSpec(uplink="bond0", l2=L2Config(trunk=Trunk((VlanRange(VlanId(7), VlanId(100)),)))),
)


def journal(world: World) -> list[Release]:
    return [RELEASE.loads(record.value) for record in world.store.list(keys.JOURNAL).records]


class Counting(MemoryStore):
    """Counts what is asked of it; can lose the connection once a transaction was applied, can be reached by one only
    after its sender gave up, and can have a rival who writes before each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.listed = Listing(0, ())
        self.lose_next = False
        self.delay_next = False
        self.delayed: tuple[Sequence[Unchanged | PrefixEmpty], Sequence[Put | Delete]] | None = None
        self.rival: Put | None = None

    def get(self, key: str) -> Record | None:
        self.asked.append("get")
        return super().get(key)

    def list(self, prefix: str, without: str = "", limit: int = 0) -> Listing:
        self.asked.append("list")
        self.listed = super().list(prefix, without, limit)
        return self.listed

    def txn(self, preconditions: Sequence[Unchanged | PrefixEmpty], writes: Sequence[Put | Delete]) -> TxnResult:
        self.asked.append("txn")
        if self.rival is not None:
            super().txn((), [self.rival])
        if self.delay_next:
            self.delay_next, self.delayed = False, (preconditions, writes)
            raise Unavailable("no answer in time")
        result = super().txn(preconditions, writes)
        if self.lose_next:
            self.lose_next = False
            raise Unavailable("the connection was lost")
        return result

    def arrive(self) -> bool:
        """Now the delayed transaction reaches the store; whether it was applied."""
        assert self.delayed is not None
        return super().txn(*self.delayed).applied


class TestEnd:
    def test_a_vm_keeps_everything(self) -> None:
        world = World()
        world.allocator.attach(call())
        before = world.interface().status
        assert world.allocator.end(call().key, "DEL") == (WEB,)
        after = world.interface().status
        assert after == replace(before, holders=(), phase=Phase.RESERVED)
        assert world.below(keys.ATTACHMENTS) == []
        assert journal(world) == []

    def test_an_ephemeral_identity_goes_with_its_address_to_rest(self) -> None:
        world = World()
        (one,) = world.allocator.attach(POD)
        world.allocator.end(POD.key, "DEL")
        address = one.nic.addresses[0].ip
        assert world.below(keys.PREFIX) == sorted(
            [keys.network("blue"), keys.rest(BLUE, address), *world.below(keys.JOURNAL)]
        )
        (entry,) = journal(world)
        assert (entry.interface, entry.uid, entry.reason, entry.mac) == (
            one.nic.interface,
            one.nic.uid,
            "DEL",
            one.nic.mac,
        )
        assert (entry.at, entry.created, entry.domain, entry.addresses) == (START, START, BLUE, (address,))

    @pytest.mark.parametrize("request_", [call(), POD], ids=["vm", "pod"])
    def test_twice_and_before_any_add(self, request_: AttachRequest) -> None:
        world = World()
        assert world.allocator.end(request_.key, "DEL") == ()
        world.allocator.attach(request_)
        world.allocator.end(request_.key, "DEL")
        revision = world.store.list(keys.PREFIX).revision
        assert world.another().end(request_.key, "DEL") == ()
        assert world.store.list(keys.PREFIX).revision == revision

    def test_of_an_old_attachment_frees_nothing(self) -> None:
        world = World()
        world.allocator.attach(call())
        late = world.another()
        world.allocator.attach(call(container="c2", node="n2", take_over=True))
        before = world.interface()
        assert late.end(call().key, "late DEL") == ()
        assert world.interface() == before

    def test_of_an_earlier_boot_is_not_of_this_one(self) -> None:
        world = World()
        world.allocator.attach(call())
        (again,) = world.allocator.attach(call(boot="b2"))
        assert world.allocator.end(call().key, "replayed", {WEB: again.nic.epoch - 1}) == ()
        assert world.interface().active_holder is not None
        assert world.allocator.end(call().key, "DEL", {WEB: again.nic.epoch}) == (WEB,)

    def test_24_ephemeral_nics(self) -> None:
        world = World((network("blue", "10.0.0.0/24", "fd00::/64"),))
        many = call(*(nic("pod", f"e{at}", ephemeral=True) for at in range(24)))
        world.allocator.attach(many)
        assert len(world.allocator.end(many.key, "DEL")) == 24
        assert world.below(keys.INTERFACES) == world.below(keys.ATTACHMENTS) == world.below(keys.ADDRESSES) == []
        assert len(journal(world)) == 24
        assert world.findings() == ()

    def test_a_named_interface_outlives_the_pod(self) -> None:
        world = World()
        world.allocator.reserve(written("lasting"))
        by_name = call(nic("pod", net=None, ephemeral=True, interface_object="lasting"))
        (first,) = world.allocator.attach(by_name)
        world.allocator.end(by_name.key, "DEL")
        again = call(nic("pod2", net=None, ephemeral=True, interface_object="lasting"), container="c2")
        (second,) = world.allocator.attach(again)
        assert second.nic.addresses == first.nic.addresses


class TestRest:
    def test_a_released_address_is_the_last_to_be_given_and_the_former_owners_first(self) -> None:
        world = World((network("blue", "10.0.0.0/29"),))
        for at in range(5):
            world.allocator.attach(call(nic(f"vm{at}"), container=f"v{at}"))
        (pod,) = world.allocator.attach(POD)
        address = pod.nic.addresses[0]
        world.allocator.end(POD.key, "DEL")
        world.allocator.end(call(nic(), container="v0").key, "DEL")
        world.allocator.delete_interface(written("vm0-eth0").key, "test")
        (back,) = world.allocator.attach(POD)
        assert back.nic.addresses == (address,)
        assert back.nic.uid != pod.nic.uid
        (other,) = world.allocator.attach(call(nic("new"), container="n"))
        assert other.nic.addresses[0] != address
        with pytest.raises(Exhausted):
            world.allocator.attach(call(nic("one-more"), container="m"))

    def test_free_ones_come_before_those_at_rest(self) -> None:
        world = World((network("blue", "10.0.0.0/30"),))
        (pod,) = world.allocator.attach(POD)
        world.allocator.end(POD.key, "DEL")
        for allocator in (world.allocator, world.another()):
            (one,) = allocator.attach(call(container="x"))
            assert one.nic.addresses != pod.nic.addresses
            allocator.end(call(container="x").key, "DEL")
            allocator.delete_interface(WEB, "test")
            world.store.txn((), [Delete(keys.rest(BLUE, one.nic.addresses[0].ip))])
            world.sync()

    def test_ends_with_its_lease(self) -> None:
        world = World(rest=0.05)
        (pod,) = world.allocator.attach(POD)
        watch = world.store.watch(keys.REST, 0)
        world.allocator.end(POD.key, "DEL")
        for batch in watch:
            world.views[0].feed(batch)
            if any(change.value is None for change in batch):
                break
        watch.close()
        assert world.below(keys.REST) == []
        with world.views[0].reading() as reading:
            assert reading.resting(BLUE, pod.nic.addresses[0].ip) is None

    def test_none_where_it_is_off(self) -> None:
        world = World(rest=0)
        world.allocator.attach(POD)
        world.allocator.end(POD.key, "DEL")
        assert world.below(keys.REST) == []


class TestRelease:
    def test_an_interface_gives_up_its_addresses_and_keeps_its_mac(self) -> None:
        world = World()
        (one,) = world.allocator.attach(call())
        with pytest.raises(InUse, match="detach"):
            world.allocator.release(WEB, "operator")
        world.allocator.end(call().key, "DEL")
        assert world.allocator.release(WEB, "operator") == (one.nic.addresses[0].ip,)
        assert world.allocator.release(WEB, "operator") == ()
        status = world.interface().status
        assert (status.addresses, status.mac) == ((), one.nic.mac)
        assert [(entry.reason, entry.mac) for entry in journal(world)] == [("operator", None)]
        assert world.findings() == ()

    def test_by_address(self) -> None:
        world = World()
        (one,) = world.allocator.attach(call())
        address = one.nic.addresses[0].ip
        with pytest.raises(InUse):
            world.allocator.release_address(BLUE, address, "operator")
        world.allocator.end(call().key, "DEL")
        assert world.allocator.release_address(BLUE, address, "operator") == WEB
        assert world.interface().status.addresses == ()
        with pytest.raises(NotFound, match="belongs to nobody"):
            world.allocator.release_address(BLUE, address, "operator")

    def test_an_interface_goes_whole(self) -> None:
        world = World()
        world.allocator.attach(call())
        with pytest.raises(InUse):
            world.allocator.delete_interface(WEB, "operator")
        world.allocator.end(call().key, "DEL")
        world.allocator.delete_interface(WEB, "operator")
        with pytest.raises(NotFound):
            world.allocator.delete_interface(WEB, "operator")
        for prefix in (keys.INTERFACES, keys.INDEX, keys.ADDRESSES, keys.MACS):
            assert world.below(prefix) == []
        assert len(journal(world)) == 1

    @pytest.mark.parametrize("fed", [True, False])
    def test_a_call_withdraws_what_it_made_and_nothing_else(self, fed: bool) -> None:
        world = World()
        allocator = world.another() if fed else world.allocator

        def made() -> Interface:
            (one,) = world.allocator.attach(call())
            world.allocator.end(call().key, "gave up")
            return one.interface

        first = made()
        assert allocator.withdraw(first, "gave up")
        for prefix in (keys.INTERFACES, keys.INDEX, keys.ADDRESSES, keys.MACS):
            assert world.below(prefix) == []
        assert not allocator.withdraw(first, "gave up"), "a repeat"

        second = made()
        assert not allocator.withdraw(first, "gave up"), "made anew"
        world.allocator.attach(call(container="c2"))
        assert not allocator.withdraw(second, "gave up"), "attached since"
        world.allocator.end(call(container="c2").key, "DEL")
        assert not allocator.withdraw(second, "gave up"), "and ended again"
        world.allocator.delete_interface(WEB, "operator")

        third = made()
        labelled = replace(third, meta=replace(third.meta, labels={"tier": "web"}))
        world.allocator.reserve(labelled)
        assert not allocator.withdraw(third, "gave up"), "applied since"
        assert world.interface().meta.labels == {"tier": "web"}
        assert world.findings() == ()

    def test_what_is_still_held_is_not_withdrawn(self) -> None:
        world = World()
        (one,) = world.allocator.attach(call())
        with pytest.raises(InUse):
            world.allocator.withdraw(one.interface, "gave up")

    def test_the_journal_is_trimmed_by_age(self) -> None:
        world = World()
        for at in range(3):
            world.now = START + at * 1000
            world.allocator.attach(POD)
            world.allocator.end(POD.key, f"DEL {at}")
        assert world.allocator.trim_journal(START + 1000) == 1
        assert [entry.reason for entry in journal(world)] == ["DEL 1", "DEL 2"]

    def test_a_long_journal_is_trimmed_a_transaction_at_a_time(self) -> None:
        world = World(store=Counting())
        assert isinstance(world.store, Counting)
        for at in range(1000):
            world.store.txn((), [Put(entry_key(START + at, random.Random(at)), b"")])
        foreign = {keys.JOURNAL + "!", keys.JOURNAL + "later"}
        world.store.txn((), [Put(key, b"") for key in foreign])
        world.store.asked.clear()
        assert world.allocator.trim_journal(START + 900) == 900
        assert len(world.store.listed.records) <= 128
        assert world.store.asked.count("txn") <= 9
        assert len(world.below(keys.JOURNAL)) == 102
        assert foreign < set(world.below(keys.JOURNAL))


class TestReclaim:
    """reclaimAfter is 60 s."""

    @pytest.fixture
    def world(self) -> World:
        world = World()
        world.allocator.attach(call())
        world.allocator.end(call().key, "DEL")
        return world

    def test_the_clock_starts_when_the_vm_goes(self, world: World) -> None:
        assert world.allocator.reclaim(START + 1e9) == ()
        assert world.allocator.orphan("shop", "web") == (WEB,)
        world.now += 30
        assert world.allocator.orphan("shop", "web") == (WEB,)
        assert world.allocator.reclaim(START + 59) == ()
        assert world.allocator.reclaim(START + 60) == (WEB,)
        assert world.below(keys.INTERFACES) == []
        assert "reclaimAfter" in journal(world)[0].reason

    def test_made_again_in_time(self, world: World) -> None:
        before = world.interface().status
        world.allocator.orphan("shop", "web")
        (one,) = world.allocator.attach(call(container="c2"))
        assert (one.nic.addresses, one.nic.mac) == (before.addresses, before.mac)
        world.allocator.end(call(container="c2").key, "DEL")
        assert world.allocator.reclaim(START + 1e9) == ()

    def test_applied_again_in_time(self, world: World) -> None:
        world.allocator.orphan("shop", "web")
        world.allocator.reserve(written(vm="web", interface="eth0"))
        assert world.allocator.reclaim(START + 1e9) == ()

    def test_a_record_that_cannot_be_read_keeps_no_other(self, world: World) -> None:
        world.allocator.orphan("shop", "web")
        world.store.put_if(keys.INTERFACES + "a/newer", b'{"schema": 1, "kind": "from the future"}', 0)
        assert world.allocator.reclaim(START + 60) == (WEB,)

    @pytest.mark.parametrize("kind", ["Network", "owner"])
    def test_what_one_refers_to_and_cannot_be_read_keeps_no_other(self, kind: str) -> None:
        world = World((network("blue", "10.0.0.0/24"), network("amber", "10.1.0.0/24", vlan=200)))
        for name, net in (("bad", "amber"), ("web", "blue")):
            request = call(nic(name, net=net), container=name)
            (one,) = world.allocator.attach(request)
            world.allocator.end(request.key, "DEL")
            world.allocator.orphan("shop", name)
            if name == "bad":
                owner = keys.address(L2Domain("bond0:200"), one.nic.addresses[0].ip)
        world.store.txn((), [Put(keys.network("amber") if kind == "Network" else owner, b'{"schema": 99}')])
        world.sync()
        assert world.allocator.reclaim(START + 60) == (WEB,)
        assert world.interface("bad-eth0").status.addresses

    def test_never_while_held(self, world: World) -> None:
        world.allocator.attach(call(container="c2"))
        world.allocator.orphan("shop", "web")
        assert world.allocator.reclaim(START + 1e9) == ()

    def test_never_means_never(self, world: World) -> None:
        world.allocator.orphan("shop", "web")
        world.change_network("blue", ipam=replace(world.networks[0].spec.ipam, reclaim_after=None))
        assert world.allocator.reclaim(START + 1e9) == ()


class TestReserve:
    MAC = MacAddress("02:00:5e:10:00:01")

    def test_what_it_asks_for_is_nobody_elses(self) -> None:
        world = World((network("blue", "10.0.0.0/30"),))
        spec = {**ips("10.0.0.2"), "mac": self.MAC, "vm": "web", "interface": "eth0"}
        world.allocator.reserve(written("mine", **spec))
        revision = world.store.list(keys.PREFIX).revision
        world.another().reserve(written("mine", **spec))
        assert world.store.list(keys.PREFIX).revision == revision
        assert world.interface("mine").status.phase is Phase.RESERVED
        (other,) = world.allocator.attach(call(nic("other"), container="o"))
        assert str(other.nic.addresses[0]) == "10.0.0.1/30"
        (mine,) = world.allocator.attach(call())
        assert (mine.nic.interface.name, str(mine.nic.addresses[0]), mine.nic.mac) == ("mine", "10.0.0.2/30", self.MAC)
        assert world.findings() == ()

    def test_what_it_is_allowed_is_nobodys_in_another_namespace(self) -> None:
        world = World((network("blue", "10.0.0.0/24"), network("red", "10.0.0.0/24", vlan=7), TRUNK))
        other = replace(written("pc", **ips("10.0.0.5")), meta=ObjectMeta("pc", "lab"))
        world.allocator.reserve(other)
        world.allocator.reserve(written("db", **ips("10.0.0.6")))

        def allow(net: str, text: str, vlan: int | None = None) -> None:
            allowed = (AllowedAddress(ip_address(text), None if vlan is None else VlanId(vlan)),)
            world.allocator.reserve(written(f"tried-{next(numbers)}", net=net, allowed=allowed))

        numbers = itertools.count()
        for net, vlan in (("blue", None), ("trunk", 100)):
            with pytest.raises(NotAllowed, match=r"10\.0\.0\.5: it belongs to Interface lab/pc, of another namespace"):
                allow(net, "10.0.0.5", vlan)
            allow(net, "10.0.0.6", vlan)
            allow(net, "10.0.0.7", vlan)
        allow("red", "10.0.0.5")
        allow("trunk", "10.0.0.5", 7)
        assert world.findings() == ()

    def test_what_it_was_allowed_before_another_had_it_stays(self) -> None:
        world = World()
        mine = written("mine", allowed=(AllowedAddress(ip_address("10.0.0.5")),))
        world.allocator.reserve(mine)
        world.allocator.reserve(replace(written("pc", **ips("10.0.0.5")), meta=ObjectMeta("pc", "lab")))
        world.allocator.reserve(replace(mine, meta=replace(mine.meta, labels={"a": "b"})))
        assert world.interface("mine").meta.labels == {"a": "b"}

    def test_the_gateways_address_is_a_routers_alone(self) -> None:
        blue = network("blue", "10.0.0.0/24")
        world = World((replace(blue, spec=replace(blue.spec, gateway4=ip_address("10.0.0.1"))),))
        allowed = (AllowedAddress(ip_address("10.0.0.1")),)
        with pytest.raises(NotAllowed, match=r"10\.0\.0\.1: it is the gateway of Network blue"):
            world.allocator.reserve(written("guest", allowed=allowed))
        world.allocator.reserve(written("router", allowed=allowed, trusted=("router",)))

    def test_change_releases_the_old(self) -> None:
        world = World()
        spec = {"vm": "web", "interface": "eth0"}
        world.allocator.reserve(written(mac=self.MAC, **ips("10.0.0.5"), **spec))
        world.allocator.attach(call())
        with pytest.raises(Invalid, match="ipAddresses"):
            world.allocator.reserve(written(mac=self.MAC, **spec))
        world.allocator.end(call().key, "DEL")
        changed = world.allocator.reserve(written(**ips("10.0.0.6"), **spec))
        assert [str(a) for a in changed.status.addresses] == ["10.0.0.6/24"]
        assert changed.status.mac is None
        assert list(world.owners()) == [ip_address("10.0.0.6")]
        assert world.below(keys.MACS) == []
        assert world.below(keys.REST) == [keys.rest(BLUE, ip_address("10.0.0.5"))]
        assert world.findings() == ()

    def test_a_second_interface_for_one_identity(self) -> None:
        world = World()
        world.allocator.attach(call())
        with pytest.raises(AlreadyExists, match="shop/web-eth0"):
            world.allocator.reserve(written("mine", vm="web", interface="eth0"))

    def test_without_its_network(self) -> None:
        with pytest.raises(NotFound, match="apply it first"):
            World().allocator.reserve(written(net="grey"))


class TestStaleViews:
    def test_the_usual_add_is_one_round_trip(self) -> None:
        store = Counting()
        world = World(store=store)
        store.asked.clear()
        world.allocator.attach(call())
        assert store.asked == ["txn"]

    def test_an_empty_view_answers_as_right(self) -> None:
        world = World()
        world.allocator.attach(call())
        blind = Allocator(world.store, View(), "test", REST, lambda: world.now, random.Random(0))
        with pytest.raises(Held):
            blind.attach(call(container="c2"))
        blind.end(call().key, "DEL")
        (one,) = blind.attach(call(container="c3"))
        assert [one.nic.addresses[0].ip] == list(world.owners())

    def test_refusals_are_not_stale(self) -> None:
        world = World()
        stale = world.another()
        world.allocator.attach(call())
        held = world.another()
        world.allocator.end(call().key, "DEL")
        held.attach(call(container="c2"))
        stale.end(call(container="c2").key, "DEL")
        assert world.interface().status.holders == ()

    def test_exhausted_is_answered_from_a_fresh_list(self) -> None:
        world = World((network("blue", "10.0.0.0/31"),), rest=0)
        world.allocator.attach(call(nic("a"), container="a"))
        (gone,) = world.allocator.attach(POD)
        full = world.another()
        with pytest.raises(Exhausted):
            full.attach(call())
        world.allocator.end(POD.key, "DEL")
        (one,) = full.attach(call())
        assert one.nic.addresses == gone.nic.addresses

    @pytest.mark.parametrize("fed", [True, False])
    def test_unknown_outcome_is_found_out_by_the_next_try(self, fed: bool) -> None:
        store = Counting()
        world = World(store=store)
        store.lose_next = True
        with pytest.raises(Unavailable):
            world.allocator.attach(call())
        if fed:
            world.sync()
        (one,) = world.allocator.attach(call())
        assert list(world.owners()) == [one.nic.addresses[0].ip]
        assert one.nic.epoch == 1
        assert world.findings() == ()

    @pytest.mark.parametrize("first", [True, False], ids=["applied before its end", "applied after its end"])
    def test_what_was_given_up_is_never_applied_late(self, first: bool) -> None:
        store = Counting()
        world = World(store=store)
        store.delay_next = True
        with pytest.raises(Unavailable):
            world.allocator.attach(call())
        assert not first or store.arrive()
        world.allocator.end_unanswered(call().key, "attach failed")
        assert first or not store.arrive()
        assert world.attachment(call()) in (None, Attachment(call().key, Source.CNI, "", (), revision=ANY))
        assert all(not interface.status.holders for interface in world.objects.interfaces_in(None))
        assert world.findings() == ()
        world.sync()
        (one,) = world.allocator.attach(call())
        assert list(world.owners()) == [one.nic.addresses[0].ip]
        recorded = world.attachment(call())
        assert recorded is not None
        assert recorded.nics == (one.nic,)

    def test_rivals_that_never_let_go(self) -> None:
        store = Counting()
        world = World(store=store)
        store.rival = Put(keys.network("blue"), world.store.list(keys.NETWORKS).records[0].value)
        with pytest.raises(Unavailable, match="256 attempts"):
            world.allocator.attach(call())
        store.rival = None
        assert world.below(keys.ADDRESSES) == []
        world.allocator.attach(call())

    def test_withheld_while_it_is_not_known_what_is_in_use(self) -> None:
        world = World()
        world.allocator.attach(call())
        world.allocator.withhold_new("the store was restored")
        world.allocator.end(call().key, "DEL")
        world.allocator.attach(call(container="c2"))
        with pytest.raises(Unavailable, match="the store was restored"):
            world.allocator.attach(call(nic("new"), container="n"))
        world.allocator.withhold_new(None)
        world.allocator.attach(call(nic("new"), container="n"))

    def test_store_away(self) -> None:
        world = World()
        world.store.close()
        with pytest.raises(Unavailable):
            world.allocator.attach(call())

    def test_an_older_copy_of_the_store(self) -> None:
        """After a restore the revisions count from lower; the watch's resync is believed nevertheless."""
        world = World()
        for at in range(5):
            world.allocator.attach(call(nic(f"vm{at}"), container=f"v{at}"))
        restored = World()
        older = restored.store.list(keys.PREFIX)
        known = {record.key for record in older.records}
        changes = [_resync(record.key, record.value, record.mod_revision) for record in older.records]
        gone = [_resync(key, None, older.revision) for key in world.below(keys.PREFIX) if key not in known]
        world.views[0].feed([*changes, *gone])
        follower = Allocator(restored.store, world.views[0], "test", REST, lambda: START, random.Random(1))
        follower.attach(call(nic("vm0"), container="v0"))
        assert len(restored.owners()) == 1


def _resync(key: str, value: bytes | None, revision: int) -> Change:
    return Change(key, value, 0, revision, resync=True)
