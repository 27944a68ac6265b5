"""ICMP errors: those about a flow that may be reach an isolated guest, from whoever tells them, and no others do."""

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from homeport_netns_fixtures.capture import Capture

from .lan import Guest, Lan, wait_until
from .packets import ICMP, ICMP6, UDP, ethernet, icmp, ip, udp
from .policies import OTHER, PORT, Policies, of, policy

SHUT = {
    "podSelector": of("blue1"),
    "policyTypes": ["Ingress", "Egress"],
    "egress": [
        {"to": [{"podSelector": of("blue2", "blue3")}], "ports": [{"port": PORT, "protocol": "UDP"}]},
    ],
}
"""blue1 may send datagrams to one port, and nobody may begin anything with it."""
MINIMUM = 1280
UNREACHABLE, TOO_BIG = "port unreachable", "too big"
# Type, code and the rest of the header, by version (RFC 792, RFC 1191, RFC 4443).
MESSAGES = {
    (UNREACHABLE, 4): (3, 3, bytes(4)),
    (UNREACHABLE, 6): (1, 4, bytes(4)),
    (TOO_BIG, 4): (3, 4, MINIMUM.to_bytes(4)),
    (TOO_BIG, 6): (2, 0, MINIMUM.to_bytes(4)),
}


@pytest.fixture
def policies(lan: Lan) -> Iterator[Policies]:
    made = Policies(lan)
    made.put(policy("shut", SHUT), lan["blue1"])
    yield made
    made.clear()


def address(guest: Guest, version: int) -> str:
    return guest.address if version == 4 else guest.address6


@contextlib.contextmanager
def flow(sender: Guest, receiver: Guest, version: int) -> Iterator[socket.socket]:
    """A connected socket of the sender, towards the allowed port, where nobody listens."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with sender.namespace.socket(family, socket.SOCK_DGRAM) as made:
        made.settimeout(10)
        made.connect((address(receiver, version), PORT))
        yield made


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("receiver", ["blue2", "blue3"])
def test_a_closed_port_is_told(lan: Lan, policies: Policies, receiver: str, version: int) -> None:
    """By the receiver's own kernel, on the same node and on another."""
    with flow(lan["blue1"], lan[receiver], version) as asking:
        asking.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            asking.recv(1)


@pytest.mark.parametrize("version", [4, 6])
def test_errors_about_a_flow_pass_and_others_do_not(lan: Lan, policies: Policies, version: int) -> None:
    """From the receiver, and from one on the way, with what they quote: the flow, or one that is not there."""
    isolated, partner, router = lan["blue1"], lan["blue2"], lan["blue3"]
    own, other = address(isolated, version), address(partner, version)
    protocol = ICMP if version == 4 else ICMP6
    with Capture(isolated.namespace, "eth0") as seen, flow(isolated, partner, version) as asking:
        # What is behind a datagram's eight bytes in the quotation is the error's own marker.
        asking.send(b"first")
        number = asking.getsockname()[1]
        sent: dict[tuple[str, str, str], bytes] = {}
        before = lan.drops(lan.a)["untracked"]
        for teller in (partner, router):
            with teller.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
                wire.bind(("eth0", 0))
                for (what, _), (kind, code, rest) in (each for each in MESSAGES.items() if each[0][1] == version):
                    for which, port in (("its flow", PORT), ("no flow", OTHER)):
                        marker = sent[teller.name, what, which] = os.urandom(8)
                        quoted = ip(own, other, UDP, udp(own, other, number, port, marker))
                        ends = address(teller, version), own
                        packet = ip(*ends, protocol, icmp(*ends, kind, code, rest, quoted))
                        wire.send(ethernet(isolated.mac, teller.mac, packet))
        wait_until(lambda: lan.drops(lan.a)["untracked"] >= before + 4, "errors about nothing are counted")

        def arrived() -> set[tuple[str, str, str]]:
            return {key for key, marker in sent.items() if any(marker in each.data for each in seen)}

        about = {key for key in sent if key[2] == "its flow"}
        wait_until(lambda: arrived() >= about, "errors about the flow arrive")
        assert len(about) == 4
        assert arrived() == about
        assert lan.drops(lan.a)["untracked"] == before + 4
