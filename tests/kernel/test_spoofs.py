"""What guests may not send never gets out: not to the wire, not to another guest; it is counted, and nothing learned.

Each case sends its frame and then one that may pass, from the same guest out of the same link. When that one is on the
wire, the one before it would have been.
"""

import contextlib
from collections import Counter

import pytest

from homeport_netns_fixtures.capture import IPV4, RARP, Capture, send

from .lan import Lan, body, frame, wait_until

VLAN, SERVICE, LLDP, UNKNOWN, LENGTH = 0x8100, 0x88A8, 0x88CC, 0x88B5, 0x0026
OTHER = "02:00:5e:10:00:99"
BPDU, LACP, LLDP_TO, GVRP = (f"01:80:c2:00:00:{last}" for last in ("00", "02", "0e", "0d"))

# (what, drop counter, frame); from an access port of VLAN 100, and the same from the untagged network.
ACCESS = [
    ("tag of another VLAN", "tagged", ((VLAN, IPV4), (200,), {})),
    ("tag of its own VLAN", "tagged", ((VLAN, IPV4), (100,), {})),
    ("priority tag", "tagged", ((VLAN, IPV4), (0,), {})),
    ("own VLAN around another", "tagged", ((VLAN, VLAN, IPV4), (100, 200), {})),
    ("priority tag around another", "tagged", ((VLAN, VLAN, IPV4), (0, 200), {})),
    ("internal VLAN around another", "tagged", ((VLAN, VLAN, IPV4), (4094, 200), {})),
    ("service tag", "tagged", ((SERVICE, IPV4), (200,), {})),
    ("service tag around a tag", "tagged", ((SERVICE, VLAN, IPV4), (200, 100), {})),
    ("tag around a service tag", "tagged", ((VLAN, SERVICE, IPV4), (100, 200), {})),
]
TRUNK = [
    ("tag of its native VLAN", "tagged", ((VLAN, IPV4), (10,), {})),
    ("priority tag", "tagged", ((VLAN, IPV4), (0,), {})),
    ("two tags", "tagged", ((VLAN, VLAN, IPV4), (100, 200), {})),
    ("native VLAN around another", "tagged", ((VLAN, VLAN, IPV4), (10, 200), {})),
    ("priority tag around another", "tagged", ((VLAN, VLAN, IPV4), (0, 200), {})),
    ("service tag", "tagged", ((SERVICE, IPV4), (200,), {})),
    ("service tag around a tag", "tagged", ((SERVICE, VLAN, IPV4), (200, 100), {})),
    ("tag around a service tag", "tagged", ((VLAN, SERVICE, IPV4), (100, 200), {})),
]
EVERYBODY = [
    ("BPDU", "link_local", ((LENGTH,), (), {"to": BPDU})),
    ("LACP", "link_local", ((0x8809,), (), {"to": LACP})),
    ("GVRP", "link_local", ((0x88F5,), (), {"to": GVRP})),
    ("LLDP to the nearest bridge", "by the kernel", ((LLDP,), (), {"to": LLDP_TO})),
    ("LLDP to everybody", "ethertype", ((LLDP,), (), {})),
    ("unknown ethertype", "ethertype", ((UNKNOWN,), (), {})),
    ("RARP of another MAC", "foreign_mac", ((RARP,), (), {"source": OTHER})),
    ("BPDU of another MAC", "link_local", ((LENGTH,), (), {"to": BPDU, "source": OTHER})),
]
TAGGED = [("unknown ethertype in a tag", "ethertype", ((VLAN, UNKNOWN), (200,), {}))]

VLAN_OF = {"blue": 100, "office": 4094, "trunk": 10}


@pytest.mark.parametrize(
    ("sender", "spoofs"),
    [
        pytest.param("blue1", ACCESS + EVERYBODY, id="access"),
        pytest.param("office1", ACCESS + EVERYBODY, id="untagged"),
        pytest.param("trunk1", TRUNK + TAGGED + EVERYBODY, id="trunk"),
    ],
)
def test_spoofed_frames_do_not_get_out(
    lan: Lan, sender: str, spoofs: list[tuple[str, str, tuple[tuple[int, ...], tuple[int, ...], dict[str, str]]]]
) -> None:
    guest = lan[sender]
    with contextlib.ExitStack() as stack, lan.wires() as wires:
        others = {
            name: stack.enter_context(Capture(each.namespace, "eth0"))
            for name, each in lan.guests.items()
            if name != sender
        }
        before = lan.drops(guest.node)
        sent: dict[str, bytes] = {}
        for what, _, (types, tags, extra) in spoofs:
            sent[what] = frame(*types, tags=tags, **({"source": guest.mac} | extra))
            send(guest.namespace, "eth0", sent[what])
        control = frame(RARP, source=guest.mac)
        send(guest.namespace, "eth0", control)
        wires.wait_sent(guest.node, control)

        expected = Counter(counter for _, counter, _ in spoofs)
        # Kernels take LLDP out before any rule sees it, or not.
        kernels = Counter(link_local=expected.pop("by the kernel"))
        wait_until(lambda: _grown(before, lan.drops(guest.node)) >= expected, f"every spoof of {sender} is counted")
        out = {body(each.data) for node in (lan.a, lan.b) for each in wires.sent(node)}
        heard = {name: {body(each.data) for each in capture if not each.outgoing} for name, capture in others.items()}
        leaked = [what for what, data in sent.items() if body(data) in out]
        assert leaked == [], f"on the wire: {leaked}"
        for name, bodies in heard.items():
            assert not bodies & {body(data) for data in sent.values()}, f"{name} heard a spoof"
        own = {(guest.mac, vlan) for vlan, *_ in lan.vlans(guest.node)[guest.port]}
        assert (guest.mac, VLAN_OF[guest.network]) in lan.learned(guest.node, guest.port) <= own, "a spoof was learned"
        assert expected <= _grown(before, lan.drops(guest.node)) <= expected + kernels, "each once"


def _grown(before: dict[str, int], after: dict[str, int]) -> Counter[str]:
    """Frames for the bridge's own ears (LLDP, LACP) are dropped on their way up, the others of that group before."""
    grown = Counter({name: count - before.get(name, 0) for name, count in after.items()})
    grown["link_local"] += grown.pop("to_bridge", 0)
    return +grown


def test_a_trunk_may_send_the_tags_of_its_own_vlans_and_no_others(lan: Lan) -> None:
    guest = lan["trunk1"]
    with lan.wires() as wires:
        foreign = frame(VLAN, RARP, source=guest.mac, tags=(203,))
        internal = frame(VLAN, RARP, source=guest.mac, tags=(4094,))
        default = frame(VLAN, RARP, source=guest.mac, tags=(1,))
        for data in (foreign, internal, default):
            send(guest.namespace, "eth0", data)
        for vlan in (100, 200, 201, 202):
            data = frame(VLAN, RARP, source=guest.mac, tags=(vlan,))
            send(guest.namespace, "eth0", data)
            assert wires.wait_sent(guest.node, data).tags == ((VLAN, vlan),)
        out = {body(each.data) for each in wires.sent(guest.node)}
        assert not out & {body(foreign), body(internal), body(default)}
