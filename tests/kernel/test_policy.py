"""Policies in force, on one node and over two: real sockets, real changes, and a table that somebody takes away."""

import contextlib
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from homeport_api.node import TroubleReason
from homeport_netns_fixtures.capture import Capture, send
from homeport_store.objects import Objects

from .lan import Lan, ping, wait_until
from .policies import OTHER, PORT, Policies, allow, allowed, connect, denied, maps, of, policy, reaches, server


@pytest.fixture
def policies(lan: Lan) -> Iterator[Policies]:
    made = Policies(lan)
    yield made
    made.clear()


@pytest.mark.parametrize("version", [4, 6])
def test_one_may_reach_a_port_and_others_may_not(lan: Lan, policies: Policies, version: int) -> None:
    server_guest, near, far = lan["blue2"], lan["blue1"], lan["blue3"]
    with server(server_guest, version=version), server(server_guest, OTHER, version=version):
        assert reaches(near, server_guest, version=version)
        assert reaches(far, server_guest, version=version)
        policies.put(policy("db", allow("blue2", "blue1", port=PORT)), server_guest)
        before = denied(lan.a)
        assert reaches(near, server_guest, version=version), "allowed on one node"
        assert not reaches(near, server_guest, OTHER, version=version), "another port"
        assert not reaches(far, server_guest, version=version), "another guest, from another node"
        assert denied(lan.a) > before
        policies.put(policy("db", allow("blue2", "blue3", port=PORT)), server_guest)
        assert reaches(far, server_guest, version=version), "allowed over two nodes"
        assert not reaches(near, server_guest, version=version)
    with server(near, version=version), server(far, version=version):
        assert reaches(server_guest, near, version=version), "nothing isolates its egress, and replies pass"
        assert reaches(server_guest, far, version=version)


def test_egress_is_judged_where_the_sender_is(lan: Lan, policies: Policies) -> None:
    sender, near, far = lan["blue1"], lan["blue2"], lan["blue3"]
    spec = {
        "podSelector": of("blue1"),
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": of("blue3")}], "ports": [{"port": PORT, "protocol": "TCP"}]}],
    }
    policies.put(policy("out", spec), sender)
    with server(near), server(far), server(far, OTHER):
        assert reaches(sender, far)
        assert not reaches(sender, far, OTHER)
        assert not reaches(sender, near)
    assert not ping(sender, far.address, wait=1), "ICMP has no ports, so no rule with ports allows it"
    with server(sender):
        assert reaches(near, sender), "its ingress is not isolated, and its replies pass"


@pytest.mark.parametrize("version", [4, 6])
def test_two_vlans_with_the_same_addresses_keep_apart(lan: Lan, policies: Policies, version: int) -> None:
    """blue1 and green1 have one address, blue2 and green2 another; the blue ones are on one node, the green ones on
    two. What one pair may the other may not."""
    blue1, blue2, green1, green2 = lan["blue1"], lan["blue2"], lan["green1"], lan["green2"]
    assert (blue1.address, blue1.address6) == (green1.address, green1.address6)
    assert (blue2.address, blue2.address6) == (green2.address, green2.address6)
    target = blue2.address if version == 4 else blue2.address6
    with server(blue2, version=version), server(green2, version=version):
        policies.put(policy("blue", allow("blue2"), network="blue"), blue2)
        policies.put(policy("green", allow("green2", "green1", port=PORT), network="green"), green2)
        opened = connect(green1, target)
        assert opened is not None
        with opened:
            assert not reaches(blue1, blue2, version=version), "the same numbers, established in the other VLAN"
        policies.put(policy("blue", allow("blue2", "blue1", port=PORT), network="blue"), blue2)
        policies.put(policy("green", allow("green2"), network="green"), green2)
        opened = connect(blue1, target)
        assert opened is not None
        with opened:
            assert not reaches(green1, green2, version=version)


def test_a_flow_that_is_allowed_no_longer_ends(lan: Lan, policies: Policies) -> None:
    client, host = lan["blue1"], lan["blue2"]
    with server(host) as listening:
        policies.put(policy("db", allow("blue2", "blue1", port=PORT)), host)
        opened = connect(client, host.address)
        assert opened is not None
        with opened, listening.accept()[0] as accepted:
            assert _passes(opened, accepted)
            assert _passes(accepted, opened)
            policies.put(policy("db", allow("blue2")), host)
            wait_until(lambda: not maps_judged(lan), "the flows have been looked through")
            assert not _passes(opened, accepted), "in the direction in which it was opened"
            assert not _passes(accepted, opened), "nor in the other"
            policies.put(policy("db", allow("blue2", "blue1", port=PORT)), host)
            assert reaches(client, host), "a new one may"


def test_a_flow_that_stays_allowed_is_not_disturbed(lan: Lan, policies: Policies) -> None:
    client, host = lan["blue1"], lan["blue2"]
    with server(host) as listening:
        policies.put(policy("db", allow("blue2", "blue1", port=PORT)), host)
        opened = connect(client, host.address)
        assert opened is not None
        with opened, listening.accept()[0] as accepted, lan.steady_ping("blue1", "blue3") as steady:
            for peers in (("blue1", "blue3"), ("blue1",), ("blue1", "office1"), ("blue1", "blue3")):
                policies.put(policy("db", allow("blue2", *peers, port=PORT)))
                assert _passes(opened, accepted)
                assert _passes(accepted, opened)
                time.sleep(0.2)
        assert steady.lost == 0


@contextlib.contextmanager
def isolated(lan: Lan, policies: Policies) -> Iterator[None]:
    """blue2 can be reached by blue1 alone, before and after."""
    with server(lan["blue2"]):
        policies.put(policy("db", allow("blue2", "blue1", port=PORT)), lan["blue2"])
        assert reaches(lan["blue1"], lan["blue2"])
        assert not reaches(lan["blue3"], lan["blue2"])
        yield
        assert reaches(lan["blue1"], lan["blue2"])
        assert not reaches(lan["blue3"], lan["blue2"])


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param("flush ruleset", id="flush ruleset"),
        pytest.param("delete table bridge homeport", id="delete table"),
        pytest.param("flush chain bridge homeport {chain}", id="a chain's rules"),
        pytest.param('delete element bridge homeport ingress {{ "{port}" }}', id="a port's lead"),
        pytest.param("flush chain bridge homeport forward", id="the base's rules"),
    ],
)
def test_what_is_taken_away_by_hand_comes_back(lan: Lan, policies: Policies, harm: str) -> None:
    with isolated(lan, policies):
        port = lan["blue2"].port
        before = maps(lan.a)
        lan.a.switch.nft(harm.format(chain=before["ingress"][port], port=port))
        wait_until(lambda: maps(lan.a) == before, "the policies are back")
        wait_until(lambda: ping(lan["green1"], lan["green2"].address), "the ports speak again")


def test_what_began_while_a_base_rule_was_missing_ends_with_it(lan: Lan, policies: Policies) -> None:
    """The policies' own rules were there all the while; what leads to them was not."""
    may, may_not, host = lan["blue1"], lan["blue3"], lan["blue2"]
    with server(host) as listening:
        policies.put(policy("db", allow("blue2", "blue1", port=PORT)), host)
        assert not reaches(may_not, host)
        lan.a.agent.pause()
        try:
            listed = lan.a.switch.run("nft", "-a", "list", "chain", "bridge", "homeport", "deliver").stdout
            (handle,) = [line.split()[-1] for line in listed.splitlines() if "vmap @ingress" in line]
            lan.a.switch.nft(f"delete rule bridge homeport deliver handle {handle}\n")
            forbidden = connect(may_not, host.address)
            assert forbidden is not None
            first = listening.accept()[0]
            free = connect(may, host.address)
            assert free is not None
            second = listening.accept()[0]
        finally:
            lan.a.agent.resume()
        with forbidden, free, first, second:
            wait_until(lambda: not (_passes(forbidden, first) or _passes(first, forbidden)), "it has ended")
            assert _passes(free, second), "what is allowed goes on"
            assert _passes(second, free)


def test_what_the_kernel_refuses_is_said_of_the_policy_and_changes_nothing(lan: Lan, policies: Policies) -> None:
    """Somebody's own chain leads to one of ours, which then cannot go: what was in force stays, until they let go."""

    def refused() -> set[str]:
        (report,) = [each for each in Objects(lan.store).policy_reports() if each.node == lan.a.name]
        return {each.name for each in report.troubles if each.reason is TroubleReason.REFUSED}

    near, far, db = lan["blue1"], lan["blue3"], lan["blue2"]
    with server(db):
        policies.put(policy("db", allow("blue2", "blue1", port=PORT)), db)
        assert reaches(near, db)
        wait_until(lambda: refused() == set(), "nothing is wrong")
        before = maps(lan.a)
        chain = before["ingress"][db.port]
        lan.a.switch.nft(f"add chain bridge homeport foreign; add rule bridge homeport foreign goto {chain}")
        policies.put(policy("db", allow("blue2", "blue3", port=PORT)))
        wait_until(lambda: refused() == {"db"}, "the node says so")
        assert maps(lan.a) == before
        assert reaches(near, db), "the last good state stays"
        assert not reaches(far, db)
        lan.a.switch.nft("flush chain bridge homeport foreign; delete chain bridge homeport foreign")
        wait_until(lambda: refused() == set(), "it was tried again")
        assert reaches(far, db)
        assert not reaches(near, db)


def test_policies_hold_over_the_agents_death(lan: Lan, policies: Policies) -> None:
    with isolated(lan, policies):
        lan.a.agent.kill()
        assert reaches(lan["blue1"], lan["blue2"])
        assert not reaches(lan["blue3"], lan["blue2"])
        policies.put(policy("while-away", allow("blue2", "blue1", port=OTHER)))
        lan.a.agent.start()
        lan.a.agent.wait_ready(120)


def test_nobody_is_his_own_answer(lan: Lan, policies: Policies) -> None:
    """A guest begins a connection under an address of an isolated one, which both may send from, and then sends what
    would be the reply to it."""
    victim, attacker, partner = lan["blue2"], lan["blue1"], lan["blue3"]
    policies.put(policy("shut", allow("blue2")), victim)
    mine, theirs = "fe80::b0b", "fe80::a:11ce"
    first = udp6(attacker.mac, partner.mac, theirs, mine, 9, 5000)
    answer = udp6(attacker.mac, victim.mac, mine, theirs, 5000, 9)
    back = udp6(attacker.mac, partner.mac, mine, theirs, 5000, 9)
    with (
        allowed(lan, attacker, mine, theirs),
        Capture(partner.namespace, "eth0") as outside,
        Capture(victim.namespace, "eth0") as inside,
    ):
        send(attacker.namespace, "eth0", first)
        outside.wait(lambda frame: frame.data == first)
        before = denied(lan.a)
        send(attacker.namespace, "eth0", answer)
        send(attacker.namespace, "eth0", back)
        outside.wait(lambda frame: frame.data == back)
        wait_until(lambda: denied(lan.a) > before, "the false answer was denied")
        assert not inside.matching(lambda frame: frame.data == answer)


def udp6(source_mac: str, target_mac: str, source: str, target: str, source_port: int, target_port: int) -> bytes:
    """A datagram with its checksum (RFC 8200 §8.1)."""
    ends = ip_address(source).packed + ip_address(target).packed
    data = source_port.to_bytes(2) + target_port.to_bytes(2) + (16).to_bytes(2) + bytes(2) + b"homeport"
    words = ends + (16).to_bytes(4) + (17).to_bytes(4) + data
    total = sum(int.from_bytes(words[at : at + 2]) for at in range(0, len(words), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    data = data[:6] + (0xFFFF - total).to_bytes(2) + data[8:]
    header = (6 << 28).to_bytes(4) + len(data).to_bytes(2) + bytes([17, 64]) + ends
    return bytes.fromhex((target_mac + source_mac).replace(":", "")) + b"\x86\xdd" + header + data


def maps_judged(lan: Lan) -> str:
    return lan.a.switch.run("nft", "list", "set", "bridge", "homeport", "judged").stdout.partition("elements")[2]


def _passes(sender: socket.socket, receiver: socket.socket) -> bool:
    sender.send(b"x" * 100)
    receiver.settimeout(1.5)
    try:
        return len(receiver.recv(100, socket.MSG_WAITALL)) == 100
    except TimeoutError:
        return False
