"""`policy trace`: one packet asked of the oracle and of this node's kernel, and both answers as they go to the command
line.

The table is read without holding up ADDs. What changed in between looks like a disagreement, so one is looked at again,
the last time with everything held still.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from homeport_agent.placement import Place
from homeport_agent.policies import Policies
from homeport_agent.switch import Switch
from homeport_api.addresses import L2Domain
from homeport_policy.ends import Asked, name_of, packets_of
from homeport_policy.evaluate import Packet, Ruling
from homeport_policy.facts import Facts
from homeport_policy.live import Live, LiveRuling, Port, read_listing
from homeport_policy.program import Program
from homeport_policy.snapshot import Endpoint, EndpointKey, Snapshot
from homeport_policy.trace import Here, Outcome, Traced, trace, verdict

PAUSES = (0.05, 0.2, 0.5)
"""Seconds before a disagreement is looked at again."""
SETTLED = 2.0
"""Seconds that news of the store may still take to get to the kernel."""
UNTRACKED = (
    "this node's kernel does not track bridged connections (CONFIG_NF_CONNTRACK_BRIDGE), so no policy is loaded in it: "
    "a port that a policy isolates is muted"
)


@dataclass(frozen=True, slots=True)
class _Question:
    """All that is known of what was asked, at one moment."""

    packets: tuple[Packet, ...]
    snapshot: Snapshot
    ports: Mapping[EndpointKey, tuple[Place, Port]]
    programs: Mapping[Place, Program]
    names: Mapping[EndpointKey, str]
    absent: Mapping[EndpointKey, str]


class Tracer:
    """Thread-safe; changes nothing."""

    def __init__(self, node: str, switch: Switch, policies: Policies) -> None:
        self._node = node
        self._switch = switch
        self._policies = policies

    def trace(self, asked: Asked) -> dict[str, Any]:
        """Raises NotFound and Invalid for ends that are not there or not clear, Unavailable while policies are not
        known yet."""
        self._policies.require_known()
        self._policies.wait_idle(SETTLED)
        question, traced = self._once(asked, still=False)
        for pause in PAUSES:
            if verdict(traced).outcome is not Outcome.DISAGREE:
                break
            time.sleep(pause)
            question, traced = self._once(asked, still=pause == PAUSES[-1])
        return self._told(asked, question, traced)

    def _once(self, asked: Asked, *, still: bool) -> tuple[_Question, tuple[Traced, ...]]:
        with ExitStack() as held:
            held.enter_context(self._policies.lock)
            question = self._question(asked)
            if not still:
                held.close()
            lives = {place: self._live(place, program) for place, program in question.programs.items()}

        def here(key: EndpointKey) -> Here | None:
            found = question.ports.get(key)
            return None if found is None else Here(found[1], lives[found[0]])

        tracking = self._switch.features.bridge_conntrack
        return question, trace(question.snapshot, question.packets, here if tracking else None)

    def _question(self, asked: Asked) -> _Question:
        facts = self._policies.facts
        packets, snapshot = packets_of(facts, asked), facts.snapshot()
        keys = {key for packet in packets for key in (packet.sender, packet.receiver) if key is not None}
        endpoints = [snapshot.endpoints[key] for key in keys]
        ports = {each.key: found for each in endpoints if (found := _port(facts, each)) is not None}
        tracking = self._switch.features.bridge_conntrack
        places = {place for place, _ in ports.values()} if tracking else set()
        return _Question(
            packets,
            snapshot,
            ports,
            {place: self._policies.program(place) for place in places},
            {each.key: name_of(facts, each) for each in endpoints},
            {each.key: _whereabouts(facts, each) for each in endpoints if each.key not in ports},
        )

    def _live(self, place: Place, program: Program) -> Live:
        side = self._switch.side(place)
        base = side.base(tracking=True)
        owned = side.nft.list_owned(side.table)
        packets = {name: count.packets for name, count in owned.counters.items()}
        return Live(base, program, read_listing(base, owned.rules, owned.elements, owned.maps, packets))

    def _told(self, asked: Asked, question: _Question, traced: Sequence[Traced]) -> dict[str, Any]:
        """As `-o json` prints it."""
        found = verdict(traced)
        packet = traced[0].packet
        kernel = self._kernel(question, traced)
        # What a policy isolates here is mute in both directions, whatever the policies say of this packet.
        outcome = Outcome.DENIED if kernel["muted"] and found.outcome is Outcome.ALLOWED else found.outcome
        return {
            "verdict": outcome.value,
            "policy": ", ".join(map(str, found.policies)) or None,
            "rule": found.rule,
            "packet": {
                "from": _end(question, packet.sender) or asked.source,
                "to": _end(question, packet.receiver) or asked.target,
                "domain": packet.domain,
                "protocol": packet.protocol.lower() if packet.protocol is not None else "icmp",
                "port": packet.port,
            },
            "oracle": {
                "allowed": all(each.decision.allowed for each in traced),
                "families": [_oracle(each) for each in traced],
            },
            "kernel": kernel,
            "node": self._node,
            "versions": {"homeport": _version(), "kernel": os.uname().release},
        }

    def _kernel(self, question: _Question, traced: Sequence[Traced]) -> dict[str, Any]:
        packet = traced[0].packet
        muted = {
            question.names[key]: port.name
            for key, (_, port) in question.ports.items()
            if port.name in self._policies.unenforced
        }
        absent = [
            {"direction": direction, "end": question.names[key], "reason": question.absent[key]}
            for direction, key in (("egress", packet.sender), ("ingress", packet.receiver))
            if key is not None and key in question.absent
        ]
        if not question.programs:
            tracking = self._switch.features.bridge_conntrack
            reason = "neither end has a port on this node" if tracking else UNTRACKED
            return {"asked": False, "reason": reason, "allowed": None, "muted": muted, "notAsked": absent}
        lives = [each.live for each in traced if each.live is not None]
        answers = [ruling.allowed for live in lives for ruling in (live.egress, live.ingress) if ruling is not None]
        unknown = any(answer is None for answer in answers)
        return {
            "asked": True,
            "reason": None,
            "allowed": None if unknown else all(answers) and not any(live.hindered for live in lives),
            "muted": muted,
            "notAsked": absent,
            "families": [_live(each) for each in traced],
        }


def _port(facts: Facts, endpoint: Endpoint) -> tuple[Place, Port] | None:
    """Where it is on this node, and how what it sends comes in."""
    fact = facts.port(endpoint.key.interface)
    interface = facts.interface(endpoint.key.interface)
    network = facts.network(endpoint.network)
    if fact is None or interface is None or network is None:
        return None
    tag = _vlan(endpoint.domain) if endpoint.trunk and endpoint.domain != network.l2_domain else None
    return Place(fact.side), Port(fact.name, interface.status.mac, tag, fact.node)


def _vlan(domain: L2Domain) -> int | None:
    text = domain.rpartition(":")[2]
    return int(text) if text.isdigit() else None


def _whereabouts(facts: Facts, endpoint: Endpoint) -> str:
    interface = facts.interface(endpoint.key.interface)
    holder = interface.active_holder if interface is not None else None
    return "is attached nowhere" if holder is None else f"is on node {holder.node}, whose kernel decides there"


def _end(question: _Question, key: EndpointKey | None) -> str | None:
    return None if key is None else question.names[key]


def _oracle(traced: Traced) -> dict[str, Any]:
    decision = traced.decision
    return _addresses(traced.packet) | {
        "allowed": decision.allowed,
        "egress": _ruling(decision.egress),
        "ingress": _ruling(decision.ingress),
    }


def _live(traced: Traced) -> dict[str, Any]:
    live = traced.live
    assert live is not None  # the kernel was asked
    return _addresses(traced.packet) | {
        "hindered": list(live.hindered),
        "zone": live.zone,
        "egress": _live_ruling(live.egress),
        "ingress": _live_ruling(live.ingress),
    }


def _addresses(packet: Packet) -> dict[str, Any]:
    return {"family": f"IPv{packet.source.version}", "source": str(packet.source), "target": str(packet.target)}


def _ruling(ruling: Ruling | LiveRuling | None) -> dict[str, Any] | None:
    if ruling is None:
        return None
    return {
        "allowed": ruling.allowed,
        "policy": None if ruling.policy is None else str(ruling.policy),
        "rule": ruling.rule,
        "isolatedBy": list(map(str, ruling.isolated_by)),
    }


def _live_ruling(ruling: LiveRuling | None) -> dict[str, Any] | None:
    told = _ruling(ruling)
    if told is None or ruling is None:
        return None
    more = {"chain": ruling.chain, "counter": ruling.counter, "packets": ruling.packets}
    return told | more | {"changed": list(ruling.changed)}


def _version() -> str:
    try:
        return version("homeport")
    except PackageNotFoundError:
        return "unknown"
