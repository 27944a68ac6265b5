"""One packet asked of the oracle and of what a kernel has loaded."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from homeport_api.networkpolicy import Direction
from homeport_policy import guards
from homeport_policy.evaluate import Packet
from homeport_policy.live import Listing, Live, Port, read_listing
from homeport_policy.program import EGRESS, INGRESS
from homeport_policy.render import fingerprints
from homeport_policy.ruleset import L4, Part
from homeport_policy.snapshot import EndpointKey
from homeport_policy.trace import Here, Outcome, Verdict, trace, verdict
from tests.policy.worlds import BASE, Dice, World


def listing_of(world: World) -> Listing:
    """What the kernel has when everything is as it was loaded. Every counter reads 7."""
    program = world.program
    sets: dict[str, set[tuple[Part, ...]]] = {}
    maps: dict[str, Mapping[tuple[Part, ...], str | int]] = {
        name: {(port,): chain for port, chain in leads.items()}
        for name, leads in ((EGRESS, program.egress), (INGRESS, program.ingress))
    }
    for element in world.elements:
        sets.setdefault(element.set, set()).add(element.key)
    contents = {name: content.elements for name, content in program.sets.items()}
    zones = {(each.port or "",): world.snapshot.zones[each.domain] for each in world.snapshot.endpoints.values()}
    return Listing(
        fingerprints([*BASE.chains, *program.chains.values()]),
        {name: frozenset(keys) for name, keys in sets.items()} | contents,
        {**maps, guards.PORT_ZONES: zones},
        dict.fromkeys([*BASE.counters, *program.counters], 7),
    )


def here(world: World, listing: Listing) -> Callable[[EndpointKey], Here | None]:
    live = Live(BASE, world.program, listing)

    def find(key: EndpointKey) -> Here | None:
        endpoint = world.snapshot.endpoints[key]
        return None if endpoint.port is None else Here(Port(endpoint.port, node=endpoint.node), live)

    return find


@pytest.mark.parametrize("part", range(4))
def test_kernel_and_oracle_give_the_same_reasons(part: int) -> None:
    seen = dict.fromkeys(Outcome, 0)
    for seed in range(part * 60, (part + 1) * 60):
        dice = Dice(seed)
        world = World(dice.snapshot())
        find = here(world, listing_of(world))
        for _ in range(10):
            packet = dice.packet(world.snapshot)
            (traced,) = trace(world.snapshot, [packet], find)
            assert traced.live is not None and not traced.live.hindered
            pairs = ((traced.decision.egress, traced.live.egress), (traced.decision.ingress, traced.live.ingress))
            for ruling, live in pairs:
                if ruling is None or live is None:
                    continue
                assert (live.allowed, live.policy, live.rule, live.isolated_by) == (
                    ruling.allowed,
                    ruling.policy,
                    ruling.rule,
                    ruling.isolated_by,
                ), f"seed {seed}: {packet}"
                assert (live.chain is None) == (ruling.allowed and ruling.policy is None)
                assert live.packets == (None if live.chain is None else 7)
            seen[verdict([traced]).outcome] += 1
    assert seen[Outcome.DISAGREE] == 0
    assert min(seen[Outcome.ALLOWED], seen[Outcome.DENIED]) > 20


def denied(dice: Dice) -> tuple[World, Packet]:
    """A world in which a policy denies the packet its ingress, at a port of this node."""
    while True:
        world = World(dice.snapshot())
        for _ in range(20):
            packet = dice.packet(world.snapshot)
            (traced,) = trace(world.snapshot, [packet], None)
            ruling = traced.decision.ingress
            if packet.receiver is not None and ruling is not None and not ruling.allowed:
                return world, packet


def port_of(world: World, packet: Packet) -> str:
    assert packet.receiver is not None
    return world.snapshot.endpoints[packet.receiver].port or ""


def test_a_port_that_leads_nowhere_is_a_disagreement() -> None:
    world, packet = denied(Dice(1))
    listing = listing_of(world)
    leads = {key: chain for key, chain in listing.maps[INGRESS].items() if key != (port_of(world, packet),)}
    opened = replace(listing, maps={**listing.maps, INGRESS: leads})
    (traced,) = trace(world.snapshot, [packet], here(world, opened))
    assert traced.live is not None and traced.live.ingress is not None
    assert (traced.live.ingress.allowed, traced.live.ingress.chain) == (True, None)
    assert traced.disagrees and verdict([traced]).outcome is Outcome.DISAGREE


@pytest.mark.parametrize("name", ["port", "forward"])
def test_a_chain_that_somebody_changed_is_never_believed(name: str) -> None:
    world, packet = denied(Dice(2))
    listing = listing_of(world)
    chain = world.program.ingress[port_of(world, packet)] if name == "port" else name
    changed = replace(listing, rules={**listing.rules, chain: listing.rules[chain][:-1]})
    (traced,) = trace(world.snapshot, [packet], here(world, changed))
    assert traced.live is not None and traced.live.ingress is not None
    assert (traced.live.ingress.allowed, traced.live.ingress.changed) == (None, (chain,))
    assert traced.disagrees


def test_a_port_that_leads_to_a_strange_chain_is_never_believed() -> None:
    world, packet = denied(Dice(3))
    listing = listing_of(world)
    leads = {**listing.maps[INGRESS], (port_of(world, packet),): "in_of_old"}
    (traced,) = trace(world.snapshot, [packet], here(world, replace(listing, maps={**listing.maps, INGRESS: leads})))
    assert traced.live is not None and traced.live.ingress is not None
    assert traced.live.ingress.changed == ("in_of_old",)
    assert traced.disagrees


def test_a_mute_port_denies_and_is_no_disagreement() -> None:
    world = next(made for seed in range(99) if not (made := World(Dice(seed).snapshot())).program.egress)
    dice = Dice(4)
    packet = next(each for _ in range(99) if (each := dice.packet(world.snapshot)).sender is not None)
    listing = listing_of(world)
    mute = replace(listing, sets={**listing.sets, guards.SPEAKING: frozenset()})
    (traced,) = trace(world.snapshot, [packet], here(world, mute))
    assert traced.live is not None and "muted" in traced.live.hindered
    assert not traced.allowed and not traced.disagrees
    assert verdict([traced]) == Verdict(Outcome.DENIED)


def test_a_foreign_address_is_the_guards_to_drop() -> None:
    world = next(made for seed in range(99) if not (made := World(Dice(seed).snapshot())).program.egress)
    dice = Dice(5)
    packet = next(
        each for _ in range(99) if (each := dice.packet(world.snapshot)).sender is not None and each.source.version == 4
    )
    assert packet.sender is not None
    name = world.snapshot.endpoints[packet.sender].port or ""
    listing = listing_of(world)
    live = Live(BASE, world.program, replace(listing, sets={**listing.sets, guards.MACS: frozenset({(name, "02:…")})}))
    assert live.hindered(packet, Port(name, "02:…"), None) == ("foreign_ipv4",)
    assert live.zone(packet, Port(name, "02:…")) == world.snapshot.zones[packet.domain]
    assert live.ask(packet, Direction.EGRESS, Port(name), None).allowed


def test_listings_are_read_by_the_types_of_their_sets() -> None:
    read = read_listing(
        BASE,
        {},
        {
            "ports": frozenset({"hp1"}),
            "macs": frozenset({"hp1 . 02:00:00:00:00:01"}),
            "a4_x": frozenset({"10.0.0.1"}),
            "n6_x": frozenset({"2001:db8::1 . tcp . 80"}),
            "new_flows": frozenset({"whatever the kernel writes"}),
            "somebody's": frozenset({"else"}),
        },
        {"egress": {"hp1": "out_x"}, "vlan_zones": {"hpu-bond0 . 7": 16384}},
        {},
    )
    assert set(read.sets) == {"ports", "macs", "a4_x", "n6_x"}
    assert read.sets["macs"] == {("hp1", "02:00:00:00:00:01")}
    assert {(str(address), *rest) for address, *rest in read.sets["n6_x"]} == {("2001:db8::1", L4.TCP, 80)}
    assert read.maps == {"egress": {("hp1",): "out_x"}, "vlan_zones": {("hpu-bond0", 7): 16384}}
