"""The node's switch: bridges, uplinks, ports and their guard rules, made from placements. Glue over the dataplane.

    wire ──► admit ──► open        a port is muted until `open`: no VLAN on it, and not among those who may speak
      ▲                  │
      └─── unplug ◄──── mute

In the switch, who is not admitted is dropped. On an existing bridge he is not ours and is let pass, so there the guards
of a port are in the kernel before it is, and go after it.

Every verb may be repeated. What a verb needs (a bridge, an uplink) is ensured by it, so that nothing depends on the
order in which Networks, uplinks and attachments appear. Ports on an existing bridge live in the host namespace, with a
table of their own there; everything else is in the switch's own namespace.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import assert_never

from homeport_agent.placement import Place, Placement, UplinkFacts, UplinkKind, collide, place, uplink_vlans
from homeport_agent.ports import Port
from homeport_api.addresses import IpAddress, L2Domain, MacAddress, MacDomain
from homeport_api.attachment import PortKind
from homeport_api.errors import BadEnvironment, Conflict, HomeportError, NotAllowed, Unavailable
from homeport_api.network import Network
from homeport_cni.result import ResultInterface
from homeport_dataplane import bridge, conntrack, features, links, marks, nft, tap, uplink, veth, vlan
from homeport_dataplane.guest import GuestConfig, GuestState, configure_guest, read_guest
from homeport_dataplane.netns import Namespace, ensure_named, ensure_switch_settings
from homeport_dataplane.port import Port as Plug
from homeport_policy import forward, guards
from homeport_policy.chains import DELIVER
from homeport_policy.listing import read_element, read_key
from homeport_policy.render import fingerprints, render
from homeport_policy.ruleset import Change, Element, Key, Ruleset
from homeport_policy.update import is_of_program

log = logging.getLogger(__name__)

Networks = Callable[[], Sequence[Network]]


@dataclass(frozen=True, slots=True)
class Guest:
    """Where the guest's end is: `netns` for a veth, None for a tap. `configure` False: the guest sets its addresses
    itself. `default_route`: its first NIC is its way out. `routed` False: no routes at all, for they would be the
    node's own."""

    netns: Namespace | None = None
    configure: bool = True
    default_route: bool = True
    routed: bool = True

    @property
    def inode(self) -> int:
        return 0 if self.netns is None else self.netns.identity.inode


class Side:
    """One namespace with ports of ours: the switch, or the host for existing bridges. `tracking`: its table asks for
    connections, which policies need. `room`: how many the kernel tracks there at most, None where it cannot count
    those of one port."""

    def __init__(self, namespace: Namespace, placement: guards.Placement, table: str, *, counts: bool) -> None:
        self.namespace = namespace
        self.placement = placement
        self.table = table
        self.room = (conntrack.limit(namespace) or forward.ROOM) if counts else None
        self.nft = nft.Nft(namespace)
        self.ruled = False
        self.tracking = False

    def base(self, *, tracking: bool) -> Ruleset:
        """Its table with no port in it."""
        return guards.base(self.placement, self.table, tracking=tracking, room=self.room)


class Switch:
    """Thread-safe. `name` is that of the switch's namespace and, with underscores, of its table on the host's side."""

    def __init__(self, name: str, networks: Networks) -> None:
        self.host = Namespace.host()
        self.namespace = ensure_named(name)
        self.features = features.probe()  # before there are settings of what it loads
        ensure_switch_settings(self.namespace)
        self._networks = networks
        counts = self.features.connection_count
        self._sides = {
            Place.SWITCH: Side(self.namespace, guards.Placement.SWITCH, guards.TABLE, counts=counts),
            Place.HOST: Side(self.host, guards.Placement.NODE_BRIDGE, name.replace("-", "_"), counts=counts),
        }
        self._sides[Place.SWITCH].tracking = self.features.bridge_conntrack
        self._lock = threading.RLock()
        self._facts: dict[str, UplinkFacts] = {}
        self._bridges: set[tuple[Place, str]] = set()
        self._open: dict[str, Port] = {}
        self._known: dict[str, Port] = {}
        self._uplink_vlans: dict[str, vlan.PortVlans] = {}
        self._zones: Mapping[L2Domain, int] = {}
        self._gone: Callable[[Port], None] | None = None
        self._discarded = threading.Event()
        self._stop = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="sweep", daemon=True)

    def start(self) -> None:
        self.ensure_rules(Place.SWITCH)
        self._discarded.set()  # by an agent that ended before it swept
        self._sweeper.start()

    def on_gone(self, gone: Callable[[Port], None]) -> None:
        """Who is told of ports that were unplugged."""
        self._gone = gone

    def put_zones(self, zones: Mapping[L2Domain, int]) -> None:
        """The connection tracking zones of all L2 domains. Uplinks have them at once; ports when they are admitted, and
        those that speak already when they are healed."""
        with self._lock:
            if zones == self._zones:
                return
            self._zones = dict(zones)
            for place, name in self._bridges:
                if place is Place.SWITCH:
                    for uplink_name in {each.placement.uplink for each in self._known.values()} - {None}:
                        if marks.bridge_name(MacDomain(str(uplink_name))) == name:
                            self._admit_uplink(str(uplink_name))

    def _admit_uplink(self, name: str) -> None:
        """Under the lock."""
        zones, untagged = [], None
        for domain, zone in self._zones.items() if self.features.bridge_conntrack else ():
            uplink_name, _, vlan_text = domain.partition(":")
            if uplink_name == name and vlan_text.isdigit():
                zones.append((int(vlan_text), zone))
            elif uplink_name == name:
                untagged = zone
        admitted = guards.admit_uplink(marks.uplink_name(name), zones, untagged)
        self._sides[Place.SWITCH].nft.apply(render(admitted))

    def close(self) -> None:
        """Stops what runs here. The switch itself stays, with every guest on it."""
        self._stop.set()
        self._discarded.set()
        self._sweeper.join(5.0)
        for side in self._sides.values():
            side.nft.close()

    # Where things go

    def place(self, network: Network) -> Placement:
        """Where the Network's ports go now. Raises UplinkUnusable or MtuTooLarge, with the remedy."""
        facts = None if network.spec.uplink is None else self.facts(network.spec.uplink)
        return place(network, self._networks(), facts, filtering=self.features.vlan_filtering)

    def facts(self, name: str) -> UplinkFacts:
        """What the uplink is on this node. A usable one is remembered until `forget`; a remedy counts at once."""
        with self._lock:
            known = self._facts.get(name)
        if known is not None and known.kind is not UplinkKind.MISSING and known.problem is None:
            return known
        seen = uplink.inspect(self.host, name)
        facts = _facts(seen, self.host)
        with self._lock:
            self._facts[name] = facts
        return facts

    def forget(self, name: str | None = None) -> None:
        """Somebody changed a link: what was known of it (None: of all) is looked up again when it is next needed."""
        with self._lock:
            if name is None:
                self._facts.clear()
                self._bridges.clear()
                self._uplink_vlans.clear()
            else:
                self._facts.pop(name, None)
                self._bridges = {(where, each) for where, each in self._bridges if each != name}
                self._uplink_vlans.pop(name, None)

    def side(self, where: Place) -> Side:
        return self._sides[where]

    def bridge_of(self, placement: Placement) -> str:
        if placement.place is Place.HOST:
            assert placement.uplink is not None
            return placement.uplink
        return marks.bridge_name(placement.domain)

    def ensure_bridge(self, placement: Placement) -> None:
        """The bridge and its uplink, ready to be joined. A bridge that others made is only looked at."""
        name = self.bridge_of(placement)
        with self._lock:
            if (placement.place, name) in self._bridges:
                return
            if placement.place is Place.HOST:
                bridge.get_foreign_bridge(self.host, name)
                self.ensure_rules(Place.HOST)
                self._admit_bridge(name)
            else:
                bridge.ensure_bridge(self.namespace, name, placement.filtering)
                if placement.filtering:
                    vlan.clear_bridge(self.namespace, name)
                if placement.uplink is not None:
                    uplink.ensure_uplink(self.host, self.namespace, placement.uplink, name)
                    self._admit_uplink(placement.uplink)
                    self._ensure_uplink_vlans(placement.uplink)
            self._bridges.add((placement.place, name))

    def _admit_bridge(self, name: str) -> None:
        found = links.find_link(self.host, name)
        side = self._sides[Place.HOST]
        if side.tracking and found is not None and found.mac is not None:
            side.nft.apply(render(guards.admit_bridge(MacAddress(str(found.mac)), side.table)))

    def ensure_rules(self, where: Place) -> bool:
        """The base table of one side; True when it was not as it should be. Elements that are there stay."""
        side = self._sides[where]
        with self._lock:
            if side.ruled:
                return False
            listed = side.nft.list_owned(side.table).rules
            side.tracking |= DELIVER in listed  # policies are in force there from before
            base = side.base(tracking=side.tracking)
            present = {name: rules for name, rules in listed.items() if not is_of_program(name)}
            wrong = present != fingerprints(base.chains)
            if wrong:
                side.nft.apply(render(base))
            side.ruled = True
            return wrong

    def tracks(self, where: Place) -> bool:
        """Whether the table of a side can enforce policies as it is."""
        return self._sides[where].tracking

    def track(self, where: Place) -> None:
        """The table of a side can enforce policies from now on. On the host's side not before it must: with
        br_netfilter on, a bridge where anybody asks for connections loses fragments on tagged ports."""
        side = self._sides[where]
        with self._lock:
            if side.tracking:
                return
            side.tracking, side.ruled = True, False
            self.ensure_rules(where)
            for place, name in self._bridges:
                if place is where is Place.HOST:
                    self._admit_bridge(name)

    def forget_rules(self, where: Place) -> None:
        with self._lock:
            self._sides[where].ruled = False

    # The life of a port

    def wire(self, port: Port, guest: Guest) -> None:
        """Both ends of the port, muted. A port that is there already keeps what it has."""
        with self._lock:
            self._known[port.name] = port  # before it exists: reconcile takes it for a stray otherwise
        self.ensure_bridge(port.placement)
        if port.placement.place is Place.HOST:
            self.admit([port])
        side = self._sides[port.placement.place]
        plug = Plug(
            port.name,
            self.bridge_of(port.placement),
            port.mark,
            marks.port_mac(port.nic.uid, port.nic.epoch),
            port.placement.mtu,
        )
        match port.kind:
            case PortKind.VETH | PortKind.HOST:
                if guest.netns is None:
                    raise BadEnvironment("a veth needs the guest's network namespace")
                veth.ensure_veth(side.namespace, plug, veth.Guest(guest.netns, port.nic.link, port.mac))
            case PortKind.TAP:
                tap.ensure_tap(self.host, side.namespace, plug)
            case PortKind.NONE:
                raise ValueError(f"{port.key} has no port: another plugin makes its link")
            case _:
                assert_never(port.kind)

    def admit(self, ports: Sequence[Port]) -> None:
        """The guards of these ports, in the kernel: read back, for what is not there guards nobody. A port that speaks
        already (a repeated ADD) is not silenced for it."""
        ports = [port for port in ports if port.name not in self.opened()]
        for where in {port.placement.place for port in ports}:
            mine = [port for port in ports if port.placement.place is where]
            side = self._sides[where]
            admitted = [guards.admit(self.guarded(each), side.table, tracking=side.tracking) for each in mine]
            side.nft.apply(b"".join(map(render, admitted)))
            there = side.nft.elements(guards.PORTS, side.table)
            missing = [port.name for port in mine if port.name not in there]
            if missing:
                raise Unavailable(f"the guard rules of {', '.join(missing)} are not in the kernel: try again")

    def open(self, ports: Sequence[Port]) -> None:
        """Lets the ports speak: uplink first, then the port's VLANs, then the rules."""
        with self._lock:
            for port in ports:
                self._make_way(port)
                self._open[port.name] = port
            for name in dict.fromkeys(port.placement.uplink for port in ports if port.placement.uplink):
                self._ensure_uplink_vlans(name)
        for port in ports:
            if port.placement.filtering:
                vlan.ensure_vlans(self._sides[port.placement.place].namespace, port.name, port.placement.port)
        for where in {port.placement.place for port in ports}:
            side = self._sides[where]
            names = [port.name for port in ports if port.placement.place is where]
            side.nft.apply(b"".join(render(guards.open_port(name, side.table)) for name in names))

    def mute(self, names: Iterable[str]) -> None:
        """Nothing passes these ports any more, either way. One that is gone is as mute as can be."""
        for name in names:
            with self._lock:
                port = self._open.pop(name, None) or self._known.get(name)
            side = self._side_of(name, port)
            if links.find_link(side.namespace, name) is None:
                continue
            if port is None or port.placement.filtering:
                vlan.ensure_vlans(side.namespace, name, vlan.MUTED)
            side.nft.apply(render(guards.mute(name, side.table)))

    def unplug(self, names: Iterable[str]) -> None:
        """Takes the ports out, muted or not: a veth is discarded and deleted later, a tap goes back to where it came
        from if somebody still has it open. What fails in the middle is a stray for reconcile."""
        for name in names:
            with self._lock:
                port = self._known.get(name)
                muted = port is not None and name not in self._open
            try:
                if not muted:
                    self.mute([name])
                self._unplug(name, port)
            finally:
                with self._lock:
                    gone = self._known.pop(name, None)
                if gone is not None and self._gone is not None:
                    self._gone(gone)
                self._discarded.set()  # not before: the kernel's word of a port that is still known wakes the healer

    def _unplug(self, name: str, port: Port | None) -> None:
        side = self._side_of(name, port)
        link = links.find_link(side.namespace, name)
        if link is not None and (link.kind != "tun" or not self._returned(side, name)):
            self._dispose(side, name)
        if port is not None:
            side.nft.apply(render(guards.remove(self.guarded(port), side.table, tracking=side.tracking)))
            if port.placement.uplink is not None:
                with self._lock:
                    self._ensure_uplink_vlans(port.placement.uplink)

    def _dispose(self, side: Side, name: str) -> None:
        """A link that waits for its deletion is a link still: on an existing bridge, one without guards."""
        if side is self._sides[Place.HOST]:
            links.delete_link(side.namespace, name)
        else:
            links.discard(side.namespace, name)

    def _returned(self, side: Side, name: str) -> bool:
        """False when the tap cannot go back, since its name is taken there now."""
        try:
            tap.return_tap(side.namespace, self.host, name)
        except (Conflict, NotAllowed) as error:
            log.warning("tap deleted port=%s: %s", name, error)
            return False
        return True

    def place_of(self, name: str) -> Place:
        """Which side the kernel has a port on; the switch, if none."""
        host = links.find_link(self.host, name)
        return Place.HOST if host is not None and host.mark is not None else Place.SWITCH

    def finish_returned(self) -> list[str]:
        """Taps that are back under their own names and still marked, for an agent ended in between: no ports any more.
        Their names. One that is on its way into the switch looks the same, and is known."""
        finished: list[str] = []
        for link in links.list_links(self.host):
            mark = link.mark
            if link.kind != "tun" or mark is None or mark.origin != link.name:
                continue
            if not self.plugged(marks.port_name(mark.uid, mark.epoch)):
                tap.finish_return(self.host, link.name)
                finished.append(link.name)
        return finished

    def _side_of(self, name: str, port: Port | None) -> Side:
        """Where a port is: a known one by its placement, another where the kernel has it."""
        if port is not None:
            return self._sides[port.placement.place]
        return self._sides[self.place_of(name)]

    def guarded(self, port: Port) -> guards.GuardedPort:
        """The port as its guard rules see it."""
        rights = port.rights
        return guards.GuardedPort(
            port.name,
            port.mac,
            port.placement.trunk,
            rights.anti_spoof,
            rights.addresses,
            rights.unbound,
            rights.forbidden,
            rights.dhcp_server,
            rights.router,
            port.kind is PortKind.HOST,
            None if port.domain is None else self._zones.get(port.domain),
            self._vlan_zones(port),
            port.placement.place is Place.HOST,
            guards.mark_of(port.nic.uid),
            port.placement.port.untagged if port.placement.trunk else None,
        )

    def _vlan_zones(self, port: Port) -> tuple[tuple[int, int], ...]:
        """Of a trunk: the zones of the VLANs that it sends with a tag."""
        if not port.placement.trunk:
            return ()
        found = []
        for domain, zone in self._zones.items():
            uplink_name, _, text = domain.partition(":")
            tagged = port.placement.port.tagged
            if uplink_name == port.placement.uplink and text.isdigit() and any(int(text) in span for span in tagged):
                found.append((int(text), zone))
        return tuple(sorted(found))

    def guards_of(self, port: Port) -> tuple[Element, ...]:
        """The elements of the port's guards, whether it speaks or not."""
        return guards.guards_of(self.guarded(port), tracking=self._sides[port.placement.place].tracking)

    def reguard(self, port: Port) -> None:
        """A port that speaks has these guards from now on, and is not silenced for it. What it had before and has no
        more is a stray."""
        side = self._sides[port.placement.place]
        elements = self.guards_of(port)
        side.nft.apply(render(Change(side.table, elements)))

    def let_use(self, name: str, address: IpAddress, instead_of: IpAddress | None = None) -> None:
        """The guest of a port may use an address from now on, in place of another where that is said; at once, and
        without a comparison of everything. So it may on its attachment's other ports of the Network. A port that is
        gone has no use for it."""
        with self._lock:
            asking = self._known.get(name)
            for port in tuple(self._known.values()) if asking is not None else ():
                if asking is None or (port.key, port.nic.network) != (asking.key, asking.nic.network):
                    continue
                addresses = (port.rights.addresses | {address}) - {instead_of}
                changed = replace(port, rights=replace(port.rights, addresses=frozenset(addresses)))
                self._known[port.name] = changed
                if port.name in self._open:
                    self._open[port.name] = changed
                side = self._sides[port.placement.place]
                side.nft.apply(render(guards.difference(self.guards_of(changed), self.guards_of(port), side.table)))

    def last_used(self, port: Port) -> Mapping[IpAddress, float]:
        """How many seconds ago the guest of a port last used each of its addresses, as the kernel noted it."""
        side = self._sides[port.placement.place]
        found: dict[IpAddress, float] = {}
        for name, key in ((guards.USED4, Key.IN_LINK_AND_SOURCE4), (guards.USED6, Key.IN_LINK_AND_SOURCE6)):
            for text, age in side.nft.ages(name, side.table).items():
                link, address = read_key(key.type, text)
                if link == port.name and isinstance(address, IPv4Address | IPv6Address):
                    found[address] = age
        return found

    def elements(self, where: Place) -> set[Element]:
        """What the kernel has of ports and uplinks in the guards' sets and maps."""
        side = self._sides[where]
        base = side.base(tracking=side.tracking)
        known = {each.name: each for each in base.sets if each.name in guards.OF_PORTS}
        listed = side.nft.list_owned(side.table)
        found = {read_element(known, name, key) for name in known for key in listed.elements.get(name, ())}
        for name in known:
            found |= {read_element(known, name, key, value) for key, value in listed.maps.get(name, {}).items()}
        return found

    def has_port(self, name: str) -> bool:
        """Whether the kernel still has the port, on either side."""
        for side in self._sides.values():
            link = links.find_link(side.namespace, name)
            if link is not None and link.mark is not None:
                return True
        return False

    def check(self) -> None:
        """Raises RulesetRefused when nft does not answer, Unavailable when the guard rules are not in the kernel."""
        side = self._sides[Place.SWITCH]
        ours = (nft.FAMILY, side.table)
        if not any((chain["family"], chain["table"]) == ours for chain in side.nft.list_chains()):
            raise Unavailable("the guard rules of the switch are not in the kernel")

    def configure(self, port: Port, guest: Guest, config: GuestConfig) -> None:
        """Addresses and routes on the guest's end."""
        if guest.netns is not None:
            configure_guest(guest.netns, port.nic.link, config)

    def read_guest(self, port: Port, guest: Guest) -> GuestState | None:
        return None if guest.netns is None else read_guest(guest.netns, port.nic.link)

    def links_of(self, port: Port, sandbox: str) -> tuple[ResultInterface, ...]:
        """Bridge, port and guest's link, as a CNI result names them."""
        bridge_name = self.bridge_of(port.placement)
        ours = marks.port_mac(port.nic.uid, port.nic.epoch)
        if port.placement.place is Place.SWITCH:
            bridge_mac = str(marks.bridge_mac(bridge_name))
        else:
            found = links.find_link(self.host, bridge_name)
            bridge_mac = str(found.mac) if found is not None and found.mac else ""
        return (
            ResultInterface(bridge_name, bridge_mac),
            ResultInterface(port.name, ours, mtu=port.placement.mtu),
            ResultInterface(port.nic.link, port.mac, sandbox, port.placement.mtu),
        )

    def opened(self) -> dict[str, Port]:
        """The ports that may speak, by name."""
        with self._lock:
            return dict(self._open)

    def plugged(self, name: str) -> bool:
        """Whether the port belongs to an attachment that lives or is being made."""
        with self._lock:
            return name in self._known

    def find_plugged(self, name: str) -> Port | None:
        with self._lock:
            return self._known.get(name)

    def remove_strays(self, where: Place, keep: Collection[str]) -> int:
        """Takes out the elements of the guard rules that belong to no port that lives or is being made; how many.
        `keep` are ports whose place is not known just now. On an existing bridge a link that is still there keeps
        its own, whosever it is: without them it would speak as it likes."""
        side = self._sides[where]
        if where is Place.HOST:
            keep = {*keep, *(link.name for link in links.list_links(side.namespace))}
        present = self.elements(where)
        with self._lock:  # after the listing: what was made since is known by now
            known = [port for port in self._known.values() if port.placement.place is where]
            ports = [(self.guarded(port), port.name in self._open) for port in known]
            wanted = guards.desired((), ports, tracking=side.tracking)
        keep = frozenset(keep) - {port.name for port in known}
        strays = [
            each for each in present - wanted if each.link not in keep and not each.link.startswith(marks.UPLINK_PREFIX)
        ]
        side.nft.apply(render(Change(side.table, delete=tuple(strays))))
        return len(strays)

    def remove_unused(self) -> list[str]:
        """Takes away the bridges that no Network has any more, and gives their uplinks back whole to the node; what
        went. A bridge stays while a port is on it or being made for it."""
        went: list[str] = []
        side = self._sides[Place.SWITCH]
        networks = self._networks()
        with self._lock:
            domains = {network.mac_domain for network in networks}
            uplinks = {network.spec.uplink for network in networks}
            for port in self._known.values():
                domains.add(port.placement.domain)
                uplinks.add(port.placement.uplink)
            used = {marks.bridge_name(domain) for domain in domains}
            used |= {marks.uplink_name(name) for name in uplinks if name is not None}
            present = links.list_links(self.namespace)
            joined = {link.master for link in present if link.mark is not None}
            for link in present:
                if not link.name.startswith(marks.OWN_PREFIXES) or link.name in used or link.index in joined:
                    continue
                if link.name.startswith(marks.UPLINK_PREFIX):
                    if link.master in joined:
                        continue
                    side.nft.apply(render(guards.remove_uplink(link.name)))
                links.delete_link(self.namespace, link.name)
                went.append(link.name)
            if went:
                self._bridges.clear()
                self._uplink_vlans.clear()
        return went

    def forget_open(self, name: str) -> None:
        """The kernel no longer has the port as it was opened: `admit` and `open` begin anew."""
        with self._lock:
            self._open.pop(name, None)

    def uses(self, uplink_or_bridge: str) -> bool:
        """Whether a link of this name in the host's namespace matters to any Network."""
        return any(network.spec.uplink == uplink_or_bridge for network in self._networks())

    def uplink_is_right(self, link: str, present: vlan.PortVlans) -> bool:
        """Whether an uplink's link in the switch carries what it was last given."""
        with self._lock:
            given = {marks.uplink_name(name): vlans for name, vlans in self._uplink_vlans.items()}
        return given.get(link, present) == present

    def bridge_is_right(self, link: links.Link) -> bool:
        """Whether a bridge of ours has the settings it was given and no VLAN of its own; True for what is no bridge."""
        if link.kind != "bridge":
            return True
        found = bridge.find_bridge(self.namespace, link.name)
        if found is None:
            return False
        filtering = self.features.vlan_filtering
        return bridge.is_right(found, filtering) and vlan.find_vlans(self.namespace, link.index) == vlan.MUTED

    def owns(self, name: str) -> bool:
        """Whether a link of this name in the switch is a bridge or an uplink of ours."""
        return name.startswith(marks.OWN_PREFIXES)

    def adopt(self, port: Port, *, is_open: bool) -> None:
        """After a restart: a port that is there already is known from now on. One that is known to be elsewhere moves
        to its new VLANs here, for what is recorded of a port is what others rely on."""
        with self._lock:
            present = self._open.get(port.name)
            if is_open and present is not None and present.placement != port.placement:
                self._move(present, port)
            self._known[port.name] = port
            if is_open:
                self._open[port.name] = port

    def _make_way(self, port: Port) -> None:
        """Ports of an untagged Network whose inner VLAN ID is the Network's of this port by now move away first: the
        two would be one network until reconcile comes. Under the lock."""
        for other in tuple(self._open.values()):
            if collide(port.placement, other.placement):
                network = next((each for each in self._networks() if each.name == other.nic.network), None)
                moved = None if network is None else replace(other, placement=self.place(network))
                if moved is None or collide(port.placement, moved.placement):
                    raise Unavailable(f"VLANs of uplink {port.placement.uplink} are being changed: try again")
                self._move(other, moved)
                self._open[other.name] = self._known[other.name] = moved

    def _move(self, port: Port, moved: Port) -> None:
        """Gives a port that stays on its bridge its new VLANs. One that is gone is reconcile's. Under the lock."""
        stays = (port.placement.place, port.placement.domain) == (moved.placement.place, moved.placement.domain)
        side = self._sides[port.placement.place]
        if stays and moved.placement.filtering and links.find_link(side.namespace, port.name) is not None:
            vlan.ensure_vlans(side.namespace, port.name, moved.placement.port)

    def _ensure_uplink_vlans(self, name: str) -> None:
        """The uplink carries exactly the VLANs of its open ports. Under the lock."""
        placements = [
            port.placement
            for port in self._open.values()
            if port.placement.uplink == name and port.placement.place is Place.SWITCH
        ]
        if not self.features.vlan_filtering:
            return
        wanted = uplink_vlans(placements)
        if self._uplink_vlans.get(name) == wanted:
            return
        link = marks.uplink_name(name)
        if links.find_link(self.namespace, link) is None:
            return
        vlan.ensure_vlans(self.namespace, link, wanted)
        self._uplink_vlans[name] = wanted

    def _sweep(self) -> None:
        """Deleting a veth waits for the kernel's RCU; all that wait together wait once."""
        while not self._stop.is_set():
            self._discarded.wait()
            self._discarded.clear()
            for side in self._sides.values():
                try:
                    links.sweep(side.namespace)
                except HomeportError as error:
                    log.warning("sweep failed side=%s error=%s", side.namespace.label, error)
                    self._discarded.set()
                    self._stop.wait(1.0)


def _facts(seen: uplink.Uplink, host: Namespace) -> UplinkFacts:
    """The dataplane's picture of an uplink as placement's facts."""
    if seen.kind is uplink.UplinkKind.MISSING or seen.link is None:
        return UplinkFacts(UplinkKind.MISSING)
    if seen.kind is uplink.UplinkKind.BRIDGE:
        found = bridge.get_foreign_bridge(host, seen.name)
        return UplinkFacts(
            UplinkKind.BRIDGE,
            seen.link.mtu,
            host_vlans={},
            filtering=found.vlan_filtering,
            default_pvid=found.default_pvid,
        )
    return UplinkFacts(UplinkKind.NIC, seen.link.mtu, seen.refusal, dict(seen.vlans))
