"""What this kernel can do, found by trying it in a scratch namespace, and whether br_netfilter meddles in another."""

import threading
from dataclasses import dataclass

from homeport_api.errors import HomeportError
from homeport_dataplane.bridge import ensure_bridge
from homeport_dataplane.errors import RulesetRefused
from homeport_dataplane.netns import Namespace, make_anonymous
from homeport_dataplane.nft import Nft

_BRIDGE = "probe"
STATEFUL, BRIDGE_META, COUNT = "ct state established accept", "meta ibrpvid 1 accept", "ct count over 1 drop"
"""Rules that a kernel takes where it has the feature."""
_CHAIN = "table bridge probe {{ chain forward {{ type filter hook forward priority -200; {rule}; }}; }}"


@dataclass(frozen=True, slots=True)
class Features:
    """`vlan_filtering`: bridges know VLANs. `nft_bridge`: the bridge family, without which nothing can be attached.
    `bridge_conntrack`: stateful rules there; a kernel without them refuses the rule with EPROTO. `bridge_meta`: `meta
    ibrpvid` and its like. `connection_count`: `ct count` there."""

    vlan_filtering: bool
    nft_bridge: bool
    bridge_conntrack: bool
    bridge_meta: bool
    connection_count: bool


@dataclass(frozen=True, slots=True)
class BrNetfilter:
    """Whether bridged frames are also given to the IP tables of their namespace, by family. `loaded` is False where
    there is no such setting."""

    loaded: bool
    ip4: bool = False
    ip6: bool = False
    arp: bool = False


_lock = threading.Lock()
_known: list[Features] = []


def probe() -> Features:
    """Tries each feature once in the life of the process; loads the modules that a kernel has for them."""
    with _lock:
        if not _known:
            with make_anonymous("features") as scratch:
                _known.append(_probe(scratch))
        return _known[0]


def br_netfilter(namespace: Namespace) -> BrNetfilter:
    """As it is set now in this namespace; a single bridge may switch it on for itself besides."""
    values = {
        family: namespace.read_sysctl(f"bridge/bridge-nf-call-{tables}")
        for family, tables in (("ip4", "iptables"), ("ip6", "ip6tables"), ("arp", "arptables"))
    }
    if all(value is None for value in values.values()):
        return BrNetfilter(loaded=False)
    return BrNetfilter(True, ip4=values["ip4"] == "1", ip6=values["ip6"] == "1", arp=values["arp"] == "1")


def _probe(scratch: Namespace) -> Features:
    try:
        vlan_filtering = ensure_bridge(scratch, _BRIDGE, vlan_aware=True).vlan_filtering
    except HomeportError:
        vlan_filtering = False
    nft = Nft(scratch)
    try:
        return Features(
            vlan_filtering=vlan_filtering,
            nft_bridge=_takes(nft, "accept"),
            bridge_conntrack=_takes(nft, STATEFUL),
            bridge_meta=_takes(nft, BRIDGE_META),
            connection_count=_takes(nft, COUNT),
        )
    finally:
        nft.close()


def _takes(nft: Nft, rule: str) -> bool:
    """Applied for real: a dry run does not ask the kernel for everything."""
    try:
        nft.apply(b"add table bridge probe\ndelete table bridge probe\n" + _CHAIN.format(rule=rule).encode())
    except RulesetRefused:
        return False
    return True
