"""What a firewall of the node does that br_netfilter turns against bridged frames.

Only looked at, never changed: these tables are the node's own.
"""

from dataclasses import dataclass
from typing import Any

from homeport_dataplane.errors import RulesetRefused
from homeport_dataplane.netns import Namespace
from homeport_dataplane.nft import FAMILY, Nft

_FAMILIES = ("ip", "ip6", "inet")


@dataclass(frozen=True, slots=True)
class Firewall:
    """`dropping` is a forward chain with policy drop, `tracking` a bridge chain with a rule that asks for connection
    tracking, both as `family table chain`; None where there is none."""

    dropping: str | None = None
    tracking: str | None = None


def inspect_firewall(namespace: Namespace) -> Firewall:
    """As it is now. What nftables cannot list (another program's tables, a kernel without them) counts as nothing."""
    nft = Nft(namespace)
    try:
        return Firewall(_dropping(nft.list_chains()), _tracking(nft.list_rules(FAMILY)))
    except RulesetRefused:
        return Firewall()
    finally:
        nft.close()


def _dropping(chains: list[dict[str, Any]]) -> str | None:
    for each in chains:
        if each.get("hook") == "forward" and each.get("policy") == "drop" and each.get("family") in _FAMILIES:
            return f"{each['family']} {each['table']} {each['name']}"
    return None


def _tracking(rules: list[dict[str, Any]]) -> str | None:
    for each in rules:
        if _tracks(each.get("expr", ())):
            return f"{each['family']} {each['table']} {each['chain']}"
    return None


def _tracks(expression: Any) -> bool:
    """Whether a `ct` stands anywhere in a rule."""
    if isinstance(expression, dict):
        return "ct" in expression or any(_tracks(value) for value in expression.values())
    return isinstance(expression, list) and any(_tracks(value) for value in expression)
