"""Who reaches whom over the two nodes and the switch, and with which tags on the wire."""

import contextlib

import pytest

from homeport_netns_fixtures.capture import RARP, Capture, send

from .lan import GUESTS, Guest, Lan, body, frame, ping

NAMES = [name for guests in GUESTS.values() for name in guests]
# A guest's own network as (Network, tag in the guest); who hears a broadcast of it, with the tag it has there.
BLUE = {"blue1": None, "blue2": None, "blue3": None, "trunk1": 100, "trunk2": 100}
GREEN = {"green1": None, "green2": None, "trunk1": 200, "trunk2": 200}
OFFICE = {"office1": None, "office2": None}
NATIVE = {"trunk1": None, "trunk2": None}
NOBODY = {"trunk1": 201, "trunk2": 201}


@pytest.mark.parametrize(
    ("source", "device", "targets"),
    [
        pytest.param("blue1", "eth0", ("blue2", "blue3"), id="blue in the node and between nodes"),
        pytest.param("green1", "eth0", ("green2",), id="green between nodes"),
        pytest.param("office1", "eth0", ("office2",), id="untagged between nodes"),
        pytest.param("trunk1", "eth0", ("trunk2",), id="native VLAN between nodes"),
        pytest.param("trunk1", "eth0.100", ("blue1", "blue3"), id="trunk to blue"),
        pytest.param("trunk1", "eth0.200", ("green1", "green2"), id="trunk to green"),
        pytest.param("trunk2", "eth0.100", ("blue1", "blue3"), id="the other trunk to blue"),
    ],
)
def test_guests_of_one_vlan_reach_each_other(lan: Lan, source: str, device: str, targets: tuple[str, ...]) -> None:
    for target in targets:
        assert ping(lan[source], lan[target].address, device=device), f"{source} to {target}"
        assert ping(lan[source], lan[target].address6, device=device), f"{source} to {target}, IPv6"


def test_the_same_addresses_are_on_two_vlans_at_once(lan: Lan) -> None:
    assert (lan["blue1"].address, lan["blue2"].address) == (lan["green1"].address, lan["green2"].address)
    for source, target in (("blue1", "blue2"), ("green1", "green2")):
        guest, other = lan[source], lan[target]
        guest.namespace.ip("neighbour flush dev eth0")
        assert ping(guest, other.address)
        (neighbour,) = [each for each in guest.namespace.show("neighbour") if each["dst"] == other.address]
        assert neighbour["lladdr"] == other.mac, f"{source} has found another {other.address}"


@pytest.mark.parametrize(
    ("source", "tag", "hearers", "on_the_wire"),
    [
        pytest.param("blue1", None, BLUE, 100, id="blue"),
        pytest.param("green2", None, GREEN, 200, id="green"),
        pytest.param("office1", None, OFFICE, None, id="untagged"),
        pytest.param("trunk1", None, NATIVE, 10, id="native VLAN"),
        pytest.param("trunk2", 100, BLUE, 100, id="trunk into blue"),
        pytest.param("trunk1", 200, GREEN, 200, id="trunk into green"),
        pytest.param("trunk1", 201, NOBODY, 201, id="trunk into a VLAN of trunks alone"),
    ],
)
def test_a_broadcast_is_heard_in_its_vlan_alone(
    lan: Lan, source: str, tag: int | None, hearers: dict[str, int | None], on_the_wire: int | None
) -> None:
    """At every other guest, and on the cables between, with exactly the tag it should have there."""
    sender = lan[source]
    types, tags = ((RARP,), ()) if tag is None else ((0x8100, RARP), (tag,))
    data = frame(*types, source=sender.mac, tags=tags)
    expected = {name: vlan for name, vlan in hearers.items() if name != source}
    with contextlib.ExitStack() as stack, lan.wires() as wires:
        seen = {name: stack.enter_context(Capture(lan[name].namespace, "eth0")) for name in NAMES if name != source}
        send(sender.namespace, "eth0", data)
        for name in expected:
            seen[name].wait(lambda each: body(each.data) == body(data))
        wires.wait_sent(sender.node, data)
        # What was sent last on every Network has passed: whatever the first one did, it has done.
        for name in ("blue2", "green1", "office2", "trunk2"):
            last = frame(RARP, source=lan[name].mac)
            send(lan[name].namespace, "eth0", last)
            wires.wait_sent(lan[name].node, last)
        heard = {
            name: [each.vlan for each in capture if not each.outgoing and body(each.data) == body(data)]
            for name, capture in seen.items()
        }
        assert {name: vlans for name, vlans in heard.items() if vlans} == {
            name: [vlan] for name, vlan in expected.items()
        }
        sent = [each.vlan for each in wires.sent(sender.node) if body(each.data) == body(data)]
        assert sent == [on_the_wire]


def test_the_wire_carries_the_vlans_of_the_networks_and_never_vlan_1(lan: Lan) -> None:
    """All that both nodes put on their cables while every guest talks: tags by sender, nothing else at all."""
    macs: dict[str, set[int | None]] = {
        lan[name].mac: {"blue": {100}, "green": {200}, "office": {None}, "trunk": {10, 100, 200}}[lan[name].network]
        for name in NAMES
    }
    with lan.wires() as wires:
        for source, device, target in (
            ("blue1", "eth0", "blue3"),
            ("green1", "eth0", "green2"),
            ("office1", "eth0", "office2"),
            ("trunk1", "eth0", "trunk2"),
            ("trunk1", "eth0.100", "blue3"),
            ("trunk1", "eth0.200", "green2"),
        ):
            lan[source].namespace.ip(f"neighbour flush dev {device}")
            assert ping(lan[source], lan[target].address, device=device)
        for node in (lan.a, lan.b):
            frames = wires.sent(node)
            assert len(frames) >= 12, "requests and answers of six pairs"
            wrong = [each for each in frames if len(each.tags) > 1 or each.vlan not in macs.get(each.source, set())]
            assert wrong == [], f"node {node.name}: {[(each.source, each.tags, hex(each.ethertype)) for each in wrong]}"
    for node in (lan.a, lan.b):
        assert all(vlan != 1 for vlans in lan.vlans(node).values() for vlan, *_ in vlans)


def test_ports_and_uplinks_have_exactly_the_vlans_of_their_networks(lan: Lan) -> None:
    access, tagged = (1, 1), (0, 0)
    trunk = {(10, *access), *((vlan, *tagged) for vlan in (100, 200, 201, 202))}
    uplink = {(4094, *access), *((vlan, *tagged) for vlan in (10, 100, 200, 201, 202))}
    wanted = {"blue": {(100, *access)}, "green": {(200, *access)}, "office": {(4094, *access)}, "trunk": trunk}

    def port(guest: Guest) -> set[tuple[int, ...]]:
        return wanted[guest.network]

    for node in (lan.a, lan.b):
        guests = [guest for guest in lan.guests.values() if guest.node is node]
        expected: dict[str, set[tuple[int, ...]]] = {guest.port: port(guest) for guest in guests}
        assert lan.vlans(node) == expected | {"hpu-bond0": uplink}
