"""Packets in fragments: whole where they may pass, and judged as one; whatever br_netfilter is set to."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from homeport_netns_fixtures.capture import Capture
from homeport_netns_fixtures.netns import Namespace

from .lan import Guest, Lan, wait_until
from .policies import OTHER, PORT, Policies, denied, of, policy

SIZE = 6000
VERSIONS = (4, 6)


@dataclass(frozen=True, slots=True)
class Way:
    """Over which ports of the switch: `device` is what the sender sends on."""

    what: str
    sender: str
    device: str
    receiver: str


WAYS = (
    Way("access to access", "blue1", "eth0", "blue2"),
    Way("access to uplink, uplink to access", "blue1", "eth0", "blue3"),
    Way("untagged uplink", "office1", "eth0", "office2"),
    Way("trunk to access", "trunk1", "eth0.100", "blue2"),
    Way("trunk to uplink, uplink to access", "trunk1", "eth0.100", "blue3"),
    Way("native VLAN of trunks, over the uplinks", "trunk1", "eth0", "trunk2"),
)
RECEIVERS = ("blue2", "blue3", "office2", "trunk2")
SPEC = {
    "podSelector": of(*RECEIVERS),
    "policyTypes": ["Ingress"],
    "ingress": [{"ports": [{"port": PORT, "protocol": "UDP"}]}],
}
"""Each receiver is isolated: everybody may send to one port of it."""


@pytest.fixture
def policies(lan: Lan) -> Iterator[Policies]:
    made = Policies(lan)
    made.put(policy("one-port", SPEC), *(lan[name] for name in RECEIVERS))
    yield made
    made.clear()


@contextlib.contextmanager
def br_netfilter(*namespaces: Namespace) -> Iterator[None]:
    """On in these, as on a node of Kubernetes; off afterwards, as it was."""
    names = [f"bridge/bridge-nf-call-{tables}" for tables in ("iptables", "ip6tables")]
    for namespace in namespaces:
        for name in names:
            namespace.set_sysctl(name, 1)
    try:
        yield
    finally:
        for namespace in namespaces:
            for name in names:
                namespace.set_sysctl(name, 0)


class Post:
    """Datagrams from and to guests, all on their way at once."""

    def __init__(self, lan: Lan, stack: contextlib.ExitStack) -> None:
        self._lan = lan
        self._inboxes: dict[tuple[str, int, int], socket.socket] = {}
        self._got: dict[tuple[str, int, int], list[bytes]] = {}
        for name in RECEIVERS:
            for version in VERSIONS:
                for port in (PORT, OTHER):
                    inbox = stack.enter_context(_socket(lan[name], version))
                    if version == 6:
                        inbox.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    inbox.bind(("", port))
                    inbox.settimeout(0)
                    self._inboxes[name, version, port] = inbox

    def send(self, way: Way, version: int, port: int) -> bytes:
        """What is in it, which no other has."""
        data = os.urandom(8) * (SIZE // 8)
        receiver = self._lan[way.receiver]
        with _socket(self._lan[way.sender], version) as outbox:
            outbox.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, way.device.encode())
            # To a receiver that is not yet known it would lose fragments: neighbour discovery keeps three packets.
            outbox.sendto(b"first", (_address(receiver, version), PORT))
            wait_until(lambda: b"first" in self.inbox(way, version), f"{way.what}, IPv{version}")
            outbox.sendto(data, (_address(receiver, version), port))
        return data

    def inbox(self, way: Way, version: int, port: int = PORT) -> list[bytes]:
        """All that has come to the receiver."""
        key = way.receiver, version, port
        got = self._got.setdefault(key, [])
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(self._inboxes[key].recv(65536))
        return got


def _socket(guest: Guest, version: int) -> socket.socket:
    return guest.namespace.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)


def _address(guest: Guest, version: int) -> str:
    return guest.address if version == 4 else guest.address6


def passing(lan: Lan, ways: tuple[Way, ...] = WAYS, *, judged: bool = True) -> set[tuple[str, int]]:
    """The ways and versions where a big datagram to the allowed port arrives whole; what goes to another never does.
    `judged`: it comes as far as to be denied, once for each packet and not for each fragment."""
    with contextlib.ExitStack() as stack:
        post = Post(lan, stack)
        seen = {name: stack.enter_context(Capture(lan[name].namespace, "eth0")) for name in RECEIVERS}
        every = [(way, version) for way in ways for version in VERSIONS]
        before = denied(lan.a) + denied(lan.b)
        forbidden = {key: post.send(*key, OTHER) for key in every}
        allowed = {key: post.send(*key, PORT) for key in every}
        if judged:
            wait_until(lambda: denied(lan.a) + denied(lan.b) >= before + len(every), "each forbidden one is denied")
        arrived: set[tuple[Way, int]] = set()

        def all_there() -> bool:
            arrived.update(key for key in every if allowed[key] in post.inbox(*key))
            return len(arrived) == len(every)

        with contextlib.suppress(AssertionError):
            wait_until(all_there, "all that are allowed arrive", within=5)
        for way, version in every:
            marker = forbidden[way, version][:8]
            assert not post.inbox(way, version, OTHER)
            assert not seen[way.receiver].matching(lambda each, marker=marker: marker in each.data), (way, version)
        print(f"{denied(lan.a) + denied(lan.b) - before} of {len(every)} denied")
        assert not judged or denied(lan.a) + denied(lan.b) == before + len(every)
        return {(way.what, version) for way, version in arrived}


EVERY = {(way.what, version) for way in WAYS for version in VERSIONS}


def test_big_datagrams_pass_where_they_may(lan: Lan, policies: Policies) -> None:
    assert passing(lan) == EVERY


def test_big_datagrams_pass_with_br_netfilter_on_the_node(lan: Lan, policies: Policies) -> None:
    with br_netfilter(lan.a.namespace, lan.b.namespace):
        assert passing(lan) == EVERY


def test_in_the_switch_br_netfilter_loses_what_gets_a_tag(lan: Lan, policies: Policies) -> None:
    """Which is why the agent keeps it off there. Forbidden ones do not arrive in any case."""
    with br_netfilter(lan.a.switch, lan.b.switch):
        got = passing(lan, judged=False)
        for what, version in sorted(EVERY):
            print(f"br_netfilter in the switch: {what}, IPv{version}: {'whole' if (what, version) in got else 'lost'}")
        untagged_to_tagged = {WAYS[1].what, WAYS[5].what}
        assert got == {(what, version) for what, version in EVERY if what not in untagged_to_tagged}
    assert passing(lan, WAYS[:2]) == {(way.what, version) for way in WAYS[:2] for version in VERSIONS}


def test_a_big_datagram_to_all_reaches_all_but_ipv4_from_outside(lan: Lan, policies: Policies) -> None:
    """The bridge makes copies of it, each of which has to be cut again. Of IPv4 macvlan has put together what comes to
    a group from outside, before the bridge has it (the kernel's macvlan_handle_frame), and that is too large then."""
    sender, data = lan["blue1"], os.urandom(8) * (SIZE // 8)
    with contextlib.ExitStack() as stack:
        post = Post(lan, stack)
        with _socket(sender, 4) as outbox:
            outbox.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            outbox.sendto(data, ("192.0.2.255", PORT))
        with _socket(sender, 6) as outbox:
            outbox.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            outbox.sendto(data, ("ff02::1", PORT))

        def got() -> dict[tuple[str, int], list[int]]:
            return {
                (way.receiver, version): [len(each) for each in post.inbox(way, version) if each == data]
                for way in WAYS[:2]
                for version in VERSIONS
            }

        wait_until(lambda: sum(map(len, got().values())) >= 3, "everybody else has it")
        time.sleep(1)
        once = {(way.receiver, version): [SIZE] for way in WAYS[:2] for version in VERSIONS}
        assert got() == once | {("blue3", 4): []}
