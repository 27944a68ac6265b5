"""Agents die and come back, a node loses its power: running guests notice nothing, others come back as they were."""

import contextlib

import pytest

from .lan import GUESTS, Guest, Lan, ping, ruleset, wait_until

PAIRS = (("blue1", "blue3"), ("green1", "green2"), ("office1", "office2"), ("trunk1", "trunk2"))


@pytest.mark.parametrize("end", ["kill -9", "SIGTERM"])
def test_running_guests_lose_no_packet_over_an_agents_restart(lan: Lan, end: str) -> None:
    vlans, rules = lan.vlans(lan.a), ruleset(lan.a.switch)
    with contextlib.ExitStack() as stack:
        steady = {pair: stack.enter_context(lan.steady_ping(*pair)) for pair in PAIRS}
        if end == "kill -9":
            lan.a.agent.kill()
        else:
            lan.a.agent.stop()
        assert lan.vlans(lan.a) == vlans
        lan.a.agent.start()
        lan.a.agent.wait_ready(120)
    assert {pair: ping.lost for pair, ping in steady.items()} == dict.fromkeys(PAIRS, 0)
    assert lan.vlans(lan.a) == vlans
    assert ruleset(lan.a.switch) == rules


def test_a_rebooted_node_has_its_guests_again_with_what_they_had(lan: Lan) -> None:
    def facts(guest: Guest) -> tuple[object, ...]:
        (link,) = [each for each in guest.namespace.show("address") if each["ifname"] == "eth0"]
        addresses = {each["local"] for each in link["addr_info"] if each["scope"] == "global"}
        return guest.mac, addresses, lan.vlans(guest.node)[guest.port]

    names = GUESTS["b"]
    before = {name: facts(lan[name]) for name in names}
    uplink = lan.vlans(lan.b)["hpu-bond0"]
    lan.b.power_off()
    assert not lan.b.switch.exists
    lan.b.agent.start()
    lan.b.agent.wait_ready(120)
    lan.populate(lan.b, ask=False)
    assert {name: facts(lan[name]) for name in names} == before
    assert lan.vlans(lan.b)["hpu-bond0"] == uplink
    for source, target in PAIRS:
        wait_until(lambda s=source, t=target: ping(lan[s], lan[t].address), f"{source} reaches {target} again")
