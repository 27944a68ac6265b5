"""What a node cannot do for a Network, and what the host can break where ports are on a bridge of its own: facts in,
conditions out. Pure.

In the switch's namespace none of this happens; there is nothing to say about Networks on a NIC or a bond.

    br_netfilter on, and …                          the condition
    a chain that drops what is forwarded            ForwardingDropped: frames between the bridge's ports are lost
    connection tracking in a bridge table,          FragmentsLost: what is put together for the tracking is too long
    on a bridge that filters VLANs                  for the tagged path, and is dropped
"""

from dataclasses import dataclass

from homeport_agent.placement import Place, Placement
from homeport_api.meta import Condition
from homeport_api.node import STATEFUL_POLICY_UNAVAILABLE

FORWARDING_DROPPED = "ForwardingDropped"
FRAGMENTS_LOST = "FragmentsLost"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """`br_netfilter`: bridged frames are given to the host's IP tables. `dropping` and `tracking` name the chain that
    drops what it should forward, and the bridge chain that asks for connection tracking; None where there is none."""

    br_netfilter: bool
    dropping: str | None = None
    tracking: str | None = None


def kernel_conditions(*, tracking: bool) -> tuple[Condition, ...]:
    """`tracking`: this kernel tracks bridged connections."""
    if tracking:
        return ()
    return (
        Condition(
            STATEFUL_POLICY_UNAVAILABLE,
            "True",
            "NoBridgeConntrack",
            "the kernel does not track bridged connections: guests that a policy isolates are refused or muted, others "
            "attach; use a kernel with CONFIG_NF_CONNTRACK_BRIDGE",
        ),
    )


def host_conditions(placement: Placement, facts: HostFacts) -> tuple[Condition, ...]:
    """Only what is true now is listed: a condition that ended is not there."""
    if placement.place is not Place.HOST or not facts.br_netfilter:
        return ()
    found = []
    if facts.dropping is not None:
        found.append(
            Condition(
                FORWARDING_DROPPED,
                "True",
                "BrNetfilter",
                f"br_netfilter gives the frames of bridge {placement.uplink} to {facts.dropping}, which drops them: "
                "accept bridged frames there, or sysctl net.bridge.bridge-nf-call-iptables=0 (and -ip6tables), or give "
                "the Network a NIC instead of a bridge",
            )
        )
    if facts.tracking is not None and placement.filtering:
        found.append(
            Condition(
                FRAGMENTS_LOST,
                "True",
                "BrNetfilter",
                f"br_netfilter is on and {facts.tracking} tracks connections: fragmented packets are lost on tagged "
                f"ports of bridge {placement.uplink}: sysctl net.bridge.bridge-nf-call-iptables=0 (and -ip6tables), or "
                "give the Network a NIC instead of a bridge",
            )
        )
    return tuple(found)
