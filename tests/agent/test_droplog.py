"""Denied packets as lines of the log."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from homeport_agent.droplog import denial_of
from homeport_api.addresses import IpAddress
from homeport_api.interface import InterfaceKey
from homeport_api.networkpolicy import Direction, PolicyKey, PolicyKind
from homeport_policy.program import Counted, Program
from homeport_policy.snapshot import WorkloadKey

KEYS = tuple(PolicyKey("shop", PolicyKind.NETWORK_POLICY, name) for name in ("allow-web", "deny"))
PROGRAM = Program(
    counters={
        "in_1_denied": Counted(Direction.INGRESS, denied_by=KEYS),
        "out_2_denied": Counted(Direction.EGRESS),
        "p_3_0": Counted(Direction.INGRESS, KEYS[0], 0),
    }
)
WEB, DB = InterfaceKey("shop", "web-eth0"), InterfaceKey("shop", "db-eth0")


@dataclass(frozen=True)
class Packet:
    source: IpAddress
    target: IpAddress
    protocol: int
    target_port: int | None = None


@dataclass(frozen=True)
class Copied:
    prefix: str
    in_index: int | None
    out_index: int | None
    packet: Packet | None

    def seen(self) -> Packet | None:
        return self.packet


def tcp() -> Packet:
    return Packet(ip_address("10.0.0.1"), ip_address("10.0.0.2"), 6, 5432)


def icmp() -> Packet:
    return Packet(ip_address("2001:db8::1"), ip_address("2001:db8::2"), 58)


@pytest.mark.parametrize(
    ("prefix", "packet", "line"),
    [
        pytest.param(
            "in_1",
            tcp,
            "denied vm=shop/db interface=shop/db-eth0 direction=ingress from=10.0.0.1 to=10.0.0.2 proto=tcp port=5432 "
            "by=shop/allow-web,shop/deny",
            id="at the receiver's port",
        ),
        pytest.param(
            "out_2",
            icmp,
            "denied vm=- interface=shop/web-eth0 direction=egress from=2001:db8::1 to=2001:db8::2 proto=icmpv6 port=- "
            "by=-",
            id="at the sender's, a trunk's, whose VM is not known",
        ),
        pytest.param(
            "in_1",
            lambda: None,
            "denied vm=shop/db interface=shop/db-eth0 direction=ingress from=- to=- proto=- port=- "
            "by=shop/allow-web,shop/deny",
            id="cut off",
        ),
    ],
)
def test_a_line_says_who_and_why(prefix: str, packet: Callable[[], Packet | None], line: str) -> None:
    there = {7: WEB, 8: DB}
    workloads = {DB: WorkloadKey("shop", "db")}
    assert str(denial_of(PROGRAM, Copied(prefix, 7, 8, packet()), there.get, workloads.get)) == line


def test_what_is_of_an_old_program_or_of_no_port_is_not_guessed() -> None:
    assert denial_of(PROGRAM, Copied("in_old", 7, 8, tcp()), {}.get, {}.get) is None
    gone = denial_of(PROGRAM, Copied("in_1", 7, 8, tcp()), {}.get, {}.get)
    assert gone is not None and str(gone).startswith("denied vm=- interface=- direction=ingress from=10.0.0.1")
