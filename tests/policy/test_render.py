"""The text for nft, literally, and what is refused before it gets there."""

import pytest

from homeport_policy.render import Unrenderable, fingerprints, render
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
    Rule,
    Ruleset,
    Set,
    Verdict,
)

_PORTS = Set("ports", Key.IN_LINK)


def ruleset(*matches: Match, hook: Hook = Hook.PREROUTING, priority: int = -300, counter: str | None = None) -> Ruleset:
    rule = Rule(matches, Verdict.DROP, counter)
    return Ruleset("homeport", ("seen",), (_PORTS,), (Chain("c", hook, priority, (rule,)),))


def rule_text(value: Ruleset) -> str:
    (line,) = [line for line in render(value).decode().splitlines() if line.startswith("add rule ")]
    return line.removeprefix("add rule bridge homeport c ").partition(" comment ")[0]


def test_a_whole_table() -> None:
    assert render(ruleset(InSet(Key.IN_LINK, "ports"), counter="seen")).decode().splitlines() == [
        "add table bridge homeport",
        "add counter bridge homeport seen",
        "add set bridge homeport ports { type ifname; }",
        "add chain bridge homeport c { type filter hook prerouting priority -300; policy accept; }",
        "flush chain bridge homeport c",
        'add rule bridge homeport c iifname @ports counter name seen drop comment "c3bd43be0937"',
    ]


@pytest.mark.parametrize(
    ("match", "text"),
    [
        pytest.param(InSet(Key.IN_LINK, "ports", member=False), "iifname != @ports drop", id="not in a set"),
        pytest.param(Protocol(frozenset({EtherType.ARP})), "meta protocol { arp } drop", id="carried protocol"),
        pytest.param(
            Protocol(frozenset({EtherType.IPV6, EtherType.RARP}), one_of=False),
            "meta protocol != { 0x8035, ip6 } drop",
            id="none of these protocols",
        ),
        pytest.param(OuterTag(frozenset({EtherType.VLAN})), "ether type { 0x8100 } drop", id="tag as it arrived"),
        pytest.param(
            LinkLocalDestination(),
            "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop",
            id="link-local destination",
        ),
    ],
)
def test_a_match(match: Match, text: str) -> None:
    assert rule_text(ruleset(match)) == text


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        pytest.param(
            ruleset(OuterTag(frozenset({EtherType.VLAN})), hook=Hook.FORWARD, priority=-200),
            "tags frames after prerouting",
            id="a tag in forward is the bridge's own",
        ),
        pytest.param(ruleset(hook=Hook.FORWARD, priority=0), "br_netfilter skips", id="forward at 0 is skipped"),
        pytest.param(ruleset(InSet(Key.IN_LINK, "prots")), "no set prots", id="unknown set"),
        pytest.param(ruleset(InSet(Key.IN_LINK_AND_SOURCE, "ports")), "no set ports of type", id="set of another type"),
        pytest.param(ruleset(counter="unseen"), "no counter unseen", id="unknown counter"),
        pytest.param(ruleset(Protocol(frozenset())), "no type at all", id="no protocol"),
        pytest.param(Ruleset("x; flush ruleset", (), (), ()), "not a table name", id="table name with a command"),
        pytest.param(
            Change("homeport", (Element("ports", 'a"; flush'),)), "cannot be named", id="link name with a quote"
        ),
        pytest.param(Change("homeport", (Element("ports", "hp*"),)), "cannot be named", id="link name as a wildcard"),
        pytest.param(Change("homeport", (Element("macs", "hp0", "0 }"),)), "not a MAC", id="MAC with a brace"),
        pytest.param(
            Change("homeport", (Element("ports", "hp0"),), (Element("ports", "hp0"),)),
            "at once",
            id="both ways at once",
        ),
    ],
)
def test_what_would_miss_or_escape_is_refused(refused: Ruleset | Change, reason: str) -> None:
    with pytest.raises(Unrenderable, match=reason):
        render(refused)


def test_a_change_may_be_repeated() -> None:
    """Deleting what is absent would fail; adding it first does not."""
    change = Change("homeport", add=(Element("macs", "hp0", "02:00:00:00:00:01"),), delete=(Element("ports", "hp1"),))
    assert render(change).decode().splitlines() == [
        'add element bridge homeport ports { "hp1" }',
        'delete element bridge homeport ports { "hp1" }',
        'add element bridge homeport macs { "hp0" . 02:00:00:00:00:01 }',
    ]


def test_a_fingerprint_tells_rules_apart() -> None:
    one = fingerprints(ruleset(InSet(Key.IN_LINK, "ports")))
    other = fingerprints(ruleset(InSet(Key.IN_LINK, "ports", member=False)))
    assert one["c"] != other["c"]
    assert f'comment "{one["c"][0]}"' in render(ruleset(InSet(Key.IN_LINK, "ports"))).decode()
