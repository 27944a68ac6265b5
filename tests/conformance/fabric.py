"""A switch with guests' ports and an uplink, in namespaces that vanish, and frames put on it and watched for.

    guest     guest     bystander                  the outside
    eth0      eth0      eth0                          wire
      │         │         │                            │
     hp0       hp1 ...   hpby ── VLAN-aware bridge ── hpu-eth1 (passthru macvlan on eth1)

The links are made once and serve every volley. One processor does all of it, so frames arrive in the order in which
they were sent: when a volley's last frame is there, a frame that has not arrived never will.
"""

import contextlib
import ctypes
import json
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network
from pathlib import Path

from homeport_api.addresses import IpInterface, MacDomain, VlanId, VlanRange
from homeport_api.interface import InterfaceKey
from homeport_dataplane import marks, uplink
from homeport_dataplane.bridge import ensure_bridge
from homeport_dataplane.errors import RulesetRefused
from homeport_dataplane.guest import GuestConfig, GuestRoute, configure_guest
from homeport_dataplane.netns import Namespace, ensure_switch_settings, entered, make_anonymous
from homeport_dataplane.nft import TABLE, Nft
from homeport_dataplane.port import Port
from homeport_dataplane.veth import Guest, ensure_veth
from homeport_dataplane.vlan import PortVlans, ensure_vlans
from homeport_netns_fixtures import netns
from tests.conformance import talks
from tests.conformance.scene import HERE, STRANGERS_MAC, UPLINK, VLANS, mac_of
from tests.conformance.volley import WIRE, Heard, Record, Run, Session, Sighting, Volley

LINK, OUTER_LINK = "eth0", "outside"
BRIDGE = marks.bridge_name(MacDomain("eth1"))
WITHIN = 30.0
_NO_TABLE = f"add table bridge {TABLE}\ndelete table bridge {TABLE}\n".encode()
_ALL = 0x0003
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SOL_PACKET, _IGNORE_OUTGOING = 26, 33, 263, 23
_OTHER_VLANS = (VlanRange(VlanId(300), VlanId(310)),)
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"


@dataclass(slots=True)
class Fabric:
    """Made by `build`. `guests` has the namespace of each port's guest, and of the wire."""

    switch: Namespace
    nft: Nft
    guests: Mapping[str, Namespace]
    sockets: Mapping[str, socket.socket]
    trunk: bool = False
    _vlans: dict[str, int] = field(default_factory=dict)
    _addresses: dict[str, tuple[IpInterface, ...]] = field(default_factory=dict)
    _buffer: bytearray = field(default_factory=lambda: bytearray(2048))

    def play(self, run: Run) -> Iterator[Sighting | Heard | Record]:
        """A new table, then each volley in order, and the record last. After a volley whose rules are refused the table
        is not what the next one takes for granted, so that one says so too."""
        self.reset(trunk=run.trunk, br_netfilter=run.br_netfilter)
        self.nft.apply(run.base)
        sightings: list[Sighting] = []
        heard: list[Heard] = []
        began = time.monotonic()
        for volley in run.volleys:
            sightings.append(self.fire(volley))
            yield sightings[-1]
        for session in run.sessions:
            heard.append(self.converse(session))
            yield heard[-1]
        yield Record(tuple(sightings), tuple(heard), self.nft.list_owned().rules, time.monotonic() - began)

    def reset(self, *, trunk: bool, br_netfilter: bool) -> None:
        """No table and no VLAN on any port of a guest."""
        self.nft.apply(_NO_TABLE)
        for port in self._vlans:
            ensure_vlans(self.switch, port, PortVlans())
        self._vlans.clear()
        self.trunk = trunk
        self.set_br_netfilter(br_netfilter)

    def set_br_netfilter(self, on: bool) -> None:
        """Whether bridged packets go through the namespace's own IP hooks as well, as on a Kubernetes node."""
        for tables in ("iptables", "ip6tables", "arptables"):
            self.switch.ensure_sysctl(f"bridge/bridge-nf-call-{tables}", "1" if on else "0")
            found = self.switch.read_sysctl(f"bridge/bridge-nf-call-{tables}")
            assert found == ("1" if on else "0"), f"bridge-nf-call-{tables} is {found}: br_netfilter is not loaded"

    def fire(self, volley: Volley) -> Sighting:
        try:
            self._prepare(volley.rules, volley.vlans)
        except RulesetRefused as refused:
            return Sighting(complaint=f"rules are refused: {refused}")
        for end, data in volley.frames:
            self.sockets[end].send(data)
        arrivals, missing = self._collect(volley.awaited)
        complaint = f"never arrived: {sorted(missing)}" if missing else ""
        owned = self.nft.list_owned() if volley.listed else None
        return Sighting(tuple(arrivals), self.counters(), complaint, owned)

    def converse(self, session: Session) -> Heard:
        try:
            self._prepare(session.rules, session.vlans)
        except RulesetRefused as refused:
            return Heard(complaint=f"rules are refused: {refused}")
        for end, addresses in session.addresses.items():
            self._address(end, tuple(map(ip_interface, addresses)))
        denied = sum(not each.allowed for each in session.talks)
        return talks.hold(session.talks, self.guests, self.counters, denied)

    def _address(self, end: str, addresses: tuple[IpInterface, ...]) -> None:
        """These and no others, with everybody on the link."""
        if self._addresses.get(end) == addresses:
            return
        guest, link = self.guests[end], OUTER_LINK if end == WIRE else LINK
        if end in self._addresses:
            shell_of(guest).ip(f"address flush dev {link} scope global")
        routes = {GuestRoute(ip_network("0.0.0.0/0" if each.version == 4 else "::/0")) for each in addresses}
        configure_guest(guest, link, GuestConfig(addresses, tuple(routes)))
        self._addresses[end] = addresses

    def _prepare(self, rules: bytes, vlans: Mapping[str, int]) -> None:
        """Rules and VLANs. A port that leaves a VLAN is learned there no more."""
        self.nft.apply(rules)
        for port, vlan in vlans.items():
            if self._vlans.get(port) != vlan:
                ensure_vlans(self.switch, port, PortVlans(VlanId(vlan), _OTHER_VLANS if self.trunk else ()))
                self._vlans[port] = vlan

    def counters(self) -> dict[str, int]:
        return {name: count.packets for name, count in self.nft.counters().items()}

    def _collect(self, awaited: Iterable[tuple[str, int]]) -> tuple[list[tuple[str, int]], set[tuple[str, int]]]:
        """Everything that arrives until all that is awaited has, then the rest of what is there."""
        arrivals: list[tuple[str, int]] = []
        missing = set(awaited)
        end = time.monotonic() + WITHIN
        while missing and time.monotonic() < end:
            for name, watched in self.sockets.items():
                for number in self._read(watched):
                    arrivals.append((name, number))
                    missing.discard((name, number))
        for name, watched in self.sockets.items():
            arrivals += [(name, number) for number in self._read(watched)]
        return arrivals, missing

    def _read(self, watched: socket.socket) -> Iterator[int]:
        """The numbers of the frames that wait at an end; a marker's is 0."""
        buffer, receive = self._buffer, watched.recv_into
        with contextlib.suppress(BlockingIOError):
            while True:
                receive(buffer)
                kind = buffer[12:14]  # the kernel has put an outer tag aside
                if kind == _IPV4:
                    yield buffer[18] << 8 | buffer[19]
                elif kind == _IPV6:
                    yield buffer[16] << 8 | buffer[17]
                else:
                    yield 0


@contextlib.contextmanager
def build(ports: Sequence[str]) -> Iterator[Fabric]:
    """A switch with these ports, all without a VLAN, and no table."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_on_one_processor())
        switch, node = (stack.enter_context(make_anonymous(label)) for label in ("switch", "node"))
        ensure_switch_settings(switch)
        ensure_bridge(switch, BRIDGE, vlan_aware=True)
        node.ensure_sysctl("ipv6/conf/all/disable_ipv6", "1")
        shell_of(node).ip(
            f"link add eth1 type veth peer name {WIRE}",
            f"link set {WIRE} address {STRANGERS_MAC} up",
            f"link add link {WIRE} name {OUTER_LINK} type vlan id {VLANS[HERE]}",
        )
        uplink.ensure_uplink(node, switch, "eth1", BRIDGE)
        tagged = tuple(VlanRange(VlanId(vlan), VlanId(vlan)) for vlan in sorted(VLANS.values()))
        ensure_vlans(switch, UPLINK, PortVlans(None, tagged))
        guests = {port: _attach(stack, switch, port) for port in ports}
        sockets = {port: _listen(stack, guest, LINK) for port, guest in guests.items()}
        sockets[WIRE] = _listen(stack, node, WIRE)
        nft = Nft(switch)
        stack.callback(nft.close)
        _wait_forwarding(switch, [*ports, UPLINK])
        yield Fabric(switch, nft, {**guests, WIRE: node}, sockets)


def shell_of(namespace: Namespace) -> netns.Namespace:
    """For what only iproute2 can do."""
    return netns.Namespace(Path(f"/proc/{os.getpid()}/fd/{namespace.fd}"))


def _attach(stack: contextlib.ExitStack, switch: Namespace, port: str) -> Namespace:
    guest = stack.enter_context(make_anonymous(port))
    guest.ensure_sysctl("ipv6/conf/all/disable_ipv6", "1")
    guest.ensure_sysctl("ipv6/conf/default/disable_ipv6", "1")
    mark = marks.PortMark(InterfaceKey("conformance", port), port, 1)
    ours = Port(port, BRIDGE, mark, marks.port_mac(port, 1), 1500)
    ensure_veth(switch, ours, Guest(guest, LINK, mac_of(port)))
    configure_guest(guest, LINK, GuestConfig())
    return guest


def _listen(stack: contextlib.ExitStack, namespace: Namespace, link: str) -> socket.socket:
    """Sends on a link, and sees what comes in there: the numbered frames of guests and hosts outside, and markers."""
    with entered(namespace):
        made = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    program = _filter()
    memory = ctypes.create_string_buffer(b"".join(program))
    made.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HxxxxxxQ", len(program), ctypes.addressof(memory))
    )
    made.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
    made.bind((link, _ALL))
    made.setblocking(False)
    return made


def _filter() -> list[bytes]:
    """Classic BPF: source 02:00:5e:10:…, and IP or a RARP of the operation that markers have."""
    load_word, load_half, equal, give = 0x20, 0x28, 0x15, 0x06

    def step(code: int, value: int, hit: int = 0, miss: int = 0) -> bytes:
        return struct.pack("HBBI", code, hit, miss, value)

    return [
        step(load_word, 6),
        step(equal, 0x02005E10, 0, 6),
        step(load_half, 12),
        step(equal, 0x0800, 5, 0),
        step(equal, 0x86DD, 4, 0),
        step(equal, 0x8035, 0, 2),
        step(load_half, 20),
        step(equal, 4, 1, 0),
        step(give, 0),
        step(give, 2048),
    ]


def _wait_forwarding(switch: Namespace, links: Iterable[str]) -> None:
    """The bridge starts a port's forwarding a moment after its carrier came."""
    shell, waiting, end = shell_of(switch), set(links), time.monotonic() + WITHIN
    while waiting:
        assert time.monotonic() < end, f"{waiting} do not forward"
        listed = json.loads(shell.run("bridge", "-j", "link", "show").stdout)
        waiting -= {each["ifname"] for each in listed if each["state"] == "forwarding"}


@contextlib.contextmanager
def _on_one_processor() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
