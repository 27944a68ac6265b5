"""What a kernel has loaded, asked for a verdict: its own sets and maps, under chains that are proven to be ours. Pure.

    chains            only their rules' fingerprints are read back; equal to those of base and program, they are these
    sets and maps     as the kernel lists them
    one end           a frame of the packet between the end's port and a link that stands for everything else

Each end is asked by itself, so that a denied egress does not hide what the ingress would say.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from homeport_api.networkpolicy import Direction, PolicyKey
from homeport_policy import guards
from homeport_policy.chains import DELIVER, L4_OF
from homeport_policy.evaluate import Packet
from homeport_policy.listing import read_key
from homeport_policy.program import DISPATCH, Program
from homeport_policy.render import fingerprints
from homeport_policy.ruleset import L4, EtherType, Part, Ruleset, Set, Verdict
from homeport_policy.simulate import ETHER_TYPES, Frame, Judged, Loaded, judge
from homeport_policy.update import is_of_program, key_of

OUTSIDE = "outside"
"""Stands for whatever a packet comes from or goes to that is no port of this node. Not a link of ours."""
FORWARD, PREROUTING = "forward", "prerouting"
ECHO_REQUEST6 = 128
_SOURCE_PORT = 40000
_Keys = frozenset[tuple[Part, ...]]


@dataclass(frozen=True, slots=True)
class Listing:
    """A table as it was read back: fingerprints by chain, keys by set, where maps lead by key, packets by counter."""

    rules: Mapping[str, tuple[str, ...]]
    sets: Mapping[str, _Keys]
    maps: Mapping[str, Mapping[tuple[Part, ...], str | int]]
    packets: Mapping[str, int]


def read_listing(
    base: Ruleset,
    rules: Mapping[str, tuple[str, ...]],
    elements: Mapping[str, frozenset[str]],
    maps: Mapping[str, Mapping[str, str | int]],
    packets: Mapping[str, int],
) -> Listing:
    """From the texts of a listing. Sets that neither base nor program has are left out, and so are the kernel's own."""
    known = {each.name: each for each in base.sets}
    types = {name: each.key.type for name, each in known.items() if not (isinstance(each, Set) and each.meter)}
    types |= {name: key_of(name).type for name in elements if name not in known and is_of_program(name)}
    return Listing(
        rules,
        {
            name: frozenset(read_key(types[name], key) for key in keys)
            for name, keys in elements.items()
            if name in types
        },
        {
            name: {read_key(types[name], key): lead for key, lead in leads.items()}
            for name, leads in maps.items()
            if name in types
        },
        packets,
    )


@dataclass(frozen=True, slots=True)
class Port:
    """An end of the packet that has a port on this side; `mac` is its guest's, None where it is not known. `vlan`: the
    tag that what it sends carries."""

    name: str
    mac: str | None = None
    vlan: int | None = None
    node: bool = False


@dataclass(frozen=True, slots=True)
class LiveRuling:
    """What the kernel says for one end. `allowed` None: it cannot be said, for `changed` chains on the way are not as
    they were loaded. `chain` is what the end's port leads to; None: to none, so nothing isolates it. `counter` is the
    one that counts such a packet, and `packets` its reading."""

    allowed: bool | None
    chain: str | None = None
    policy: PolicyKey | None = None
    rule: int | None = None
    isolated_by: tuple[PolicyKey, ...] = ()
    counter: str | None = None
    packets: int | None = None
    changed: tuple[str, ...] = ()


class Live:
    """A listing beside what ought to be loaded."""

    def __init__(self, base: Ruleset, program: Program, listing: Listing) -> None:
        self._program = program
        self._listing = listing
        chains = {chain.name: chain for chain in base.chains} | dict(program.chains)
        wanted = fingerprints(chains.values())
        self._changed = frozenset(name for name, prints in wanted.items() if listing.rules.get(name) != prints)
        self._chains = chains
        names = (*(each.name for each in base.sets), *program.sets)
        self._sets = {name: listing.sets.get(name, frozenset()) for name in names}
        self._maps = {name: listing.maps.get(name, {}) for name in names}

    def ask(
        self, packet: Packet, direction: Direction, port: Port, zone: int | None, origin: str = OUTSIDE
    ) -> LiveRuling:
        """For the end of this direction, whose port it is. `origin` is the link that an ingress is asked from: the
        node's own end passes. A port that is mute is asked as if it spoke: that is `hindered`'s to tell."""
        lead = self._maps[DISPATCH[direction]].get((port.name,))
        chain = None if lead is None else str(lead)
        if chain is not None and chain not in self._chains:
            return LiveRuling(None, chain, changed=(chain,))
        links = (port.name, OUTSIDE) if direction is Direction.EGRESS else (origin, port.name)
        # What comes from a port of ours has its egress behind it, which is not what is asked.
        begin = FORWARD if direction is Direction.EGRESS or origin == OUTSIDE else DELIVER
        judged = judge(self._loaded(links), begin, frame_of(packet, *links, zone))
        changed = tuple(sorted(self._changed & {FORWARD, *judged.chains}))
        if changed:
            return LiveRuling(None, chain, changed=changed)
        return self._ruling(judged, direction, chain)

    def hindered(self, packet: Packet, sender: Port | None, receiver: Port | None) -> tuple[str, ...]:
        """Why the packet would be dropped whatever policies say: the guards' counters."""
        found = []
        for port in (sender, receiver):
            if port is not None and (port.name,) not in self._sets[guards.SPEAKING]:
                found.append("muted")
        if sender is not None and sender.mac is not None and not found:
            judged = self._entered(packet, sender)
            if judged.verdict is Verdict.DROP:
                found += judged.counted[-1:]
        return tuple(found)

    def zone(self, packet: Packet, sender: Port) -> int | None:
        """The connection tracking zone that the kernel gives what comes from this port."""
        return self._entered(packet, sender).zone

    def _entered(self, packet: Packet, sender: Port) -> Judged:
        frame = frame_of(packet, sender.name, "", None, mac=sender.mac or "", vlan=sender.vlan)
        return judge(self._loaded(()), PREROUTING, frame)

    def _loaded(self, speaking: tuple[str, ...]) -> Loaded:
        sets = dict(self._sets)
        sets[guards.SPEAKING] = sets[guards.SPEAKING] | {(link,) for link in speaking}
        sets[guards.UPLINKS] = sets[guards.UPLINKS] | {(OUTSIDE,)}
        return Loaded(self._chains, sets, self._maps)

    def _ruling(self, judged: Judged, direction: Direction, chain: str | None) -> LiveRuling:
        allowed = judged.verdict is Verdict.ACCEPT
        for counter in reversed(judged.counted):
            counted = self._program.counters.get(counter)
            if counted is not None and counted.direction is direction:
                packets = self._listing.packets.get(counter)
                return LiveRuling(allowed, chain, counted.policy, counted.rule, counted.denied_by, counter, packets)
        last = judged.counted[-1] if judged.counted and not allowed else None
        packets = None if last is None else self._listing.packets.get(last)
        return LiveRuling(allowed, chain, counter=last, packets=packets)


def frame_of(packet: Packet, into: str, out: str, zone: int | None, *, mac: str = "", vlan: int | None = None) -> Frame:
    """The packet as the first of its connection, on its way between two links."""
    protocol = L4_OF[packet.protocol] if packet.protocol is not None else None
    if protocol is None:
        protocol = L4.ICMP if packet.source.version == 4 else L4.ICMP6
    return Frame(
        into,
        out,
        ETHER_TYPES[packet.source.version],
        packet.source,
        packet.target,
        protocol,
        source_port=None if packet.port is None else _SOURCE_PORT,
        target_port=packet.port,
        icmp6_type=ECHO_REQUEST6 if protocol is L4.ICMP6 else None,
        source_mac=mac,
        tag=None if vlan is None else EtherType.VLAN,
        vlan=vlan,
        zone=zone,
    )
