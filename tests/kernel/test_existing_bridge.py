"""Ports on a bridge of the host's own, in the host's namespace: it works, and what the host can break there is said."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from homeport_netns_fixtures.capture import RARP, Capture, send
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.topology import ALL_OTHER_VLANS
from homeport_netns_fixtures.topology import BRIDGE as SWITCH_BRIDGE
from homeport_store.objects import Objects

from .lan import Guest, Lan, frame, ping, ruleset, wait_until
from .policies import PORT, allow, policy

TWO = "10.40.0.12"
SILENCE = 3.0

DROP_FORWARDED = """
add table ip filter
add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }
"""
TRACK = """
add table bridge firewall
add chain bridge firewall forward { type filter hook forward priority -200; policy accept; }
add rule bridge firewall forward ct state established,related counter accept
"""


@dataclass(frozen=True, slots=True)
class Yard:
    """Two guests of Network `yard` (VLAN 300) on node a's own bridge, and a machine of that VLAN beyond its NIC."""

    one: Guest
    two: Guest
    outside: Namespace
    address: str = "10.40.0.200"


@pytest.fixture(scope="module")
def yard(lan: Lan) -> Iterator[Yard]:
    host, switch = lan.a.namespace, lan.world.switch
    switch.ip(
        f"link add p-yard type veth peer name eth3 netns {host.name}", f"link set p-yard master {SWITCH_BRIDGE} up"
    )
    switch.bridge(f"vlan add vid {ALL_OTHER_VLANS} dev p-yard")
    host.ip("link add brown type bridge vlan_filtering 1", "link set eth3 master brown up", "link set brown up")
    host.bridge("vlan add vid 300 dev eth3")
    outside = lan.world.outside("yard", "10.40.0.200/24", vlan=300)
    lan.apply("yard", uplink="brown", vlan=300, pool="10.40.0.0/24")
    one, two = (lan.attach(lan.a, f"yard{number}", "yard", f"10.40.0.1{number}") for number in (1, 2))
    yield Yard(one, two, outside)
    for guest in (one, two):
        lan.detach(guest)
    lan.delete_network("yard")
    host.ip("link delete brown", "link delete eth3")
    host.run("nft", "flush", "ruleset")


@pytest.fixture
def bridged_to_ip_tables(lan: Lan, yard: Yard) -> Iterator[None]:
    host = lan.a.namespace
    host.set_sysctl("bridge/bridge-nf-call-iptables", 1)
    yield
    host.set_sysctl("bridge/bridge-nf-call-iptables", 0)
    lan.wait_report(lan.a, "yard", lambda report: not report.conditions, "nothing is wrong with br_netfilter off")


def test_guests_on_the_hosts_bridge_are_in_its_vlan(lan: Lan, yard: Yard) -> None:
    lan.wait_report(lan.a, "yard", lambda report: report.ready and not report.conditions, "ready, nothing to say")
    for target in ("10.40.0.12", yard.address):
        assert ping(yard.one, target)
        assert ping(yard.one, target, size=4000)
    vlans = lan.vlans_of(lan.a.namespace)
    assert vlans[yard.one.port] == vlans[yard.two.port] == {(300, 1, 1)}, "VLAN 1 is gone from our ports"
    assert (1, 1, 1) in vlans["eth3"], "and the host's own port keeps what it had"


def test_a_dropping_forward_chain_is_a_condition(lan: Lan, yard: Yard, bridged_to_ip_tables: None) -> None:
    lan.a.namespace.nft(DROP_FORWARDED)
    report = lan.wait_report(lan.a, "yard", lambda report: report.conditions, "the node tells of the dropping chain")
    (condition,) = report.conditions
    assert (condition.type, condition.status) == ("ForwardingDropped", "True")
    assert "ip filter FORWARD" in condition.message
    assert not ping(yard.one, "10.40.0.12", wait=1), "which is the truth"
    shown = lan.homeport(lan.a, "get", "network", "yard", "-o", "json")
    assert "ForwardingDropped" in shown
    lan.a.namespace.run("nft", "delete", "table", "ip", "filter")
    lan.wait_report(lan.a, "yard", lambda report: not report.conditions, "the condition ends with the chain")
    assert ping(yard.one, "10.40.0.12")


def test_connection_tracking_on_the_bridge_is_lost_fragments(lan: Lan, yard: Yard, bridged_to_ip_tables: None) -> None:
    lan.a.namespace.nft(TRACK)
    report = lan.wait_report(lan.a, "yard", lambda report: report.conditions, "the node tells of lost fragments")
    (condition,) = report.conditions
    assert (condition.type, condition.status) == ("FragmentsLost", "True")
    assert "bridge firewall forward" in condition.message
    assert ping(yard.one, yard.address)
    assert not ping(yard.one, yard.address, size=4000, wait=1), "which is the truth"
    lan.a.namespace.run("nft", "delete", "table", "bridge", "firewall")
    lan.wait_report(lan.a, "yard", lambda report: not report.conditions, "the condition ends with the rule")


def test_the_guards_come_back_after_a_flush_and_the_bridge_keeps_its_vlans(lan: Lan, yard: Yard) -> None:
    host = lan.a.namespace
    vlans = lan.vlans_of(host)
    rules = ruleset(host)
    host.run("nft", "flush", "ruleset")
    wait_until(
        lambda: ruleset(host) == rules,
        "the guards on the host's side healed",
    )
    host.bridge(f"vlan del vid 300 dev {yard.one.port}", f"vlan add vid 1 dev {yard.one.port} pvid untagged")
    wait_until(lambda: lan.vlans_of(host) == vlans, "the port's VLANs healed")
    wait_until(lambda: ping(yard.one, yard.address), "it speaks")
    spoof = frame(0x8100, RARP, source=yard.one.mac, tags=(300,))
    with Capture(yard.outside, "eth0") as seen:
        control = frame(RARP, source=yard.one.mac)
        send(yard.one.namespace, "eth0", spoof)
        send(yard.one.namespace, "eth0", control)
        seen.wait(lambda each: each.payload == control[14:])
        assert not seen.matching(lambda each: each.data[-50:] == spoof[-50:])


@pytest.fixture
def shut(lan: Lan, yard: Yard) -> Iterator[None]:
    """Nobody may reach the second guest."""
    assert ping(yard.one, TWO)
    policies = Objects(lan.store).policies
    saved = policies.save(policy("shut", allow("yard2")))
    wait_until(lambda: not ping(yard.one, TWO, wait=1), "the policy is in force")
    yield
    policies.delete(saved)
    wait_until(lambda: ping(yard.one, TWO, wait=1), "nothing is denied any more")


def test_what_passes_while_the_policies_are_flushed_ends_with_their_return(lan: Lan, yard: Yard, shut: None) -> None:
    """In the host's namespace a flush takes the policies with the rest, until the agent has heard of it. How much
    passes is printed; also what began meanwhile must end."""
    with yard.two.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as hearing:
        hearing.bind((TWO, PORT))
        hearing.settimeout(SILENCE)
        with stream(yard.one, TWO) as sent:
            with pytest.raises(TimeoutError):
                hearing.recv(64)
            flushed, before = time.monotonic(), sent[0]
            lan.a.namespace.run("nft", "flush", "ruleset")
            arrived = [*arrivals(hearing)]
            assert arrived, "else the flush took nothing, and nothing was tried"
            window, asked = arrived[-1] - flushed, sent[0] - before
            print(f"{len(arrived)} of {asked} datagrams passed, the last {1000 * window:.0f} ms after nft was started")
            with pytest.raises(TimeoutError):
                hearing.recv(64)
    assert not ping(yard.one, TWO, wait=1)


def arrivals(hearing: socket.socket) -> Iterator[float]:
    """When each came, until there is silence."""
    with contextlib.suppress(TimeoutError):
        while True:
            hearing.recv(64)
            yield time.monotonic()


@contextlib.contextmanager
def stream(guest: Guest, address: str) -> Iterator[list[int]]:
    """A datagram each 5 ms, of one connection; how many were sent so far."""
    sent, ended = [0], threading.Event()
    sending = guest.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send_on() -> None:
        while not ended.wait(0.005):
            sending.sendto(b"homeport", (address, PORT))
            sent[0] += 1

    thread = threading.Thread(target=send_on, daemon=True)
    with sending:
        thread.start()
        try:
            yield sent
        finally:
            ended.set()
            thread.join()
