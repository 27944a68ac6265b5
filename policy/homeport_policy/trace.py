"""One packet asked twice: of the oracle, by what is known, and of the kernel, by what it has loaded. Pure.

packets (`ends`) ──┬── evaluate ─────────────► oracle: both ends
                   └── live, if there is one ─► kernel: the ends whose ports are on this node
                                                   │
                  allowed · denied · disagree ◄────┘  a disagreement is a mistake of Homeport's, or somebody else's
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from homeport_api.networkpolicy import Direction, PolicyKey
from homeport_policy.evaluate import Decision, Packet, Ruling, evaluate
from homeport_policy.live import OUTSIDE, Live, LiveRuling, Port
from homeport_policy.snapshot import EndpointKey, Snapshot


class Outcome(StrEnum):
    ALLOWED = "allowed"
    DENIED = "denied"
    DISAGREE = "disagree"


@dataclass(frozen=True, slots=True)
class Here:
    """An end that has a port on this node, and the side that it is on."""

    port: Port
    live: Live


@dataclass(frozen=True, slots=True)
class LiveDecision:
    """None: that end has no port on this node, or is not asked. `hindered` are the guards that drop the packet whatever
    policies say; `zone` is its connection tracking zone."""

    egress: LiveRuling | None
    ingress: LiveRuling | None
    hindered: tuple[str, ...] = ()
    zone: int | None = None


@dataclass(frozen=True, slots=True)
class Traced:
    """`live` None: this node's kernel was not asked."""

    packet: Packet
    decision: Decision
    live: LiveDecision | None = None

    @property
    def disagrees(self) -> bool:
        """Only where both have an answer, and where the kernel's rules are not those that were loaded."""
        if self.live is None:
            return False
        pairs = ((self.decision.egress, self.live.egress), (self.decision.ingress, self.live.ingress))
        return any(live is not None and live.allowed is not _allows(ruling) for ruling, live in pairs)

    @property
    def allowed(self) -> bool:
        """By the oracle, and by the guards."""
        return self.decision.allowed and not (self.live is not None and self.live.hindered)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of all families together: allowed if each is. `policy` and `rule` are what decides: of what is denied nothing but
    the policies that isolate that end, of what is allowed the last that was asked."""

    outcome: Outcome
    policies: tuple[PolicyKey, ...] = ()
    rule: int | None = None


def trace(
    snapshot: Snapshot, packets: Sequence[Packet], here: Callable[[EndpointKey], Here | None] | None
) -> tuple[Traced, ...]:
    """Each packet by itself. `here` finds the port of an end on this node; None: its kernel cannot be asked."""
    return tuple(
        Traced(packet, evaluate(snapshot, packet), None if here is None else _ask(snapshot, packet, here))
        for packet in packets
    )


def verdict(traced: Sequence[Traced]) -> Verdict:
    """The first family that is denied speaks for all."""
    chosen = next((each for each in traced if not each.decision.allowed), traced[0])
    rulings = (chosen.decision.egress, chosen.decision.ingress)
    if any(each.disagrees for each in traced):
        outcome = Outcome.DISAGREE
    else:
        outcome = Outcome.ALLOWED if all(each.allowed for each in traced) else Outcome.DENIED
    for ruling in rulings:
        if ruling is not None and not ruling.allowed:
            return Verdict(outcome, ruling.isolated_by)
    if not all(each.allowed for each in traced):
        return Verdict(outcome)  # by a guard
    for ruling in reversed(rulings):
        if ruling is not None and ruling.policy is not None:
            return Verdict(outcome, (ruling.policy,), ruling.rule)
    return Verdict(outcome)


def _allows(ruling: Ruling | None) -> bool:
    """An end that the oracle does not ask lets everything pass."""
    return ruling is None or ruling.allowed


def _ask(snapshot: Snapshot, packet: Packet, here: Callable[[EndpointKey], Here | None]) -> LiveDecision:
    sender = here(packet.sender) if packet.sender else None
    receiver = here(packet.receiver) if packet.receiver else None
    zone = snapshot.zones.get(packet.domain)
    if sender is not None:
        # What comes from a port is in the zone that the kernel gives it, whatever ought to be.
        zone = sender.live.zone(packet, sender.port)
    egress = ingress = None
    hindered: list[str] = []
    if sender is not None:
        egress = sender.live.ask(packet, Direction.EGRESS, sender.port, zone)
        hindered += sender.live.hindered(packet, sender.port, None)
    if receiver is not None:
        together = sender is not None and sender.live is receiver.live
        origin = sender.port.name if together and sender is not None and sender.port.node else OUTSIDE
        ingress = receiver.live.ask(packet, Direction.INGRESS, receiver.port, zone, origin)
        hindered += receiver.live.hindered(packet, None, receiver.port)
    return LiveDecision(egress, ingress, tuple(hindered), zone)
