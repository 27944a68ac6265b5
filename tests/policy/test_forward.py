"""Connections as the base judges them: a reply is one if it goes to the port that began it."""

from dataclasses import replace

import pytest

from homeport_api.networkpolicy import Direction
from homeport_policy import forward, guards
from homeport_policy.chains import port_chain
from homeport_policy.guards import GuardedPort, mark_of
from homeport_policy.program import Program
from homeport_policy.ruleset import L4, CtState, EtherType, Verdict, element
from homeport_policy.simulate import Frame, judge, load

ISOLATED, OTHER, UPLINK = "hp1", "hp2", "hpu-eth1"
BASE = guards.base(tracking=True)
PORTS = [GuardedPort(name, guards.MacAddress(f"02:00:00:00:00:0{at}")) for at, name in enumerate((ISOLATED, OTHER), 1)]
LEADS = {direction: port_chain(direction, ())[0] for direction in Direction}
PROGRAM = Program(
    {chain.name: chain for chain in LEADS.values()},
    egress={ISOLATED: LEADS[Direction.EGRESS].name},
    ingress={ISOLATED: LEADS[Direction.INGRESS].name},
)
FIRST = Frame(OTHER, ISOLATED, EtherType.IPV4, protocol=L4.TCP, source_port=40000, target_port=80)


def passes(frame: Frame, *judged: str) -> bool:
    elements = {*guards.desired([UPLINK], [(port, True) for port in PORTS], tracking=True)}
    elements |= {element(forward.JUDGED, port) for port in judged}
    return judge(load(BASE, PROGRAM, elements), "forward", frame).verdict is Verdict.ACCEPT


def known(into: str, out: str, *, begun_by: str, reply: bool) -> Frame:
    """A packet of a connection that a port began, or (the uplink's name) something outside."""
    mark = 0 if begun_by == UPLINK else mark_of(begun_by)
    return replace(FIRST, into=into, out=out, state=CtState.ESTABLISHED, reply=reply, mark=mark, opens=False)


def test_a_new_connection_is_that_of_the_port_it_comes_from() -> None:
    elements = guards.desired([UPLINK], [(port, True) for port in PORTS], tracking=True)
    loaded = load(BASE, PROGRAM, elements)
    assert judge(loaded, "forward", FIRST).mark == mark_of(OTHER)
    assert judge(loaded, "forward", replace(FIRST, into=UPLINK)).mark is None


@pytest.mark.parametrize(
    ("frame", "allowed"),
    [
        pytest.param(FIRST, False, id="a new one to an isolated guest"),
        pytest.param(known(OTHER, ISOLATED, begun_by=ISOLATED, reply=True), True, id="a reply to what it began"),
        pytest.param(known(UPLINK, ISOLATED, begun_by=ISOLATED, reply=True), True, id="a reply from outside"),
        pytest.param(known(ISOLATED, UPLINK, begun_by=UPLINK, reply=True), True, id="its reply to outside"),
        pytest.param(known(ISOLATED, OTHER, begun_by=OTHER, reply=True), True, id="its reply to a guest"),
        pytest.param(known(OTHER, ISOLATED, begun_by=OTHER, reply=False), True, id="the next of what the other began"),
        # The other guest began it under a false address, and now answers itself.
        pytest.param(known(OTHER, ISOLATED, begun_by=OTHER, reply=True), False, id="a reply to somebody else"),
        pytest.param(known(UPLINK, ISOLATED, begun_by=UPLINK, reply=True), False, id="the same from outside"),
        # Somebody else began it, and the isolated guest sends under that address.
        pytest.param(known(ISOLATED, UPLINK, begun_by=OTHER, reply=False), False, id="the next of another's"),
        pytest.param(known(ISOLATED, OTHER, begun_by=UPLINK, reply=False), False, id="the next of one from outside"),
    ],
)
def test_established_is_by_who_began_it(frame: Frame, allowed: bool) -> None:
    assert passes(frame) == allowed


def test_while_it_is_judged_anew_only_replies_pass_by_themselves() -> None:
    assert not passes(known(OTHER, ISOLATED, begun_by=OTHER, reply=False), ISOLATED)
    assert passes(known(OTHER, ISOLATED, begun_by=ISOLATED, reply=True), ISOLATED)


@pytest.mark.parametrize(
    ("protocol", "opens", "counter"),
    [
        pytest.param(L4.TCP, True, "denied", id="SYN"),
        pytest.param(L4.TCP, False, "no_syn", id="the middle of a TCP connection"),
        pytest.param(L4.SCTP, True, "denied", id="INIT"),
        pytest.param(L4.SCTP, False, "no_init", id="HEARTBEAT"),
        pytest.param(L4.UDP, False, "denied", id="a datagram"),
    ],
)
@pytest.mark.parametrize("ends", [(OTHER, ISOLATED), (ISOLATED, OTHER), (UPLINK, ISOLATED), (ISOLATED, UPLINK)])
def test_what_opens_no_connection_begins_none_with_an_isolated_guest(
    protocol: L4, opens: bool, counter: str, ends: tuple[str, str]
) -> None:
    """It is judged by no policy: the next of it, the other way round, would be the reply to it."""
    loaded = load(BASE, PROGRAM, guards.desired([UPLINK], [(port, True) for port in PORTS], tracking=True))
    frame = replace(FIRST, into=ends[0], out=ends[1], protocol=protocol, opens=opens)
    judged = judge(loaded, "forward", frame)
    assert judged.verdict is Verdict.DROP
    assert judged.counted[-1].endswith(counter)
    assert judge(loaded, "forward", replace(frame, into=OTHER, out=UPLINK)).verdict is Verdict.ACCEPT
