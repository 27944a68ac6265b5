"""Whether a firewall of the node would drop what is forwarded: what br_netfilter turns against bridged frames.

Only looked at, never changed: these tables are the node's own.
"""

from homeport_dataplane.errors import RulesetRefused
from homeport_dataplane.netns import Namespace
from homeport_dataplane.nft import Nft

_FAMILIES = ("ip", "ip6", "inet")


def forwards_between_bridges(namespace: Namespace) -> str | None:
    """The forward chain with policy drop, as `family table chain`; None where there is none."""
    nft = Nft(namespace)
    try:
        listed = nft.list_chains()
    except RulesetRefused:
        return None
    finally:
        nft.close()
    for each in listed:
        if each.get("hook") == "forward" and each.get("policy") == "drop" and each.get("family") in _FAMILIES:
            return f"{each['family']} {each['table']} {each['name']}"
    return None
