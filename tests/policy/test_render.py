"""The text for nft, literally, and what is refused before it gets there."""

from ipaddress import ip_address as ip

import pytest

from homeport_api.addresses import AddressRange
from homeport_policy.render import Unrenderable, fingerprints, render
from homeport_policy.ruleset import (
    L4,
    ArpProbe,
    Carries,
    Chain,
    Change,
    CtState,
    Dispatch,
    EtherType,
    First,
    FragmentOf,
    Goto,
    Hook,
    Icmp6Type,
    InSet,
    InZone,
    Jump,
    Key,
    Leads,
    LinkLocalDestination,
    Log,
    Map,
    Match,
    NoInit,
    NoSyn,
    OuterTag,
    OverCount,
    OverRate,
    PortRange,
    PriorityTag,
    Protocol,
    Reply,
    Rule,
    Ruleset,
    Set,
    SetZone,
    Side,
    State,
    ToPort,
    Touch,
    UdpPorts,
    Verdict,
    Within,
    element,
)

IPV4, IPV6 = Protocol(frozenset({EtherType.IPV4})), Protocol(frozenset({EtherType.IPV6}))
_PORTS = Set("ports", Key.IN_LINK)
_METER = Set("meter", Key.IN_LINK, meter=True)
_COUNTS = Set("counts", Key.IN_LINK_AND_CONNECTION, meter=True, counting=True)


def ruleset(*matches: Match, hook: Hook = Hook.PREROUTING, priority: int = -300, counter: str | None = None) -> Ruleset:
    rule = Rule(matches, Verdict.DROP, counter)
    return Ruleset("homeport", ("seen",), (_PORTS, _METER, _COUNTS), (Chain("c", hook, priority, (rule,)),))


def touching(key: Key, name: str) -> Ruleset:
    sets = (_PORTS, Set("used", Key.IN_LINK_AND_SOURCE4, meter=True))
    return Ruleset("homeport", (), sets, (Chain("c", Hook.PREROUTING, -300, (Rule((), Touch(key, name)),)),))


def rule_text(value: Ruleset) -> str:
    (line,) = [line for line in render(value).decode().splitlines() if line.startswith("add rule ")]
    return line.removeprefix("add rule bridge homeport c ").partition(" comment ")[0]


def test_a_whole_table() -> None:
    assert render(ruleset(InSet(Key.IN_LINK, "ports"), counter="seen")).decode().splitlines() == [
        "add table bridge homeport",
        "add counter bridge homeport seen",
        "add set bridge homeport ports { type ifname; }",
        "add set bridge homeport meter { type ifname; size 65536; flags dynamic; timeout 1m; }",
        "add set bridge homeport counts { typeof iifname . ct id; size 131072; flags dynamic; }",
        "add chain bridge homeport c { type filter hook prerouting priority -300; policy accept; }",
        "flush chain bridge homeport c",
        'add rule bridge homeport c iifname @ports counter name seen drop comment "c3bd43be0937"',
    ]


@pytest.mark.parametrize(
    ("match", "text"),
    [
        pytest.param(InSet(Key.IN_LINK, "ports", member=False), "iifname != @ports drop", id="not in a set"),
        pytest.param(Protocol(frozenset({EtherType.ARP})), "meta protocol arp drop", id="carried protocol"),
        pytest.param(
            Protocol(frozenset({EtherType.IPV6, EtherType.RARP}), one_of=False),
            "meta protocol != { 0x8035, ip6 } drop",
            id="none of these protocols",
        ),
        pytest.param(OuterTag(frozenset({EtherType.VLAN})), "ether type 0x8100 drop", id="tag as it arrived"),
        pytest.param(PriorityTag(), "vlan id 0 drop", id="priority tag"),
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
    ("matches", "text"),
    [
        pytest.param(
            (IPV4, Within(Side.SOURCE, (AddressRange(ip("10.0.0.0"), ip("10.0.0.9")),))),
            "meta protocol ip ip saddr { 10.0.0.0-10.0.0.9 }",
            id="a range of IPv4",
        ),
        pytest.param(
            (IPV6, Within(Side.TARGET, (AddressRange(ip("2001:db8::1"), ip("2001:db8::1")),))),
            "meta protocol ip6 ip6 daddr { 2001:db8::1 }",
            id="one IPv6 address",
        ),
        pytest.param(
            (ToPort((PortRange(L4.TCP, 80, 80), PortRange(L4.UDP, 0, 65535))),),
            "meta l4proto . th dport { 6 . 80, 17 . 0-65535 }",
            id="ports",
        ),
        pytest.param(
            (Carries(frozenset({L4.TCP})), NoSyn()), "meta l4proto 6 tcp flags & (fin | syn | rst | ack) != syn"
        ),
        pytest.param((Carries(frozenset({L4.SCTP})), NoInit()), "meta l4proto 132 sctp chunk init missing"),
        pytest.param((UdpPorts(67, 68),), "meta l4proto 17 udp sport 67 udp dport 68", id="UDP from and to"),
        pytest.param((IPV6, Icmp6Type(frozenset({136, 135}))), "meta protocol ip6 icmpv6 type { 135, 136 }", id="ND"),
        pytest.param(
            (State(frozenset({CtState.NEW, CtState.RELATED})), Reply()), "ct state new,related ct direction reply"
        ),
        pytest.param((State(frozenset({CtState.NEW})), First()), "ct state new ct status & confirmed == 0"),
        pytest.param((InZone(16384),), "ct zone 16384", id="zone"),
        pytest.param(
            (First(), OverCount(Key.IN_LINK_AND_CONNECTION, "counts", 16, 32)),
            "ct status & confirmed == 0 add @counts { iifname . ct id & 15 ct count over 32 }",
            id="count",
        ),
        pytest.param((IPV6, FragmentOf(frozenset({60, 0}))), "meta protocol ip6 frag nexthdr { 0, 60 }", id="fragment"),
        pytest.param(
            (OverRate(Key.IN_LINK, "meter", 10, 20),),
            "update @meter { iifname limit rate over 10/second burst 20 packets }",
            id="rate",
        ),
        pytest.param(
            (OverRate(Key.IN_LINK, "meter", 10, 20, over=False),),
            "update @meter { iifname limit rate 10/second burst 20 packets }",
            id="within a rate",
        ),
        pytest.param(
            (Protocol(frozenset({EtherType.ARP})), ArpProbe()), "meta protocol arp arp saddr ip 0.0.0.0", id="ARP probe"
        ),
    ],
)
def test_matches_of_packets(matches: tuple[Match, ...], text: str) -> None:
    assert rule_text(ruleset(*matches, hook=Hook.FORWARD, priority=-200)) == f"{text} drop"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        pytest.param(Rule((), Jump("p_1")), "jump p_1", id="jump"),
        pytest.param(Rule((), Goto("deliver")), "goto deliver", id="goto"),
        pytest.param(Rule((), Dispatch(Key.IN_LINK, "leads")), "iifname vmap @leads", id="dispatch"),
        pytest.param(Rule((), SetZone(Key.IN_LINK, "zones")), "ct zone set iifname map @zones", id="zone"),
        pytest.param(
            Rule((), Verdict.CONTINUE, log=Log("out_1", 7)),
            'limit rate 10/second burst 20 packets log prefix "out_1" group 7 snaplen 128',
            id="log",
        ),
        pytest.param(Rule((), Touch(Key.IN_LINK, "meter")), "update @meter { iifname }", id="touch"),
        pytest.param(
            Rule((IPV4,), Touch(Key.IN_LINK_AND_SOURCE4, "used")),
            "meta protocol ip update @used { iifname . ip saddr }",
            id="touch what is read from a packet",
        ),
    ],
)
def test_actions(rule: Rule, text: str) -> None:
    sets = (
        Map("leads", Key.IN_LINK),
        Map("zones", Key.IN_LINK, Leads.ZONE),
        _METER,
        Set("used", Key.IN_LINK_AND_SOURCE4, meter=True, kept="7d"),
    )
    assert rule_text(Ruleset("homeport", (), sets, (Chain("c", Hook.PREROUTING, -300, (rule,)),))) == text


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
        pytest.param(ruleset(ArpProbe()), "needs `meta protocol arp`", id="an ARP probe of anything"),
        pytest.param(touching(Key.IN_LINK, "ports"), "ifname that the kernel fills", id="touch"),
        pytest.param(touching(Key.IN_LINK_AND_SOURCE4, "used"), "to be matched before it", id="touch of anything"),
        pytest.param(ruleset(counter="unseen"), "no counter unseen", id="unknown counter"),
        pytest.param(ruleset(Protocol(frozenset())), "no type at all", id="no protocol"),
        pytest.param(ruleset(InSet(Key.SOURCE4, "four")), "no set four", id="unknown set of addresses"),
        pytest.param(
            ruleset(Within(Side.SOURCE, (AddressRange(ip("10.0.0.0"), ip("10.0.0.9")),))),
            "needs `meta protocol ip`",
            id="address without its family",
        ),
        pytest.param(ruleset(IPV4, Icmp6Type(frozenset({135}))), "needs `meta protocol ip6`", id="ND in IPv4"),
        pytest.param(ruleset(IPV4, FragmentOf(frozenset({60}))), "needs `meta protocol ip6`", id="fragment of IPv4"),
        pytest.param(
            ruleset(OverCount(Key.IN_LINK_AND_CONNECTION, "counts", 24, 32)), "no power of two", id="odd parts"
        ),
        pytest.param(ruleset(IPV4, Within(Side.SOURCE, ())), "nothing at all", id="no range"),
        pytest.param(ruleset(ToPort(())), "nothing at all", id="no port"),
        pytest.param(
            Ruleset("homeport", (), (), (Chain("c", None, 0, (Rule((), Verdict.DROP, log=Log("x", 1)),)),)),
            "over the log's rate",
            id="verdict behind a limit",
        ),
        pytest.param(
            Ruleset("homeport", (), (_PORTS,), (Chain("c", None, 0, (Rule((), Dispatch(Key.IN_LINK, "ports")),)),)),
            "no map ports",
            id="dispatch by a set",
        ),
        pytest.param(Ruleset("x; flush ruleset", (), (), ()), "not a table name", id="table name with a command"),
        pytest.param(
            Change("homeport", (element("ports", 'a"; flush'),)), "cannot be named", id="link name with a quote"
        ),
        pytest.param(Change("homeport", (element("ports", "hp*"),)), "cannot be named", id="link name as a wildcard"),
        pytest.param(Change("homeport", (element("macs", "hp0", "0: }"),)), "not a MAC", id="MAC with a brace"),
        pytest.param(
            Change("homeport", (element("ports", "hp0"),), (element("ports", "hp0"),)),
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
    change = Change("homeport", add=(element("macs", "hp0", "02:00:00:00:00:01"),), delete=(element("ports", "hp1"),))
    assert render(change).decode().splitlines() == [
        'add element bridge homeport ports { "hp1" }',
        'delete element bridge homeport ports { "hp1" }',
        'add element bridge homeport macs { "hp0" . 02:00:00:00:00:01 }',
    ]


def test_a_fingerprint_tells_rules_apart() -> None:
    one = fingerprints(ruleset(InSet(Key.IN_LINK, "ports")).chains)
    other = fingerprints(ruleset(InSet(Key.IN_LINK, "ports", member=False)).chains)
    assert one["c"] != other["c"]
    assert f'comment "{one["c"][0]}"' in render(ruleset(InSet(Key.IN_LINK, "ports"))).decode()
