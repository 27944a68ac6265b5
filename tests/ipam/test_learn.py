"""Addresses that guests take by themselves: who may have which, what a seventeenth does, and that records agree."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from homeport_api import wire
from homeport_api.addresses import IpAddress, L2Domain, MacAddress, VlanId, VlanRange, link_local_of
from homeport_api.attachment import AttachRequest, Nic
from homeport_api.errors import AddressOwned, InUse
from homeport_api.interface import InterfaceKey
from homeport_api.network import L2Config, Network, Security, Trunk
from homeport_api.owner import OwnerKind
from homeport_ipam.fsck import Wrong, repair
from homeport_ipam.journal import RELEASE
from homeport_ipam.learn import MOST, OUTGROWN, Answer, Refusal
from homeport_store import keys
from homeport_store.protocol import Delete, Put
from tests.ipam.worlds import World, call, ips, network, nic, written

DOMAIN = L2Domain("bond0:100")
HOSTS = network("open")
PREFIXED = replace(
    network("prefixed", vlan=200),
    spec=replace(
        network("prefixed", vlan=200).spec,
        l2=L2Config(vlan_id=200, prefix_length4=24, prefix_length6=64),  # type: ignore[arg-type]
        gateway4=IPv4Address("192.0.2.1"),
        gateway6=IPv6Address("fe80::1"),
        ra={"mode": "None", "prefixes": ["2001:db8:1::/64"]},
    ),
)
VLANS = VlanRange(VlanId(200), VlanId(200))
ONE, OTHER, SIX = (ip_address(text) for text in ("192.0.2.7", "192.0.2.8", "2001:db8:1::7"))


def world(*networks: Network) -> World:
    return World(networks or (HOSTS, PREFIXED, network("given", "10.0.0.0/24", vlan=300)), rest=600)


def attach(world: World, vm: str = "web", net: str = "open", **more: object) -> Nic:
    """The NIC of a VM that is attached to a Network."""
    return world.allocator.attach(request(vm, net, **more))[0].nic


def request(vm: str = "web", net: str = "open", **more: object) -> AttachRequest:
    return call(nic(vm, net=net), container=f"c-{vm}", **more)


def take(
    world: World, holder: Nic, address: IpAddress | str, unused: Sequence[IpAddress] = (), *, blind: bool = False
) -> Answer:
    allocator = world.another(blind=True) if blind else world.allocator
    return allocator.learn(holder, ip_address(str(address)), world.objects.networks.list(), unused)


def learned(world: World, vm: str = "web") -> list[str]:
    return [str(each.address) for each in world.interface(f"{vm}-eth0").status.learned]


def kind(world: World, address: IpAddress, domain: L2Domain = DOMAIN) -> OwnerKind | None:
    record = world.store.get(keys.address(domain, address))
    return None if record is None else wire.OWNER.loads(record.value).kind


def test_first_come_first_bound() -> None:
    there = world()
    web, shop = attach(there), attach(there, "shop")
    answer = take(there, web, ONE)
    assert (answer.refusal, learned(there), kind(there, ONE)) == (None, ["192.0.2.7"], OwnerKind.LEARNED)
    assert answer.interface is not None
    assert answer.interface.status.owned == (ONE,)
    late = take(there, shop, ONE)
    assert (late.refusal, late.text) == (Refusal.TAKEN, "192.0.2.7 belongs to Interface shop/web-eth0")
    assert learned(there, "shop") == []
    assert take(there, shop, OTHER).refusal is None
    assert there.findings() == ()


def test_a_repeat_writes_nothing() -> None:
    there = world()
    web = attach(there)
    take(there, web, ONE)
    revision = there.store.list(keys.PREFIX).revision
    for blind in (False, True):
        assert take(there, web, ONE, blind=blind).refusal is None
    assert there.store.list(keys.PREFIX).revision == revision


def test_a_node_whose_view_is_stale_learns_nothing_that_another_bound() -> None:
    there = world()
    web, shop = attach(there), attach(there, "shop")
    elsewhere = there.another()
    take(there, web, ONE)
    late = elsewhere.learn(shop, ONE, there.objects.networks.list(), ())
    assert late.refusal is Refusal.TAKEN


REFUSED = [
    pytest.param("open", "224.0.0.1", "no address of a host", id="multicast"),
    pytest.param("open", "255.255.255.255", "no address of a host", id="broadcast"),
    pytest.param("open", "127.0.0.1", "no address of a host", id="loopback"),
    pytest.param("open", "0.1.2.3", "no address of a host", id="this network"),
    pytest.param("open", "0.0.0.0", "no address of a host", id="none"),
    pytest.param("open", "::", "no address of a host", id="none of IPv6"),
    pytest.param("open", "ff02::1", "no address of a host", id="multicast of IPv6"),
    pytest.param("open", "::ffff:192.0.2.9", "no address of a host", id="mapped"),
    pytest.param("open", "fe80::5eff:fe10:99", "made from the MAC of another", id="link-local of another MAC"),
    pytest.param("prefixed", "192.0.2.1", "gateway of Network prefixed", id="gateway"),
    pytest.param("prefixed", "fe80::1", "gateway of Network prefixed", id="link-local gateway"),
    pytest.param("prefixed", "192.0.3.7", "not on-link", id="another prefix"),
    pytest.param("prefixed", "2001:db8:2::7", "not on-link", id="another prefix of IPv6"),
    pytest.param("prefixed", "192.0.2.0", "address of a network", id="the network itself"),
    pytest.param("prefixed", "192.0.2.255", "address of a network", id="all of the network"),
    pytest.param("given", "10.0.0.77", "Homeport gives out", id="of a pool"),
    pytest.param("given", "192.0.2.7", "Homeport gives out", id="of a family with a pool"),
]


@pytest.mark.parametrize(("net", "address", "why"), REFUSED)
def test_what_is_not_learned(net: str, address: str, why: str) -> None:
    there = world()
    web = attach(there, net=net)
    answer = take(there, web, address)
    assert answer.refusal is Refusal.NOT_LEARNED
    assert why in answer.text
    assert learned(there) == []


LEARNED = [
    pytest.param("open", "198.51.100.200", id="any where the Network says nothing"),
    pytest.param("open", "169.254.7.7", id="link-local"),
    pytest.param("open", "2001:db8:77::1", id="any of IPv6 where the Network says nothing"),
    pytest.param("open", "fe80::1", id="link-local of IPv6"),
    pytest.param("prefixed", "192.0.2.254", id="on-link"),
    pytest.param("prefixed", "2001:db8:1::5", id="on-link by what is advertised"),
    pytest.param("prefixed", "169.254.7.7", id="link-local beside a prefix"),
    pytest.param("given", "2001:db8:77::1", id="the family without a pool"),
    pytest.param("given", "fe80::1234:5678:9abc:def0", id="link-local beside pools"),
]


@pytest.mark.parametrize(("net", "address"), LEARNED)
def test_what_is_learned(net: str, address: str) -> None:
    there = world()
    web = attach(there, net=net)
    assert take(there, web, address).refusal is None
    assert learned(there) == [address]
    assert there.findings() == ()


def test_the_link_local_address_of_its_mac_is_its_own_without_a_key() -> None:
    there = world()
    web = attach(there)
    assert web.mac is not None
    revision = there.store.list(keys.PREFIX).revision
    assert take(there, web, link_local_of(web.mac)).refusal is None
    assert there.store.list(keys.PREFIX).revision == revision
    assert link_local_of(MacAddress("02:00:5e:10:00:01")) == IPv6Address("fe80::5eff:fe10:1")


def test_a_trunk_takes_nothing_of_its_native_vlans_pools() -> None:
    pool = network("given", "10.0.0.0/24", vlan=100)
    spec = replace(pool.spec, l2=L2Config(trunk=Trunk((VLANS,), 100)), ipam=network("t").spec.ipam)  # type: ignore[arg-type]
    trunk = replace(network("trunk"), spec=replace(spec, allowed_namespaces=None))
    assert trunk.l2_domain == pool.l2_domain
    there = World((pool, trunk))
    holder = there.allocator.attach(call(nic("web", net="trunk", admin=True)))[0].nic
    assert "pool 10.0.0.0/24 of Network given" in take(there, holder, "10.0.0.9").text
    assert take(there, holder, "10.1.0.9").refusal is None


def test_an_address_with_an_owner_is_not_learned_and_a_learned_one_not_given() -> None:
    there = world(network("given", "10.0.0.0/29", vlan=100), HOSTS)  # two Networks of one domain, as on a trunk
    given = attach(there, "db", "given").addresses[0].ip
    web = attach(there)
    assert take(there, web, given).refusal is not None
    assert take(there, web, "192.0.2.7").refusal is None
    with pytest.raises(AddressOwned, match="web-eth0"):
        there.allocator.reserve(written("late", net="open", **ips("192.0.2.7/24")))


def test_only_the_port_that_holds_the_interface_learns() -> None:
    there = world()
    web = attach(there)
    there.allocator.attach(request(node="n2", take_over=True))
    assert take(there, web, ONE).refusal is Refusal.STALE
    there.allocator.end(request(node="n2").key, "DEL")
    assert take(there, replace(web, epoch=2), ONE).refusal is Refusal.STALE
    assert take(there, replace(web, uid="another"), ONE).refusal is Refusal.STALE
    assert take(there, replace(web, interface=InterfaceKey("shop", "nobody")), ONE).refusal is Refusal.STALE


def fill(there: World, web: Nic) -> list[IpAddress]:
    taken: list[IpAddress] = [ip_address(f"2001:db8::{at:x}") for at in range(1, MOST + 1)]
    for address in taken:
        there.now += 1
        assert take(there, web, address).refusal is None
    return taken


def test_the_longest_unused_gives_way() -> None:
    there = world()
    web, shop = attach(there), attach(there, "shop")
    taken = fill(there, web)
    answer = take(there, web, SIX, unused=[taken[3], taken[0]])
    assert (answer.refusal, answer.evicted) == (None, taken[3])
    assert learned(there) == [str(each) for each in (*taken[:3], *taken[4:], SIX)]
    assert there.below(keys.REST) == [], "nobody is kept from it"
    assert take(there, shop, taken[3]).refusal is None
    assert there.findings() == ()


def test_who_changes_addresses_all_the_time_leaves_nothing_behind() -> None:
    there = world()
    web = attach(there)
    taken = fill(there, web)
    before = len(there.store.list("").records)
    for at in range(0x100, 0x120):
        answer = take(there, web, address := ip_address(f"2001:db8::{at:x}"), unused=taken[:1])
        assert (answer.refusal, answer.evicted) == (None, taken[0])
        taken = [*taken[1:], address]
    assert len(there.store.list("").records) == before
    assert learned(there) == [str(each) for each in taken]
    assert there.findings() == ()


def test_what_is_in_use_gives_way_to_nothing() -> None:
    there = world()
    web = attach(there)
    taken = fill(there, web)
    for unused in ([], [ONE]):  # nothing; or something that is not its own
        answer = take(there, web, SIX, unused=unused)
        assert answer.refusal is Refusal.FULL
    assert learned(there) == [str(each) for each in taken]


def test_it_moves_with_the_interface_and_outlives_its_holders() -> None:
    there = world()
    web = attach(there)
    take(there, web, ONE)
    there.allocator.end(request().key, "DEL")
    moved = attach(there, node="n2")
    assert learned(there) == ["192.0.2.7"]
    assert moved.addresses == (), "the guest has it by itself"
    assert take(there, moved, SIX).refusal is None
    assert learned(there) == ["192.0.2.7", "2001:db8:1::7"]
    assert there.findings() == ()


def test_it_goes_with_the_interface() -> None:
    there = world()
    pod = there.allocator.attach(call(nic("pod", net="open", ephemeral=True), container="p"))[0].nic
    web = attach(there)
    take(there, pod, ONE)
    take(there, web, OTHER)
    there.allocator.end(call(nic("pod", net="open", ephemeral=True), container="p").key, "DEL")
    there.allocator.end(request().key, "DEL")
    there.allocator.delete_interface(InterfaceKey("shop", "web-eth0"), "operator")
    assert there.below(keys.ADDRESSES) == []
    assert there.below(keys.REST) == []
    assert take(there, attach(there, "late"), ONE).refusal is None


def test_24_ephemeral_nics_with_all_they_can_have_end() -> None:
    there = world()
    many = call(*(nic("pod", f"e{at}", net="open", ephemeral=True) for at in range(24)))
    for number, one in enumerate(there.allocator.attach(many)):
        for at in range(MOST):
            assert take(there, one.nic, f"2001:db8:{number:x}::{at:x}").refusal is None
    assert len(there.below(keys.ADDRESSES)) == 24 * MOST
    assert len(there.allocator.end(many.key, "DEL")) == 24
    assert there.below(keys.ADDRESSES) == []
    assert there.findings() == ()


def test_one_that_is_asked_for_later_is_given() -> None:
    there = world()
    web = attach(there, net="prefixed")
    take(there, web, ONE)
    there.allocator.end(request(net="prefixed").key, "DEL")
    there.allocator.reserve(written("web-eth0", net="prefixed", vm="web", interface="eth0", **ips("192.0.2.7")))
    interface = there.interface()
    assert ([str(each) for each in interface.status.addresses], interface.status.learned) == (["192.0.2.7/24"], ())
    assert kind(there, ONE, L2Domain("bond0:200")) is OwnerKind.STATIC
    assert there.findings() == ()
    again = attach(there, net="prefixed")
    assert [str(each) for each in again.addresses] == ["192.0.2.7/24"]
    assert take(there, again, "192.0.2.9").refusal is Refusal.NOT_LEARNED, "it has one of that family"


def test_pools_that_come_later_take_the_place_of_what_was_learned() -> None:
    there = world()
    web = attach(there)
    for each in (ONE, ip_address("fe80::7")):
        take(there, web, each)
    there.change_network("open", ipam=network("x", "192.0.2.0/28").spec.ipam)
    assert learned(there) == ["192.0.2.7", "fe80::7"], "a guest that runs keeps what it has"
    there.allocator.end(request().key, "DEL")
    again = attach(there)
    assert learned(there) == ["fe80::7"]
    assert len(again.addresses) == 1
    reasons = [RELEASE.loads(record.value).reason for record in there.store.list(keys.JOURNAL).records]
    assert reasons == [OUTGROWN]
    assert there.findings() == ()


def test_release() -> None:
    there = world(HOSTS, network("given", "10.0.0.0/24", vlan=300))
    web, db = attach(there), attach(there, "db", "given")
    take(there, web, ONE)
    take(there, web, OTHER)
    assert there.allocator.release_address(DOMAIN, ONE, "operator") == web.interface
    assert learned(there) == ["192.0.2.8"], "from a guest that runs: it was not to have it"
    with pytest.raises(InUse):
        there.allocator.release_address(L2Domain("bond0:300"), db.addresses[0].ip, "operator")
    with pytest.raises(InUse):
        there.allocator.release(web.interface, "operator")
    there.allocator.end(request().key, "DEL")
    assert there.allocator.release(web.interface, "operator") == (OTHER,)
    assert there.below(keys.addresses_of(DOMAIN)) == []
    assert there.findings() == ()


def test_fsck_finds_leaked_missing_and_doubled_ones() -> None:
    there = world()
    web, shop = attach(there), attach(there, "shop")
    take(there, web, ONE)
    take(there, shop, OTHER)
    record = there.store.get(keys.address(DOMAIN, ONE))
    assert record is not None
    there.store.txn((), [Delete(keys.address(DOMAIN, ONE)), Put(keys.address(DOMAIN, SIX), record.value)])
    doubled = there.interface("shop-eth0")
    there.objects.interfaces.save(
        replace(
            doubled,
            status=replace(doubled.status, learned=(*doubled.status.learned, *there.interface().status.learned)),
        )
    )
    found = {(finding.wrong, finding.key) for finding in there.findings()}
    assert (Wrong.LEAKED, keys.address(DOMAIN, SIX)) in found
    assert (Wrong.DOUBLED, keys.interface(web.interface)) in found
    there.objects.interfaces.save(replace(there.interface("shop-eth0"), status=doubled.status))
    for _ in range(2):
        for finding in there.findings():
            repair(there.store, finding, 600)
    assert there.findings() == ()
    assert (kind(there, ONE), kind(there, SIX)) == (OwnerKind.LEARNED, None)
    assert there.below(keys.REST) == []


def test_where_nothing_is_learned() -> None:
    lax = replace(HOSTS, spec=replace(HOSTS.spec, security=Security(anti_spoof=False)))
    there = World((lax,))
    answer = take(there, attach(there), ONE)
    assert (answer.refusal, learned(there)) == (Refusal.NOT_LEARNED, [])
    trunk = replace(HOSTS, spec=replace(HOSTS.spec, l2=L2Config(trunk=Trunk((VLANS,)))))
    there = World((trunk,))
    holder = there.allocator.attach(call(nic("web", net="open", admin=True)))[0].nic
    assert take(there, holder, ONE).refusal is Refusal.STALE, "without a native VLAN it has no addresses"
