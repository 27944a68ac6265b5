"""libnftables in a namespace: all or nothing, in nftables' words, and never another's table."""

import subprocess
import threading

import pytest

from homeport_api.errors import Unavailable
from homeport_dataplane.errors import RulesetRefused
from homeport_dataplane.features import br_netfilter, probe
from homeport_dataplane.nft import Count, Nft
from tests.dataplane.conftest import Box, BoxMaker

_TABLE = b"""
add table bridge homeport
add counter bridge homeport seen
add set bridge homeport ports { type ifname; }
add set bridge homeport macs { type ifname . ether_addr; }
add chain bridge homeport forward { type filter hook forward priority -200; }
flush chain bridge homeport forward
add rule bridge homeport forward iifname @ports counter name seen drop comment "first"
add rule bridge homeport forward drop comment "second"
add element bridge homeport ports { "p0", "p1" }
add element bridge homeport macs { "p0" . 02:00:00:00:00:01 }
"""


@pytest.fixture
def nft(switch: Box) -> Nft:
    return Nft(switch.ns)


def test_what_was_applied_is_listed(nft: Nft) -> None:
    assert nft.list_owned().rules == {}
    nft.apply(_TABLE)
    first = nft.list_owned()
    nft.apply(_TABLE)
    assert nft.list_owned() == first
    assert first.rules == {"forward": ("first", "second")}
    assert first.elements == {"ports": {"p0", "p1"}, "macs": {"p0 . 02:00:00:00:00:01"}}
    assert first.counters == nft.counters() == {"seen": Count(0, 0)}
    assert nft.counters("absent") == {}
    assert nft.elements("ports") == {"p0", "p1"}
    assert nft.elements("absent") == frozenset()


def test_a_set_that_the_kernel_fills_tells_when_it_last_saw_a_key(nft: Nft) -> None:
    nft.apply(
        b"add table bridge homeport\n"
        b"add set bridge homeport used { type ifname . ipv4_addr; size 16; flags dynamic,timeout; timeout 7d; }\n"
        b'add element bridge homeport used { "p0" . 192.0.2.1, "p0" . 192.0.2.2 expires 6d }\n'
    )
    ages = nft.ages("used")
    assert ages.keys() == {"p0 . 192.0.2.1", "p0 . 192.0.2.2"}
    assert 0 <= ages["p0 . 192.0.2.1"] < 60
    assert 86_400 <= ages["p0 . 192.0.2.2"] < 86_460
    assert nft.ages("absent") == {}
    nft.apply(_TABLE)
    assert nft.ages("ports") == {}


def test_a_refused_ruleset_changes_nothing_and_says_why(nft: Nft) -> None:
    nft.apply(_TABLE)
    before = nft.list_owned()
    with pytest.raises(RulesetRefused, match="No such file or directory"):
        nft.apply(b"delete element bridge homeport ports { p0 }\ndelete element bridge homeport ports { absent }")
    with pytest.raises(RulesetRefused, match="syntax error"):
        nft.apply(b"add nonsense")
    assert nft.list_owned() == before


def test_checking_changes_nothing(nft: Nft) -> None:
    nft.check(_TABLE)
    assert nft.list_owned().rules == {}
    with pytest.raises(RulesetRefused):
        nft.check(b"add nonsense")
    nft.apply(_TABLE)
    assert nft.list_owned().rules != {}


def test_each_namespace_has_its_own(box: BoxMaker, nft: Nft) -> None:
    other = Nft(box("other").ns)
    nft.apply(_TABLE)
    assert other.list_owned().rules == {}


def test_other_tables_are_left_alone(switch: Box, nft: Nft) -> None:
    switch.shell.nft("table inet theirs { chain c { counter drop; }; }")
    nft.apply(_TABLE)
    nft.apply(b"delete table bridge homeport")
    assert "chain c" in switch.shell.run("nft", "list", "ruleset").stdout


def test_many_threads(nft: Nft) -> None:
    nft.apply(_TABLE)

    def add(number: int) -> None:
        for at in range(20):
            nft.apply(f'add element bridge homeport ports {{ "t{number}-{at}" }}'.encode())

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(nft.elements("ports")) == 2 + 8 * 20


def test_a_closed_one_says_so(nft: Nft) -> None:
    nft.close()
    nft.close()
    with pytest.raises(Unavailable, match="closed"):
        nft.apply(_TABLE)


def test_features_are_what_a_trial_by_hand_finds(switch: Box) -> None:
    features = probe()
    assert features.nft_bridge
    by_hand = subprocess.run(
        switch.shell.command("ip", "link", "add", "v0", "type", "bridge", "vlan_filtering", "1"), capture_output=True
    )
    assert features.vlan_filtering == (by_hand.returncode == 0)
    chain = "table bridge t {{ chain c {{ type filter hook forward priority -200; {}; }}; }}"
    for rule, found in (
        ("ct state new", features.bridge_conntrack),
        ("meta ibrpvid 1", features.bridge_meta),
        ("ct count over 1 drop", features.connection_count),
    ):
        done = switch.shell.run("nft", "-f", "-", stdin=chain.format(rule), check=False)
        assert found == (done.returncode == 0)
    assert probe() is features


def test_br_netfilter_is_seen_where_it_is_on(switch: Box, box: BoxMaker) -> None:
    node = box("node")
    state = br_netfilter(node.ns)
    if state.loaded:
        node.ns.ensure_sysctl("bridge/bridge-nf-call-iptables", "1")
        assert br_netfilter(node.ns).ip4
    assert not br_netfilter(switch.ns).ip4
