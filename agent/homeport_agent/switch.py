"""The node's switch: bridges, uplinks, ports and their guard rules, made from placements. Glue over the dataplane.

    wire ──► admit ──► open        a port is muted until `open`: no VLAN on it, and not among those who may speak
      ▲                  │
      └──── unplug ◄── mute

Every verb may be repeated. What a verb needs (a bridge, an uplink) is ensured by it, so that nothing depends on the
order in which Networks, uplinks and attachments appear. Ports on an existing bridge live in the host namespace, with a
table of their own there; everything else is in the switch's own namespace.
"""

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from homeport_agent.placement import Place, Placement, UplinkFacts, UplinkKind, place, uplink_vlans
from homeport_agent.ports import Port, guest_config
from homeport_api.addresses import MacDomain
from homeport_api.attachment import AttachedNic, PortKind
from homeport_api.errors import Conflict, HomeportError, Unavailable, UplinkUnusable
from homeport_api.network import Network
from homeport_dataplane import bridge, features, links, marks, nft, tap, uplink, veth, vlan
from homeport_dataplane.netns import Namespace, ensure_named, prepare_switch
from homeport_policy import guards, render

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Guest:
    """Where the guest's end is. `netns` for a veth, `tap` for a tap's own name. `configure` False: the guest sets its
    addresses itself. `default_route`: its first NIC is its way out."""

    netns: Namespace | None = None
    tap: str = ""
    configure: bool = True
    default_route: bool = True

    @property
    def inode(self) -> int:
        return 0 if self.netns is None else self.netns.identity.inode


class _Side:
    """One namespace with ports of ours: the switch, or the host for existing bridges."""

    def __init__(self, namespace: Namespace, placement: guards.Placement, table: str) -> None:
        self.namespace = namespace
        self.placement = placement
        self.table = table
        self.nft = nft.Nft(namespace)
        self.ruled = False


class Switch:
    """Thread-safe. `namespace_name` names the switch and, but for dashes, its nft table in the host namespace."""

    def __init__(self, namespace_name: str) -> None:
        self._name = namespace_name
        self.host = Namespace.host()
        self.namespace = ensure_named(namespace_name)
        prepare_switch(self.namespace)
        self.features = features.probe()
        self._sides = {
            Place.SWITCH: _Side(self.namespace, guards.Placement.SWITCH, guards.TABLE),
            Place.HOST: _Side(self.host, guards.Placement.HOST_BRIDGE, namespace_name.replace("-", "_")),
        }
        self._lock = threading.RLock()
        self._facts: dict[str, UplinkFacts] = {}
        self._bridges: set[tuple[Place, str]] = set()
        self._ports: dict[str, Port] = {}
        self._discarded: dict[tuple[int, str], str] = {}
        self._networks: tuple[Network, ...] = ()
        self.ensure_rules(Place.SWITCH)
