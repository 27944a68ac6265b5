"""Denied packets as lines of the log."""

import pytest

from homeport_agent.droplog import denial_of
from homeport_api.interface import InterfaceKey
from homeport_api.networkpolicy import Direction, PolicyKey, PolicyKind
from homeport_dataplane.nflog import Logged
from homeport_policy.chains import LOG_GROUP
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


# From 10.0.0.1 port 40000 to 10.0.0.2 port 5432, and an echo request from 2001:db8::1 to 2001:db8::2.
TCP = bytes.fromhex("4500002800000000400600000a0000010a0000029c4015380000000000000000500200000000 0000")
ICMP6 = bytes.fromhex(
    "6000000000083a4020010db800000000000000000000000120010db80000000000000000000000028000000000000000"
)


def logged(prefix: str, payload: bytes) -> Logged:
    return Logged(LOG_GROUP, prefix, 7, 8, 0x86DD if payload[:1] == b"\x60" else 0x0800, payload)


@pytest.mark.parametrize(
    ("prefix", "packet", "line"),
    [
        pytest.param(
            "in_1",
            TCP,
            "denied vm=shop/db interface=shop/db-eth0 direction=ingress from=10.0.0.1 to=10.0.0.2 proto=tcp port=5432 "
            "by=shop/allow-web,shop/deny",
            id="at the receiver's port",
        ),
        pytest.param(
            "out_2",
            ICMP6,
            "denied vm=- interface=shop/web-eth0 direction=egress from=2001:db8::1 to=2001:db8::2 proto=icmpv6 port=- "
            "by=-",
            id="at the sender's, a trunk's, whose VM is not known",
        ),
        pytest.param(
            "in_1",
            b"",
            "denied vm=shop/db interface=shop/db-eth0 direction=ingress from=- to=- proto=- port=- "
            "by=shop/allow-web,shop/deny",
            id="cut off",
        ),
    ],
)
def test_a_line_says_who_and_why(prefix: str, packet: bytes, line: str) -> None:
    there = {7: WEB, 8: DB}
    workloads = {DB: WorkloadKey("shop", "db")}
    assert str(denial_of(PROGRAM, logged(prefix, packet), there.get, workloads.get)) == line


def test_what_is_of_an_old_program_or_of_no_port_is_not_guessed() -> None:
    assert denial_of(PROGRAM, logged("in_old", TCP), {}.get, {}.get) is None
    gone = denial_of(PROGRAM, logged("in_1", TCP), {}.get, {}.get)
    assert gone is not None and str(gone).startswith("denied vm=- interface=- direction=ingress from=10.0.0.1")
