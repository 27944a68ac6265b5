"""Guests that take their addresses by themselves: bound to the first that comes, on real links."""

import random
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from homeport_agent.learner import SECONDS_A_BINDING, Budget, Claim, claim_of, unused
from homeport_agent.ports import rights_of
from homeport_api.addresses import IpAddress, L2Domain, MacAddress, VlanId
from homeport_api.attachment import Nic
from homeport_api.interface import (
    AllowedAddress,
    Holder,
    Interface,
    InterfaceKey,
    InterfaceSpec,
    InterfaceStatus,
    LearnedAddress,
)
from homeport_api.meta import ObjectMeta
from homeport_api.network import L2Config, Network, NetworkSpec, Trunk
from homeport_dataplane.netns import Namespace as Opened
from homeport_dataplane.nflog import Logged
from homeport_ipam.allocator import Allocator
from homeport_ipam.learn import MOST
from homeport_ipam.view import View
from homeport_netns_fixtures.capture import send
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import NodeSpec
from homeport_store import keys
from tests.dataplane.packets import UDP, begin, ethernet, ip
from tests.ipam.worlds import World, call, network
from tests.ipam.worlds import nic as request

from .conftest import Equip
from .lab import Lab, flood, wait_until

ONE, TWO, THREE = (ip_address(f"192.0.2.{at}") for at in (1, 2, 3))


def took(lab: Lab, vm: str) -> set[str]:
    interface = lab.interface(f"{vm}-eth0")
    return {str(each.address) for each in interface.status.learned} if interface else set()


def join(lab: Lab, vm: str, *addresses: str, network: str = "open") -> tuple[Namespace, str]:
    """A guest that sets its addresses itself, IPv6 ones with duplicate address detection, and its MAC."""
    guest = lab.guest(vm)
    answer = lab.add(f"c-{vm}", guest, network=network, vm=vm)
    assert answer.exit_code == 0, answer
    if addresses:
        guest.ip(*(f"address add {address} dev eth0" for address in addresses))
    return guest, guest.mac("eth0")


def drops(lab: Lab, reason: str) -> int:
    listed = lab.node.switch.run("nft", "list", "counter", "bridge", "homeport", reason).stdout
    return int(listed.split("packets ")[1].split()[0])


def arp(mac: str, sender: str, asked: str) -> bytes:
    head = bytes.fromhex("ffffffffffff" + mac.replace(":", "") + "0806" + "0001080006040001" + mac.replace(":", ""))
    return head + ip_address(sender).packed + bytes(6) + ip_address(asked).packed + bytes(18)


# The claims


def test_a_claim_is_that_of_the_link_that_has_the_number_now(netns: Callable[[str], Namespace]) -> None:
    """Links come and go, and a number may come again."""
    there = netns("switch")
    body = arp("02:00:00:00:00:01", str(ONE), str(TWO))[14:]
    logged = Logged(1, "claim", 77, None, 0x0806, body)
    with Opened.open_named(there.name, there.path.parent) as opened:
        assert claim_of(opened, logged) is None
        for name in ("hp1", "hp2"):
            there.ip(f"link add {name} index 77 type veth peer name its-end")
            assert claim_of(opened, logged) == Claim(name, ONE)
            assert claim_of(opened, replace(logged, vlan=VlanId(7))) is None
            there.ip(f"link delete {name}")
        assert claim_of(opened, logged) is None


# Pure


def interface(learned: Sequence[LearnedAddress], came: float) -> Interface:
    status = InterfaceStatus(learned=tuple(learned), holders=(Holder("a", "b", "c", "eth0", since=came),))
    return Interface(ObjectMeta("web-eth0", "shop"), InterfaceSpec("open"), status)


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        pytest.param({}, [ONE, TWO], id="never used since they were bound"),
        pytest.param({ONE: 1000.0, TWO: 2000.0}, [TWO, ONE], id="the longest unused first"),
        pytest.param({ONE: 10.0}, [TWO], id="used a moment ago"),
        pytest.param({ONE: 299.0, TWO: 300.0}, [TWO], id="unused for just as long"),
        pytest.param({THREE: 5000.0}, [ONE, TWO], id="of an address that it has not"),
    ],
)
def test_what_may_give_way(ages: dict[IpAddress, float], expected: list[IpAddress]) -> None:
    known = (LearnedAddress(ONE, 1000.0), LearnedAddress(TWO, 2000.0), LearnedAddress(THREE, 9900.0))
    assert unused(interface(known, 0.0), ages, 300.0, 10_000.0) == expected
    assert unused(interface(known, 9800.0), ages, 300.0, 10_000.0) == [], "what it used elsewhere is not known here"


def test_privacy_addresses_work_for_months() -> None:
    """Two prefixes, a new address in each every day, in use for a day and now and then for a week (RFC 8981 §3.8)."""
    world = World((network("open"),))
    nic = world.allocator.attach(call(request(net="open")))[0].nic
    budget, last = Budget(), dict[IpAddress, float]()
    stable = [ip_address("fe80::99"), ip_address("2001:db8:1::99"), ip_address("2001:db8:2::99")]
    for day in range(180):
        fresh = [ip_address(f"2001:db8:{prefix}::1:{day:x}") for prefix in (1, 2)]
        for address in (*stable, *fresh) if day == 0 else fresh:
            world.now += 1.0
            assert budget.spend(nic.uid, world.now)
            ages = {each: world.now - at for each, at in last.items()}
            may_go = unused(world.interface("web-eth0"), ages, 300.0, world.now)
            answer = world.allocator.learn(nic, address, world.objects.networks.list(), may_go)
            assert answer.refusal is None, f"day {day}: {answer.text}"
        for step in range(24):
            world.now += 3600.0
            last |= dict.fromkeys((*stable, *fresh), world.now)
            if step == 12 and day >= 3:
                last[ip_address(f"2001:db8:1::1:{day - 3:x}")] = world.now  # a connection from three days ago
        kept = {each.address for each in world.interface("web-eth0").status.learned}
        assert {*stable, *fresh} <= kept
        assert len(kept) <= MOST
        if day >= 3:
            assert ip_address(f"2001:db8:1::1:{day - 3:x}") in kept
    assert world.findings() == ()


def test_a_budget_is_full_at_first_and_fills_again() -> None:
    budget = Budget()
    assert [budget.spend("a", 100.0) for _ in range(MOST + 1)] == [True] * MOST + [False]
    assert budget.spend("b", 100.0), "of each its own"
    assert not budget.spend("a", 100.0 + SECONDS_A_BINDING - 0.1)
    assert budget.spend("a", 100.0 + SECONDS_A_BINDING)
    assert not budget.spend("a", 100.0 + SECONDS_A_BINDING)
    later = 100.0 + 100 * MOST * SECONDS_A_BINDING
    assert [budget.spend("a", later) for _ in range(MOST + 1)] == [True] * MOST + [False]


NIC = Nic(InterfaceKey("shop", "web-eth0"), "u", 1, "open", "eth0", mac=MacAddress("02:00:5e:10:00:01"))
SECOND = replace(NIC, interface=InterfaceKey("shop", "web-eth1"), uid="v", link="eth1")
OWN_LOCAL, GIVEN = ip_address("fe80::5eff:fe10:1"), ip_interface("192.0.2.5/24")


def record(nic: Nic, *learned: IpAddress, uid: str | None = None, network: str = "open") -> Interface:
    meta = ObjectMeta(nic.interface.name, nic.interface.namespace, nic.uid if uid is None else uid)
    status = InterfaceStatus(mac=nic.mac, learned=tuple(map(LearnedAddress, learned)))
    return Interface(meta, InterfaceSpec(network), status)


def allowed(*addresses: IpAddress, trusted: tuple[str, ...] = ()) -> Interface:
    spec = InterfaceSpec("open", allowed=tuple(map(AllowedAddress, addresses)), trusted=trusted)
    return replace(record(NIC), spec=spec)


GATEWAY = {"gateway4": ONE}


@pytest.mark.parametrize(
    ("nic", "spec", "interface", "others", "addresses", "unbound"),
    [
        pytest.param(NIC, {}, None, (), {OWN_LOCAL}, {4, 6}, id="what its MAC makes, if nothing else is known"),
        pytest.param(NIC, {}, record(NIC, ONE), (), {OWN_LOCAL, ONE}, {4, 6}, id="what it took"),
        pytest.param(
            NIC, {}, record(NIC, ONE, uid="w"), (), {OWN_LOCAL}, {4, 6}, id="not what another of its name did"
        ),
        pytest.param(NIC, {}, record(NIC), (record(SECOND, TWO),), {OWN_LOCAL, TWO}, {4, 6}, id="on its other NIC"),
        pytest.param(
            NIC, {}, record(NIC), (record(SECOND, TWO, network="x"),), {OWN_LOCAL}, {4, 6}, id="not on another Network"
        ),
        pytest.param(
            replace(NIC, addresses=(GIVEN,)), {}, record(NIC), (), {OWN_LOCAL, GIVEN.ip}, {6}, id="a family is given"
        ),
        pytest.param(
            NIC,
            {"l2": L2Config(trunk=Trunk(()))},
            record(NIC),
            (),
            {OWN_LOCAL},
            set(),
            id="a trunk without native VLAN",
        ),
        pytest.param(
            NIC, GATEWAY, allowed(ONE, TWO), (), {OWN_LOCAL, TWO}, {4, 6}, id="what it is allowed, no gateway"
        ),
        pytest.param(
            NIC,
            GATEWAY,
            allowed(ONE, TWO, trusted=("router",)),
            (),
            {OWN_LOCAL, ONE, TWO},
            {4, 6},
            id="the gateway's, where it is trusted as a router",
        ),
    ],
)
def test_what_a_guest_may_use(
    nic: Nic,
    spec: dict[str, Any],
    interface: Interface | None,
    others: tuple[Interface, ...],
    addresses: set[IpAddress],
    unbound: set[int],
) -> None:
    network = Network(ObjectMeta("open"), NetworkSpec(uplink="eth1", **spec))
    rights = rights_of(nic, network, interface, (nic, SECOND), others)
    assert (rights.addresses, rights.unbound) == (addresses, unbound)


# On real links


def test_a_static_address_is_learned_from_the_first_question(lab: Lab) -> None:
    """Linux probes for no IPv4 address of its own: the first ARP question is lost and tells of it, the next passes."""
    lab.apply("open", None)
    web, _ = join(lab, "web", "192.0.2.1/24")
    join(lab, "db", "192.0.2.2/24")
    assert took(lab, "web") == took(lab, "db") == set()
    web.wait_ping("192.0.2.2")
    assert (took(lab, "web"), took(lab, "db")) == ({"192.0.2.1"}, {"192.0.2.2"})
    assert drops(lab, "foreign_arp") >= 1
    assert lab.metric("homeport_learned_addresses_total") == 2
    lab.require_clean(ports=2)


def test_an_ipv6_address_is_learned_when_it_is_asked_for(lab: Lab) -> None:
    """By duplicate address detection; nothing is lost."""
    lab.apply("open", None)
    before = [drops(lab, reason) for reason in ("foreign_ipv6", "foreign_nd")]
    web, _ = join(lab, "web", "2001:db8::1/64", "fe80::77/64")
    db, _ = join(lab, "db", "2001:db8::2/64")
    wait_until(lambda: took(lab, "web") == {"2001:db8::1", "fe80::77"}, "both are bound")
    for guest in (web, db):
        wait_until(lambda seen=guest: "tentative" not in seen.run("ip", "address").stdout, "nobody else has it")  # type: ignore[misc]
    assert web.pings("2001:db8::2")
    assert took(lab, "db") == {"2001:db8::2"}
    assert [drops(lab, reason) for reason in ("foreign_ipv6", "foreign_nd")] == before
    assert web.pings("fe80::77%eth0")
    assert db.pings("fe80::77%eth0"), "a link-local of its choice"
    lab.require_clean(ports=2)


def test_who_comes_second_is_dropped_and_seen(lab: Lab) -> None:
    lab.apply("open", None)
    web, _ = join(lab, "web", "192.0.2.1/24")
    db, _ = join(lab, "db", "192.0.2.2/24")
    thief, mac = join(lab, "thief", "192.0.2.3/24")
    for guest in (web, thief):
        guest.wait_ping("192.0.2.2")
    refused, dropped = "homeport_address_claims_refused_total", drops(lab, "foreign_arp")
    assert db.run("ip", "neigh", "show", "192.0.2.1").stdout.split()[4] == web.mac("eth0")
    for _ in range(3):
        send(thief, "eth0", arp(mac, "192.0.2.1", "192.0.2.2"))
    send(thief, "eth0", ethernet("ff:ff:ff:ff:ff:ff", mac, ip("192.0.2.1", "192.0.2.2", UDP, begin(UDP, 1, 2))))
    wait_until(lambda: drops(lab, "foreign_arp") >= dropped + 3 and drops(lab, "foreign_ipv4") >= 1, "all are dropped")
    wait_until(lambda: lab.metric(refused + '{reason="taken"}') >= 1, "it is counted")
    assert "192.0.2.1 belongs to Interface default/web-eth0" in lab.node.agent.log()
    assert took(lab, "thief") == {"192.0.2.3"}
    assert db.run("ip", "neigh", "show", "192.0.2.1").stdout.split()[4] == web.mac("eth0"), "nobody was deceived"
    assert thief.pings("192.0.2.2"), "by its own it is heard"


def test_a_binding_survives_the_agent_and_moves_with_the_interface(lab: Lab) -> None:
    lab.apply("open", None)
    web, _ = join(lab, "web", "192.0.2.1/24")
    join(lab, "db", "192.0.2.2/24")
    web.wait_ping("192.0.2.2")
    with flood(web, "192.0.2.2") as ping:
        lab.restart()
        wait_until(lambda: lab.metric("homeport_reconcile_seconds_count") > 0, "it has looked at everything")
    assert ping.lost == 0
    assert lab.metric("homeport_learned_addresses_total") == 0, "it is in the store"
    lab.delete("c-web", network="open")
    again = lab.guest("again")
    assert lab.add("c-again", again, network="open", vm="web").exit_code == 0
    before = drops(lab, "foreign_arp")
    again.ip("address add 192.0.2.1/24 dev eth0")
    assert again.pings("192.0.2.2", wait=5)
    assert drops(lab, "foreign_arp") == before, "from the first question on"
    lab.require_clean(ports=2)


def test_it_can_be_taken_from_a_guest_that_runs_and_be_given_to_another(lab: Lab) -> None:
    lab.apply("open", None, l2NetworkConfig={"prefixLength4": 24}, gateway4="192.0.2.254")
    web, _ = join(lab, "web", "192.0.2.1/24")
    db, _ = join(lab, "db", "192.0.2.2/24")
    web.wait_ping("192.0.2.2")
    view, domain = View(), L2Domain(":open")
    view.load(lab.store.list(keys.PREFIX))
    allocator = Allocator(lab.store, view, "homeport", 0.0, time.time, random.Random(0))
    allocator.release_address(domain, ONE, "a test's word")
    other = lab.guest("other")
    answer = lab.add("c-other", other, network="open", vm="other", cni_args={"IP": "192.0.2.1"})
    assert answer.addresses == ["192.0.2.1/24"], answer
    wait_until(lambda: not any("192.0.2.1" in each for each in took(lab, "web")), "it is not its own any more")
    wait_until(lambda: not web.pings("192.0.2.2", wait=1), "nor can it use it")
    assert other.pings("192.0.2.2", wait=5)
    assert db.run("ip", "neigh", "show", "192.0.2.1").stdout.split()[4] == other.mac("eth0")
    lab.require_clean(ports=3)


def test_it_is_free_when_the_interface_goes(lab: Lab) -> None:
    lab.apply("open", None)
    web, _ = join(lab, "web", "192.0.2.1/24")
    db, _ = join(lab, "db", "192.0.2.2/24")
    web.wait_ping("192.0.2.2")
    lab.delete("c-web", network="open")
    lab.delete_interface("web-eth0")
    late, _ = join(lab, "late", "192.0.2.1/24")
    late.wait_ping("192.0.2.2")
    assert took(lab, "late") == {"192.0.2.1"}
    assert db.pings("192.0.2.1")
    lab.require_clean(ports=2)


def test_link_local_addresses_are_learned_where_addresses_are_given(lab: Lab) -> None:
    web, mac = join(lab, "web", "fe80::77/64", network="lab")
    thief, _ = join(lab, "thief", network="lab")
    wait_until(lambda: took(lab, "web") == {"fe80::77"}, "it is bound")
    thief.wait_ping("fe80::77%eth0")
    before = drops(lab, "foreign_arp")
    send(web, "eth0", arp(mac, "10.77.0.99", "10.77.0.98"))
    wait_until(lambda: drops(lab, "foreign_arp") > before, "IPv4 is given here")
    assert took(lab, "web") == {"fe80::77"}
    assert took(lab, "thief") == set(), "what its MAC makes needs no record"


def test_without_anti_spoof_nothing_is_learned_or_dropped(lab: Lab) -> None:
    lab.apply("open", None, security={"antiSpoof": False})
    web, _ = join(lab, "web", "192.0.2.1/24")
    join(lab, "db", "192.0.2.2/24")
    web.wait_ping("192.0.2.2")
    assert took(lab, "web") == took(lab, "db") == set()


def test_a_flood_of_claims_harms_nobody_and_evicts_nothing_in_use(lab: Lab) -> None:
    lab.apply("open", None)
    hostile, mac = join(lab, "hostile", "192.0.2.1/24")
    join(lab, "db", "192.0.2.2/24")
    hostile.wait_ping("192.0.2.2")
    before = lab.store.list(keys.PREFIX).revision
    claims = [arp(mac, f"198.51.{at >> 8}.{at & 255}", "192.0.2.2") for at in range(1, 10_000)]
    began = time.monotonic()
    with hostile.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind(("eth0", 0))
        for claim in claims:
            link.send(claim)
    print(f"{len(claims)} claims in {time.monotonic() - began:.1f} s")
    web, _ = join(lab, "web", "192.0.2.3/24")
    wait_until(lambda: web.pings("192.0.2.2", wait=1), "another guest's first packets")
    wait_until(lambda: len(took(lab, "hostile")) == MOST, "as many as it may have")
    assert "192.0.2.1" in took(lab, "hostile")
    assert hostile.pings("192.0.2.2"), "what it used stays its own"
    written = lab.store.list(keys.PREFIX).revision - before
    assert written < 3 * MOST, f"{written} writes"
    lab.require_clean(ports=3)


def test_a_seventeenth_takes_the_place_of_the_longest_unused(topology: WorldBuilder, equip: Equip) -> None:
    lab = equip(topology(NodeSpec("a", options=("--learned-idle", "2s"))).node("a"))
    lab.start()
    lab.apply("open", None)
    web, mac = join(lab, "web", "192.0.2.1/24")
    join(lab, "db", "192.0.2.2/24")
    web.wait_ping("192.0.2.2")
    others = [f"198.51.100.{at}" for at in range(1, MOST)]

    def claimed(address: str) -> bool:
        send(web, "eth0", arp(mac, "0.0.0.0", address))
        return address in took(lab, "web")

    for each in others:
        wait_until(partial(claimed, each), f"{each} is bound")
    time.sleep(2.5)  # what is not used now is idle
    assert web.pings("192.0.2.2")
    used = others[1:]
    for each in used:
        send(web, "eth0", arp(mac, each, "192.0.2.2"))
    wait_until(partial(claimed, "198.51.100.99"), "a seventeenth is bound")
    assert took(lab, "web") == {"192.0.2.1", *used, "198.51.100.99"}
    lab.require_clean(ports=2)
