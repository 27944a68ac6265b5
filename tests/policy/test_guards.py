"""The base table, judged rule by rule on frames as values. `tests/dataplane/test_guarded_frames.py` has real ones."""

from dataclasses import dataclass, replace
from typing import assert_never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.addresses import MacAddress
from homeport_policy import guards
from homeport_policy.guards import GuardedPort, Placement
from homeport_policy.ruleset import (
    Chain,
    Change,
    Element,
    EtherType,
    Hook,
    InSet,
    Key,
    LinkLocalDestination,
    Match,
    OuterTag,
    Protocol,
    Ruleset,
    Verdict,
)

ACCESS = GuardedPort("hp1", MacAddress("02:00:00:00:00:01"))
TRUNK = GuardedPort("hp2", MacAddress("02:00:00:00:00:02"), trunk=True)
LAX = GuardedPort("hp3", MacAddress("02:00:00:00:00:03"), anti_spoof=False)
UPLINK = "hpu-eth1"
ALL = guards.desired([UPLINK], [(ACCESS, True), (TRUNK, True), (LAX, True)])


@dataclass(frozen=True)
class Frame:
    """`tag` is the outer tag, as the kernel holds it apart; `carries` what follows it."""

    source: str = ACCESS.mac
    carries: int = EtherType.IPV4
    tag: int | None = None
    destination: str = "ff:ff:ff:ff:ff:ff"


def holds(match: Match, elements: frozenset[Element], frame: Frame, into: str, out: str) -> bool:
    match match:
        case InSet():
            element = {
                Key.IN_LINK: Element(match.set, into),
                Key.OUT_LINK: Element(match.set, out),
                Key.IN_LINK_AND_SOURCE: Element(match.set, into, frame.source),
            }[match.key]
            return (element in elements) == match.member
        case Protocol():
            return (frame.carries in match.types) == match.one_of
        case OuterTag():
            return (frame.tag or frame.carries) in match.types
        case LinkLocalDestination():
            return frame.destination.startswith("01:80:c2:00:00:0")
        case _ as never:
            assert_never(never)


def judge(chain: Chain, elements: frozenset[Element], frame: Frame, into: str, out: str) -> str | None:
    """The counter of the rule that drops the frame; None when it passes."""
    for rule in chain.rules:
        if all(holds(match, elements, frame, into, out) for match in rule.matches):
            return rule.counter if rule.verdict is Verdict.DROP else None
    return None


def crosses(table: Ruleset, elements: frozenset[Element], frame: Frame, into: str, out: str) -> str | None:
    """Through prerouting and forward."""
    chains = {chain.hook: chain for chain in table.chains}
    before = judge(chains[Hook.PREROUTING], elements, frame, into, out)
    return before or judge(chains[Hook.FORWARD], elements, frame, into, out)


FRAMES = [
    pytest.param(ACCESS, Frame(), None, id="IPv4"),
    pytest.param(ACCESS, Frame(carries=EtherType.IPV6), None, id="IPv6"),
    pytest.param(ACCESS, Frame(carries=EtherType.ARP), None, id="ARP"),
    pytest.param(ACCESS, Frame(carries=EtherType.RARP), None, id="RARP of its own MAC"),
    pytest.param(ACCESS, Frame(carries=EtherType.RARP, source=TRUNK.mac), "rarp", id="RARP of another MAC"),
    pytest.param(ACCESS, Frame(carries=0x88CC), "ethertype", id="another ethertype"),
    pytest.param(LAX, Frame(carries=0x88CC), None, id="another ethertype without antiSpoof"),
    pytest.param(ACCESS, Frame(tag=0x8100), "tagged", id="tag on an access port"),
    pytest.param(LAX, Frame(tag=0x8100), "tagged", id="tag on an access port without antiSpoof"),
    pytest.param(ACCESS, Frame(tag=0x88A8), "tagged", id="service tag on an access port"),
    pytest.param(ACCESS, Frame(carries=0x8100), "tagged", id="tag left in the frame"),
    pytest.param(TRUNK, Frame(source=TRUNK.mac, tag=0x8100), None, id="tag on a trunk"),
    pytest.param(TRUNK, Frame(source=TRUNK.mac), None, id="untagged on a trunk"),
    pytest.param(TRUNK, Frame(source=TRUNK.mac, tag=0x8100, carries=0x8100), "tagged", id="inner tag on a trunk"),
    pytest.param(
        TRUNK, Frame(source=TRUNK.mac, tag=0x8100, carries=0x88A8), "tagged", id="inner service tag on a trunk"
    ),
    pytest.param(TRUNK, Frame(source=TRUNK.mac, tag=0x88A8), "tagged", id="service tag on a trunk"),
    pytest.param(ACCESS, Frame(destination="01:80:c2:00:00:00"), "link_local", id="BPDU"),
    pytest.param(LAX, Frame(destination="01:80:c2:00:00:0e"), "link_local", id="LLDP without antiSpoof"),
    pytest.param(ACCESS, Frame(destination="01:80:c2:00:00:10"), None, id="beyond the link-local range"),
]


@pytest.mark.parametrize("placement", Placement)
@pytest.mark.parametrize(("port", "frame", "reason"), FRAMES)
def test_what_a_guest_may_send(placement: Placement, port: GuardedPort, frame: Frame, reason: str | None) -> None:
    assert crosses(guards.base(placement), ALL, frame, port.name, UPLINK) == reason


@pytest.mark.parametrize(("port", "frame", "reason"), FRAMES)
def test_an_uplink_brings_what_it_brings(port: GuardedPort, frame: Frame, reason: str | None) -> None:
    assert crosses(guards.base(), ALL, frame, UPLINK, port.name) is None


@pytest.mark.parametrize("placement", Placement)
def test_a_muted_port_is_silent_both_ways(placement: Placement) -> None:
    table = guards.base(placement)
    muted = guards.desired([UPLINK], [(ACCESS, False), (TRUNK, True)])
    assert crosses(table, muted, Frame(), ACCESS.name, TRUNK.name) == "muted"
    assert crosses(table, muted, Frame(), TRUNK.name, ACCESS.name) == "muted"
    assert crosses(table, muted, Frame(), TRUNK.name, UPLINK) is None
    chains = {chain.hook: chain for chain in table.chains}
    assert judge(chains[Hook.OUTPUT], muted, Frame(), "", ACCESS.name) == "muted"
    assert judge(chains[Hook.INPUT], muted, Frame(), ACCESS.name, "") in ("muted", "to_bridge")


def test_nothing_reaches_the_switch_itself() -> None:
    (chain,) = [chain for chain in guards.base().chains if chain.hook is Hook.INPUT]
    assert judge(chain, ALL, Frame(), ACCESS.name, "") == judge(chain, ALL, Frame(), UPLINK, "") == "to_bridge"


def test_the_node_keeps_talking_on_its_own_bridge() -> None:
    for chain in guards.base(Placement.NODE_BRIDGE).chains:
        assert judge(chain, ALL, Frame(tag=0x8100, carries=0x88CC), "eth0", "br0") is None
    (into,) = [chain for chain in guards.base(Placement.NODE_BRIDGE).chains if chain.hook is Hook.INPUT]
    assert judge(into, ALL, Frame(), ACCESS.name, "") is None, "a guest may speak to the node there"


@given(
    lost=st.sets(st.sampled_from(sorted(ALL, key=str))),
    into=st.sampled_from([ACCESS.name, TRUNK.name, LAX.name, UPLINK]),
    out=st.sampled_from([ACCESS.name, TRUNK.name, LAX.name, UPLINK]),
    frame=st.builds(
        Frame,
        source=st.sampled_from([ACCESS.mac, TRUNK.mac, "02:00:00:00:00:99"]),
        carries=st.sampled_from([*EtherType, 0x88CC]),
        tag=st.sampled_from([None, 0x8100, 0x88A8]),
        destination=st.sampled_from(["ff:ff:ff:ff:ff:ff", "01:80:c2:00:00:00"]),
    ),
)
def test_the_loss_of_elements_opens_nothing(lost: set[Element], into: str, out: str, frame: Frame) -> None:
    table = guards.base()
    if crosses(table, ALL, frame, into, out) is not None:
        assert crosses(table, ALL - lost, frame, into, out) is not None


def apply(present: frozenset[Element], change: Change) -> frozenset[Element]:
    return (present - set(change.delete)) | set(change.add)


PORTS = st.builds(
    GuardedPort, st.sampled_from(["hp1", "hp2"]), st.just(MacAddress("02:00:00:00:00:01")), st.booleans(), st.booleans()
)


@given(st.lists(st.tuples(PORTS, st.sampled_from(["admit", "open", "mute", "remove"])), max_size=12))
def test_verbs_in_any_order(steps: list[tuple[GuardedPort, str]]) -> None:
    """A port is what its last admission made it, mute unless opened since, and leaves nothing when it is removed."""
    present: frozenset[Element] = frozenset()
    admitted: dict[str, GuardedPort] = {}
    speaking: set[str] = set()
    for port, verb in steps:
        if verb == "admit":
            change = guards.admit(port)
            admitted[port.name] = port
            speaking.discard(port.name)
        elif verb == "open":
            change = guards.open_port(port.name)
            speaking.add(port.name)
        elif verb == "mute":
            change = guards.mute(port.name)
            speaking.discard(port.name)
        else:
            change = guards.remove(port)
            admitted.pop(port.name, None)
            speaking.discard(port.name)
        present = apply(present, change)
        assert apply(present, change) == present
        guarded = frozenset(element for each in admitted.values() for element in guards.guards_of(each))
        assert present == guarded | {Element(guards.SPEAKING, name) for name in speaking}


@given(st.sets(st.sampled_from(sorted(ALL, key=str))), st.sets(st.sampled_from(sorted(ALL, key=str))))
def test_a_difference_changes_what_differs_and_no_more(wanted: set[Element], present: set[Element]) -> None:
    change = guards.difference(wanted, present)
    assert apply(frozenset(present), change) == wanted
    assert not set(change.add) & present and not set(change.delete) & wanted


def test_an_element_is_read_as_it_is_listed() -> None:
    for element in ALL:
        assert guards.read_element(element.set, element.key) == element


def test_changes_add_up() -> None:
    both = guards.admit(ACCESS) + guards.admit(TRUNK)
    assert set(both.add) == set(guards.admit(ACCESS).add) | set(guards.admit(TRUNK).add)
    with pytest.raises(ValueError, match="two transactions"):
        _ = both + replace(both, table="other")
