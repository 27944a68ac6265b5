"""A port between its wiring and its opening is silent both ways, whatever carrier and br_netfilter do meanwhile."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport_netns_fixtures.capture import ARP, IPV4, IPV6, RARP, Capture, send
from homeport_netns_fixtures.cni import Answer
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.topology import Node

from .lan import Lan, body, frame, ping, wait_until


class PausedAdd:
    """An ADD of Network blue that stops when its port is wired and guarded, and not yet open."""

    def __init__(self, lan: Lan, node: Node) -> None:
        self.namespace = node.guest("muted")
        self._run_dir = node.run_dir
        self._answers: list[Answer] = []
        self._thread = threading.Thread(
            target=lambda: self._answers.append(lan.cni("ADD", node, "blue", "muted", self.namespace, IP="192.0.2.50"))
        )
        ports = set(lan.ports(node))
        self._thread.start()
        wait_until((self._run_dir / "fault-reached").exists, "the ADD is at its pause")
        (self.port,) = set(lan.ports(node)) - ports
        self.mac = self.namespace.mac("eth0")

    def resume(self) -> Answer:
        (self._run_dir / "fault-continue").touch()
        self._thread.join(60)
        return self._answers[0]


@pytest.fixture
def faulty(lan: Lan) -> Iterator[Node]:
    """Node b with an agent that pauses its first ADD; an ordinary one again afterwards."""
    lan.b.agent.kill()
    os.environ["HOMEPORT_FAULT"] = "add:admitted=pause"
    try:
        lan.b.agent.start()
    finally:
        del os.environ["HOMEPORT_FAULT"]
    lan.b.agent.wait_ready(120)
    yield lan.b
    lan.b.agent.stop()
    for name in ("fault-reached", "fault-continue"):
        Path(lan.b.run_dir / name).unlink(missing_ok=True)
    lan.b.agent.start()
    lan.b.agent.wait_ready(120)


def set_br_netfilter(namespaces: tuple[Namespace, ...], value: int) -> None:
    for namespace in namespaces:
        for tables in ("iptables", "ip6tables", "arptables"):
            namespace.set_sysctl(f"bridge/bridge-nf-call-{tables}", value)


def require_silence(lan: Lan, add: PausedAdd) -> None:
    """Frames of every kind, out and in; then one between others, which has passed everything that these would have."""
    neighbour, far = lan["blue3"], lan["blue1"]
    outward = [frame(kind, source=add.mac) for kind in (IPV4, IPV6, ARP, RARP, 0x88CC, 0x88B5)]
    outward += [frame(kind, source=add.mac, to=neighbour.mac) for kind in (IPV4, ARP)]
    outward += [frame(0x8100, IPV4, source=add.mac, tags=(vlan,)) for vlan in (0, 100, 200)]
    inward = [frame(RARP, source=far.mac, to=to) for to in ("ff:ff:ff:ff:ff:ff", add.mac)]
    muted_before = lan.drops(lan.b)["muted"]
    with (
        lan.wires() as wires,
        Capture(neighbour.namespace, "eth0") as beside,
        Capture(add.namespace, "eth0") as inside,
    ):
        for data in outward:
            send(add.namespace, "eth0", data)
        for data in inward:
            send(far.namespace, "eth0", data)
        control = frame(RARP, source=far.mac)
        send(far.namespace, "eth0", control)
        beside.wait(lambda each: body(each.data) == body(control))
        back = frame(RARP, source=neighbour.mac)
        send(neighbour.namespace, "eth0", back)
        wires.wait_sent(lan.b, back)
        wait_until(lambda: lan.drops(lan.b)["muted"] >= muted_before + len(outward), "what it sent is counted")
        sent = {body(data) for data in outward}
        assert not sent & {body(each.data) for each in wires.sent(lan.b)}, "out"
        assert not sent & {body(each.data) for each in beside}, "to a neighbour"
        assert not inside.matching(lambda each: not each.outgoing), "in"
    assert lan.learned(lan.b, add.port) == set()


def test_a_muted_port_is_silent_until_it_opens(lan: Lan, faulty: Node) -> None:
    add = PausedAdd(lan, faulty)
    add.namespace.ip("address add 192.0.2.50/24 dev eth0", "link set eth0 up")
    wait_until(lambda: lan.forwards(faulty, add.port), "the muted port has a carrier")
    assert add.port not in lan.vlans(faulty)
    require_silence(lan, add)

    both = (faulty.namespace, faulty.switch)
    set_br_netfilter(both, 1)
    try:
        require_silence(lan, add)
    finally:
        set_br_netfilter(both, 0)

    add.namespace.ip("link set eth0 down")
    wait_until(lambda: not lan.forwards(faulty, add.port), "its carrier is gone")
    add.namespace.ip("link set eth0 up")
    wait_until(lambda: lan.forwards(faulty, add.port), "its carrier is back")
    faulty.switch.ip(f"link set {add.port} down", f"link set {add.port} up")
    wait_until(lambda: lan.forwards(faulty, add.port), "the port was down and up")
    require_silence(lan, add)

    answer = add.resume()
    assert answer.error == 0, answer.result
    for target in ("blue1", "blue3"):
        assert ping(lan[target], "192.0.2.50"), "open, it speaks"
    assert lan.cni("DEL", faulty, "blue", "muted", add.namespace).error == 0
    add.namespace.delete()
