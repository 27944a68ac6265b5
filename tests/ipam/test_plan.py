"""One attach after another against tables: what is given, what is refused and with which words, what is written."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from homeport_api.addresses import MacAddress, VlanId, VlanRange
from homeport_api.attachment import AttachedNic, AttachRequest, Identity, NicRequest, PortKind, Source
from homeport_api.errors import (
    AddressOwned,
    Exhausted,
    Held,
    HomeportError,
    Invalid,
    MacInUse,
    NotAllowed,
    NotFound,
)
from homeport_api.interface import Phase
from homeport_api.network import DnsConfig, L2Config, Network, StaticAddresses, Trunk
from homeport_api.pool import Pool
from homeport_ipam.identity import preferred_index
from homeport_store import keys
from homeport_store.protocol import Delete
from tests.ipam.worlds import World, addresses, call, network, nic, written
from tests.ipam.worlds import ips as spec_ips

WEB = written().key
MAC = MacAddress("02:00:5e:10:00:01")


def ips(*texts: str) -> dict[str, object]:
    """What is asked for, with a prefix or without."""
    return {
        "ips": tuple(ip_interface(text) for text in texts if "/" in text),
        "bare_ips": tuple(ip_address(text) for text in texts if "/" not in text),
    }


def given(nics: tuple[AttachedNic, ...]) -> list[str]:
    return [str(address) for one in nics for address in one.nic.addresses]


def trunk(name: str = "all", native: int | None = None, **spec: object) -> Network:
    l2 = L2Config(trunk=Trunk((VlanRange(VlanId(100), VlanId(110)),), VlanId(native) if native else None))
    base = network(name)
    return replace(base, spec=replace(base.spec, l2=l2, **spec))  # type: ignore[arg-type]


def test_golden_preference() -> None:
    assert preferred_index("shop", "web", "eth0", "bond0:100", 4, 254) == 240  # type: ignore[arg-type]


def test_first_attach() -> None:
    world = World()
    world.change_network("blue", gateway4=ip_address("10.0.0.1"), dns=DnsConfig((ip_address("10.0.0.2"),)))
    (one,) = world.allocator.attach(call(nic(), netns="/run/netns/x", pod="web-abc"))
    stored = world.interface()
    space = 253
    preferred = ip_address("10.0.0.2") + preferred_index("shop", "web", "eth0", one.network.l2_domain, 4, space)  # type: ignore[arg-type]
    assert given((one,)) == [f"{preferred}/24"]
    assert replace(stored, meta=replace(stored.meta, revision=0)) == one.interface
    assert (stored.status.phase, stored.status.epoch, stored.status.pod) == (Phase.ACTIVE, 1, "web-abc")
    assert stored.status.gateway4 == ip_address("10.0.0.1")
    assert stored.status.dns.nameservers == (ip_address("10.0.0.2"),)
    assert (stored.spec.vm, stored.spec.interface, stored.spec.network) == ("web", "eth0", "blue")
    assert world.owners() == {preferred: stored.key}
    assert world.below(keys.MACS) == [keys.mac(one.network.mac_domain, one.nic.mac or MAC, "100")]
    assert world.below(keys.INDEX) == [keys.index("shop", "web", "eth0")]
    attachment = world.attachment(call())
    assert attachment is not None
    assert attachment.nics == (one.nic,)
    assert attachment.netns == "/run/netns/x"


def test_repeat_writes_nothing_and_answers_the_same() -> None:
    world = World()
    first = world.allocator.attach(call())
    revision = world.store.list(keys.PREFIX).revision
    world.now += 100
    again = world.another().attach(call())
    assert [one.nic for one in again] == [one.nic for one in first]
    assert world.store.list(keys.PREFIX).revision == revision


def test_a_new_container_gets_what_the_old_had() -> None:
    world = World()
    (first,) = world.allocator.attach(call())
    assert world.allocator.end(call().key, "DEL") == (first.nic.interface,)
    (second,) = world.allocator.attach(call(container="c2", node="n2", boot="b7"))
    assert (second.nic.addresses, second.nic.mac, second.nic.uid) == (
        first.nic.addresses,
        first.nic.mac,
        first.nic.uid,
    )
    assert second.nic.epoch == first.nic.epoch + 1


def test_preferred_address_held_by_another_vm() -> None:
    world = World()
    (first,) = world.allocator.attach(call())
    preferred = first.nic.addresses[0].ip
    world.allocator.end(call().key, "DEL")
    world.allocator.delete_interface(first.nic.interface, "test")
    world.allocator.attach(call(nic("thief", **ips(str(preferred))), container="c2"))
    (again,) = world.allocator.attach(call())
    other = again.nic.addresses[0].ip
    assert other != preferred
    world.allocator.end(call().key, "DEL")
    (kept,) = world.another().attach(call(container="c3"))
    assert kept.nic.addresses[0].ip == other


def test_preference_survives_a_lost_store() -> None:
    one, other = World(), World()
    other.allocator.attach(call(nic("unrelated"), container="c9"))
    assert given(one.allocator.attach(call())) == given(other.allocator.attach(call()))
    assert one.interface().status.mac == other.interface().status.mac


DUAL = (network("blue", "10.0.0.0/24", "fd00::/64"), network("bare", vlan=200), network("red", "10.0.9.0/30", vlan=300))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param(nic(), 2, id="one of each family that has pools"),
        pytest.param(nic(**ips("10.0.0.77")), ["10.0.0.77/24", None], id="bare: the pool's prefix; v6 is chosen"),
        pytest.param(nic(**ips("10.0.0.77/16")), ["10.0.0.77/16", None], id="its own prefix"),
        pytest.param(nic(**ips("fd00::77", "10.0.0.7")), ["10.0.0.7/24", "fd00::77/64"], id="both, v4 first"),
        pytest.param(nic(net="bare"), 0, id="no pools, none asked: none"),
        pytest.param(nic(net="bare", **ips("10.1.1.1")), ["10.1.1.1/32"], id="no pools, bare: /32"),
        pytest.param(nic(net="bare", **ips("fd01::1")), ["fd01::1/128"], id="no pools, bare: /128"),
        pytest.param(nic(net="bare", **ips("10.1.1.1/24")), ["10.1.1.1/24"], id="no pools, as written"),
    ],
)
def test_addresses_given(wanted: NicRequest, expected: int | list[str | None]) -> None:
    got = given(World(DUAL).allocator.attach(call(wanted)))
    if isinstance(expected, int):
        assert len(got) == expected
    else:
        assert len(got) == len(expected)
        assert all(want is None or have == want for have, want in zip(got, expected, strict=True))


def _static_only(world: World) -> None:
    world.allocator.attach(call(nic("db", mac=MAC, **ips("10.0.0.50")), container="c-db"))


def _reserved(world: World) -> None:
    world.allocator.reserve(written(mac=MAC, **spec_ips("10.0.0.60"), vm="web", interface="eth0"))


def _owning(world: World) -> None:
    world.allocator.attach(call(nic(mac=MAC, **ips("10.0.0.70"))))
    world.allocator.end(call().key, "DEL")


def _excluding(world: World) -> None:
    pool = Pool(ip_network("10.0.0.0/24"), exclude=(addresses("10.0.0.9"),))
    world.change_network(
        "blue", ipam=replace(world.networks[0].spec.ipam, pools=(pool,)), gateway4=ip_address("10.0.0.1")
    )


def _full(world: World) -> None:
    for vm in ("a", "b"):
        world.allocator.attach(call(nic(vm, net="red"), container=vm))


def _external(world: World) -> None:
    world.change_network("blue", external_dhcp4=True)


def _selecting(world: World) -> None:
    world.change_network("blue", allowed_namespaces={"matchLabels": {"kubernetes.io/metadata.name": "infra"}})


def _lasting(world: World) -> None:
    world.allocator.attach(call())
    world.allocator.end(call().key, "DEL")


def _nothing(world: World) -> None:
    pass


REFUSALS = [
    pytest.param(_nothing, call(nic(net="grey")), NotFound, "Network grey does not exist", id="no such Network"),
    pytest.param(
        _nothing, call(nic(net=None, interface_object="x")), NotFound, "shop/x does not exist", id="no such Interface"
    ),
    pytest.param(_nothing, call(nic(net=None)), NotFound, "name the Network", id="neither Network nor Interface"),
    pytest.param(_full, call(nic(net="red")), Exhausted, "no IPv4 address is left in 10.0.9.0/30", id="exhausted"),
    pytest.param(_static_only, call(nic(**ips("10.0.0.50"))), AddressOwned, "shop/db-eth0", id="address owned"),
    pytest.param(_static_only, call(nic(mac=MAC)), MacInUse, "shop/db-eth0", id="MAC in use"),
    pytest.param(_nothing, call(nic(**ips("10.9.0.5"))), NotAllowed, "outside", id="outside the pool"),
    pytest.param(_nothing, call(nic(admin=True, **ips("10.9.0.5"))), NotAllowed, "outside", id="outside, admin too"),
    pytest.param(_excluding, call(nic(**ips("10.0.0.9"))), NotAllowed, "excluded", id="excluded"),
    pytest.param(_excluding, call(nic(**ips("10.0.0.1"))), NotAllowed, "gateway", id="gateway"),
    pytest.param(_nothing, call(nic(**ips("10.0.0.0"))), NotAllowed, "network or broadcast", id="network address"),
    pytest.param(_nothing, call(nic(**ips("10.0.0.255"))), NotAllowed, "network or broadcast", id="broadcast"),
    pytest.param(
        _nothing, call(nic(net="bare", **ips("10.1.1.255/24"))), NotAllowed, "broadcast", id="broadcast, no pool"
    ),
    pytest.param(_nothing, call(nic(**ips("224.0.0.5"))), Invalid, "no unicast", id="multicast address"),
    pytest.param(_nothing, call(nic(**ips("10.0.0.5", "10.0.0.6"))), Invalid, "10.0.0.5 and 10.0.0.6", id="two of one"),
    pytest.param(
        _reserved, call(nic(**ips("10.0.0.61"))), Invalid, "10.0.0.60.*10.0.0.61", id="spec and call, address"
    ),
    pytest.param(
        _reserved, call(nic(mac=MacAddress("02:00:00:00:00:09"))), Invalid, f"{MAC}.*00:09", id="spec and call, MAC"
    ),
    pytest.param(_owning, call(nic(**ips("10.0.0.71"))), Invalid, "owns 10.0.0.70.*10.0.0.71", id="owns another"),
    pytest.param(
        _owning, call(nic(mac=MacAddress("02:00:00:00:00:09"))), Invalid, f"owns MAC {MAC}", id="owns another MAC"
    ),
    pytest.param(_owning, call(nic(net="red")), Invalid, "is on Network blue, the call says red", id="other Network"),
    pytest.param(
        _owning, call(nic(net="red", interface_object="web-eth0")), Invalid, "blue.*red", id="named, other Network"
    ),
    pytest.param(_lasting, call(nic(ephemeral=True)), Invalid, "interface: web-eth0", id="a pod named like a VM"),
    pytest.param(_external, call(nic(**ips("10.0.0.5"))), Invalid, "external DHCP", id="asked on an external network"),
    pytest.param(_external, call(nic(wants_mac=False)), Invalid, "homeport-ipam", id="homeport-ipam, external"),
    pytest.param(_selecting, call(nic()), NotAllowed, "do not select namespace shop", id="namespace not selected"),
    pytest.param(
        _nothing, call(nic(net="all")), NotAllowed, "trunk without allowedNamespaces", id="trunk, no selector"
    ),
    pytest.param(
        _nothing, call(nic(net="all", admin=True, **ips("10.1.0.1"))), Invalid, "nativeVLAN", id="trunk without native"
    ),
    pytest.param(
        _nothing, call(nic(link="eth0"), nic("web", "eth1", link="eth0")), Invalid, "link name eth0", id="link twice"
    ),
    pytest.param(
        _nothing, call(nic(), nic(link="eth1")), Invalid, "names of their own", id="two NICs on a Network, unnamed"
    ),
    pytest.param(
        _reserved,
        call(nic(), nic(interface_object="web-eth0", link="eth1")),
        Invalid,
        "mean Interface shop/web-eth0",
        id="one Interface twice",
    ),
    pytest.param(
        _nothing, call(nic(mac=MAC), nic(interface="eth1", mac=MAC)), MacInUse, "another NIC", id="MAC twice in a call"
    ),
    pytest.param(
        _nothing,
        call(nic(**ips("10.0.0.9")), nic(interface="eth1", **ips("10.0.0.9"))),
        AddressOwned,
        "another NIC",
        id="address twice in a call",
    ),
    pytest.param(
        _nothing, call(*(nic(interface=f"e{at}") for at in range(25))), Invalid, "1 to 24 NICs, not 25", id="25 NICs"
    ),
]


@pytest.mark.parametrize(("prepare", "request_", "error", "text"), REFUSALS)
def test_refusals_change_nothing(
    prepare: Callable[[World], None],
    request_: AttachRequest,
    error: type[HomeportError],
    text: str,
) -> None:
    world = World((*DUAL, trunk()))
    prepare(world)
    before = world.store.list(keys.PREFIX)
    for allocator in (world.allocator, world.another()):
        with pytest.raises(error, match=f"(?s){text}"):
            allocator.attach(request_)
    assert world.store.list(keys.PREFIX) == before


def test_a_refused_nic_leaves_nothing_of_the_others() -> None:
    world = World(DUAL)
    _full(world)
    before = world.store.list(keys.PREFIX)
    with pytest.raises(Exhausted):
        world.allocator.attach(call(nic(), nic(interface="eth1", net="red")))
    assert world.store.list(keys.PREFIX) == before


def test_any_static_address_where_the_network_says_so() -> None:
    world = World()
    world.change_network("blue", static_addresses=StaticAddresses.ANY, gateway4=ip_address("10.0.0.1"))
    assert given(world.allocator.attach(call(nic(**ips("10.0.0.1"))))) == ["10.0.0.1/24"]
    assert given(world.allocator.attach(call(nic("b", **ips("192.168.1.5")), container="b"))) == ["192.168.1.5/32"]


def test_external_dhcp_gives_no_addresses() -> None:
    world = World()
    _external(world)
    (one,) = world.allocator.attach(call())
    assert one.nic.addresses == ()
    assert one.nic.mac is not None
    assert world.owners() == {}


def test_homeport_ipam_takes_no_mac() -> None:
    world = World()
    (one,) = world.allocator.attach(call(nic(wants_mac=False, kind=PortKind.NONE)))
    assert (one.nic.mac, one.nic.kind) == (None, PortKind.NONE)
    assert world.below(keys.MACS) == []


@pytest.mark.parametrize("native", [None, 100])
def test_trunk_excludes_its_mac_everywhere(native: int | None) -> None:
    world = World((network("blue", "10.0.0.0/24"), network("red", "10.0.9.0/24", vlan=300), trunk("all", native)))
    world.allocator.attach(call(nic("t", net="all", admin=True, mac=MAC), container="t"))
    with pytest.raises(MacInUse):
        world.allocator.attach(call(nic(net="red", mac=MAC)))
    world.allocator.attach(call(nic(mac=MacAddress("02:00:00:00:00:07"))))
    with pytest.raises(MacInUse):
        world.allocator.attach(
            call(nic("u", net="all", admin=True, mac=MacAddress("02:00:00:00:00:07")), container="u")
        )


def test_one_mac_on_two_vlans_and_two_isolated_networks() -> None:
    isolated = [replace(n, spec=replace(n.spec, uplink=None, l2=L2Config())) for n in (network("i1"), network("i2"))]
    world = World((network("blue"), network("red", vlan=300), *isolated))
    for net in ("blue", "red", "i1", "i2"):
        world.allocator.attach(call(nic(net, net=net, mac=MAC), container=net))
    assert len(world.below(keys.MACS)) == 4


def test_trunk_shares_the_addresses_of_its_native_vlan() -> None:
    world = World((network("blue", "10.0.0.0/30"), trunk("all", 100, ipam=network("x", "10.0.0.0/30").spec.ipam)))
    world.allocator.attach(call(nic()))
    world.allocator.attach(call(nic("t", net="all", admin=True), container="t"))
    assert len(world.owners()) == 2
    with pytest.raises(Exhausted):
        world.allocator.attach(call(nic("u"), container="u"))


def test_names_that_collide_get_a_hash() -> None:
    world = World()
    keys_ = [
        world.allocator.attach(call(nic(vm), container=vm))[0].nic.interface.name for vm in ("Web_1", "web-1", "web.1")
    ]
    assert keys_[0] == "web-1-eth0"
    assert len(set(keys_)) == 3
    assert all(name.startswith("web-1-eth0-") for name in keys_[1:])


def test_24_dual_stack_nics_on_24_networks_are_one_transaction() -> None:
    nets = tuple(network(f"n{at}", f"10.{at}.0.0/24", f"fd00:{at}::/64", vlan=100 + at) for at in range(24))
    world = World(nets)
    nics = tuple(nic(interface=f"eth{at}", net=f"n{at}") for at in range(24))
    before = world.store.list(keys.PREFIX).revision
    assert len(given(world.allocator.attach(call(*nics)))) == 48
    assert world.store.list(keys.PREFIX).revision == before + 1
    world.allocator.end(call(*nics).key, "DEL")
    world.allocator.attach(call(*nics, container="c2"))
    assert world.findings() == ()


@pytest.mark.parametrize(
    "request_",
    [nic("web vm"), nic("web", "ethü"), nic("a/b"), NicRequest(Identity("Shop", "web", "eth0"), "eth0", "blue")],
)
def test_nothing_is_written_that_could_not_be_read(request_: NicRequest) -> None:
    world = World()
    before = world.store.list(keys.PREFIX)
    with pytest.raises(Invalid, match=r"is not (a name|usable as a name)"):
        world.allocator.attach(call(request_))
    assert world.store.list(keys.PREFIX).records == before.records


def test_two_unnamed_nics_of_one_container_in_two_calls() -> None:
    world = World()
    world.allocator.attach(call(nic(interface="blue", link="net1")))
    with pytest.raises(Invalid, match="names of their own"):
        world.allocator.attach(call(nic(interface="blue", link="net2")))


class TestHeld:
    """The Interface has an active holder: container c1 on node n1 in boot b1."""

    @pytest.fixture
    def world(self) -> World:
        world = World()
        world.heartbeat("n1", "b1")
        world.allocator.attach(call())
        return world

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(call(container="c2"), id="another container here"),
            pytest.param(call(container="c2", node="n2", boot="b2"), id="another node"),
            pytest.param(replace(call(nic(link="eth7")), source=Source.CLI), id="another link"),
        ],
    )
    def test_refused_naming_the_holder(self, world: World, other: AttachRequest) -> None:
        with pytest.raises(Held, match=r"shop/web-eth0 is held by container c1 \(eth0\) on node n1"):
            world.allocator.attach(other)

    def test_refused_when_the_holders_node_is_silent(self, world: World) -> None:
        world.store.txn((), [Delete(keys.node("n1"))])
        with pytest.raises(Held):
            world.another().attach(call(container="c2", node="n2", boot="b2"))

    @pytest.mark.parametrize("fed", [True, False])
    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(call(container="c2", node="n2", boot="b2"), id="holder's node restarted"),
            pytest.param(call(container="c2", boot="b9"), id="this node restarted"),
            pytest.param(call(container="c1", boot="b9"), id="this node restarted, same attachment"),
            pytest.param(call(container="c2", gone_ports=frozenset({(WEB, 1)})), id="port gone here"),
            pytest.param(call(container="c2", node="n2", boot="b2", take_over=True), id="operator's word"),
        ],
    )
    def test_lawful_take_over(self, world: World, other: AttachRequest, fed: bool) -> None:
        before = world.interface().status
        if not other.take_over and not other.gone_ports:
            world.heartbeat("n1", "b9")
        allocator = world.another() if fed else world.allocator
        (one,) = allocator.attach(other)
        after = world.interface().status
        assert after.epoch == one.nic.epoch == before.epoch + 1
        assert (after.addresses, after.mac) == (before.addresses, before.mac)
        assert [holder.container_id for holder in after.holders] == [one.interface.status.holders[0].container_id]
        assert len(world.below(keys.ATTACHMENTS)) == 1
        assert world.findings() == ()

    def test_port_gone_on_another_node_is_no_reason(self, world: World) -> None:
        with pytest.raises(Held):
            world.allocator.attach(call(container="c2", node="n2", boot="b2", gone_ports=frozenset({(WEB, 1)})))

    def test_a_port_that_was_gone_says_nothing_of_the_next_holders(self, world: World) -> None:
        """Two calls saw the same port gone; the second one meets the first."""
        calls = [call(container=container, gone_ports=frozenset({(WEB, 1)})) for container in ("c2", "c3")]
        world.allocator.attach(calls[0])
        with pytest.raises(Held, match="c2"):
            world.another().attach(calls[1])

    def test_other_nics_of_the_old_attachment_stay(self) -> None:
        world = World()
        pair = call(nic(), nic(interface="eth1"))
        world.allocator.attach(pair)
        world.allocator.attach(call(container="c2", take_over=True))
        left = world.attachment(pair)
        assert left is not None
        assert [one.interface.name for one in left.nics] == ["web-eth1"]
        assert world.findings() == ()

    def test_the_same_attachment_with_other_nics(self, world: World) -> None:
        with pytest.raises(Held, match="which this call does not name"):
            world.allocator.attach(call(nic("other")))

    def test_another_link_when_the_old_port_is_gone(self, world: World) -> None:
        moved = call(nic(link="tap7"), gone_ports=frozenset({(WEB, 1)}))
        moved = replace(moved, key=call().key)
        (one,) = world.allocator.attach(moved)
        assert (one.nic.link, one.nic.epoch) == ("tap7", 2)
