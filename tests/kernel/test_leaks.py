"""Two hundred guests come up, and go on, under a flood that policy forbids, while policies change and the agent dies.

The flood comes from outside, to every guest in turn, from before its port exists. Each guest's namespace counts from
before it is attached: of what is forbidden nothing may arrive, of what is allowed something must.
"""

import contextlib
import ctypes
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from homeport_api.networkpolicy import NetworkPolicy
from homeport_api.wire import NETWORK, NETWORK_POLICY
from homeport_dataplane.netns import delete_named, ensure_named
from homeport_netns_fixtures import names
from homeport_netns_fixtures.netns import Namespace, named
from homeport_store.objects import Objects
from tests.asking import Refused, ask

from .lan import Lan, timed, wait_until

NETWORKS, EACH = 10, 20
FIRST_VLAN = 300
ALLOWED, FORBIDDEN = 7, 9
SOURCE_MAC, SOURCE = bytes.fromhex("02005e200001"), "10.66.0.1"
AT_ONCE = 4
SLOW = 400.0
A_SECOND, BURST = 1000, 20
_ETH_P_ALL, _SO_ATTACH_FILTER = 0x0003, 26


@dataclass(frozen=True, slots=True)
class Sink:
    """What reaches a guest's namespace of the two kinds, from before it has a link."""

    name: str
    namespace: Namespace
    vlan: int
    mac: bytes
    address: str
    forbidden: socket.socket
    allowed: socket.socket

    def request(self) -> dict[str, Any]:
        return {
            "vm": self.name,
            "namespace": "leak",
            "interface": "eth0",
            "network": network_name(self.vlan),
            "ips": [self.address],
            "mac": self.mac.hex(":"),
            "guest": self.namespace,
        }


def network_name(vlan: int) -> str:
    return f"leak{vlan}"


@dataclass(slots=True)
class Flood:
    """Frames on the wire of node a, so many a second that this kernel has time for something else: to each sink two
    that are forbidden and one that is not, round and round."""

    wire: socket.socket
    sinks: Sequence[Sink]
    sent: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Flood":
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        assert self._thread is not None
        self._thread.join()

    def _run(self) -> None:
        rounds = [datagram(sink, port) for port in (FORBIDDEN, ALLOWED, FORBIDDEN) for sink in self.sinks]
        for data in itertools.cycle(rounds):
            if self._ended.is_set():
                return
            with contextlib.suppress(OSError):
                self.wire.send(data)
                self.sent += 1
            if self.sent % BURST == 0:
                time.sleep(BURST / A_SECOND)


def datagram(sink: Sink, port: int) -> bytes:
    """Tagged with the guest's VLAN; UDP without a checksum (RFC 768)."""
    payload = b"homeport" * 4
    ends = socket.inet_aton(SOURCE) + socket.inet_aton(sink.address)
    header = struct.pack(">BBHHHBBH", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0) + ends
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + (0xFFFF - (total & 0xFFFF) - (total >> 16)).to_bytes(2) + header[12:]
    udp = struct.pack(">HHHH", 40000, port, 8 + len(payload), 0)
    return sink.mac + SOURCE_MAC + struct.pack(">HHH", 0x8100, sink.vlan, 0x0800) + header + udp + payload


def listen(namespace: Namespace, port: int) -> socket.socket:
    """All UDP to a port on any link of the namespace, present or yet to come."""
    load_byte, load_half, equal, give = 0x30, 0x28, 0x15, 0x06
    steps = [
        (load_half, 0, 0, 12),
        (equal, 0, 5, 0x0800),
        (load_byte, 0, 0, 23),
        (equal, 0, 3, 17),
        (load_half, 0, 0, 36),
        (equal, 0, 1, port),
        (give, 0, 0, 128),
        (give, 0, 0, 0),
    ]
    program = b"".join(struct.pack("HBBI", *step) for step in steps)
    memory = ctypes.create_string_buffer(program)
    made = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    filtering = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(memory))
    made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)
    made.setblocking(False)
    return made


def heard(listening: socket.socket) -> int:
    """How many since the last time."""
    for count in itertools.count():
        try:
            listening.recv(128)
        except BlockingIOError:
            return count
    raise AssertionError


def ingress(name: str, *rules: dict[str, Any]) -> NetworkPolicy:
    """For everybody in the namespace."""
    manifest = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "leak"},
        "spec": {"podSelector": {}, "ingress": list(rules)},
    }
    return NETWORK_POLICY.parse(manifest)[0]


@dataclass(slots=True)
class Restless:
    """Policies of the namespace come, change and go for as long as the block runs; none ever allows what is
    forbidden."""

    objects: Objects
    changes: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _failure: BaseException | None = None

    def __enter__(self) -> "Restless":
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        assert self._thread is not None
        self._thread.join()
        assert self._failure is None, self._failure

    def _run(self) -> None:
        try:
            for number in itertools.count():
                other = {
                    "from": [{"ipBlock": {"cidr": f"10.{number % 60}.0.0/16"}}],
                    "ports": [{"port": 1 + number % 6}],
                }
                nearly = {"from": [{"ipBlock": {"cidr": "10.66.0.0/16", "except": ["10.66.0.0/30"]}}]}
                saved = self.objects.policies.save(ingress("restless", other, nearly))
                self._ended.wait(0.25)
                self.objects.policies.delete(saved)
                self.changes += 2
                if self._ended.wait(0.25):
                    return
        except BaseException as failure:
            self._failure = failure


@pytest.fixture
def sinks(lan: Lan) -> Iterator[list[Sink]]:
    """Not attached yet; their Networks and the policy that isolates them are there. Node a has forgotten all of it
    afterwards."""
    objects = Objects(lan.store)
    with contextlib.ExitStack() as stack:
        for vlan in range(FIRST_VLAN, FIRST_VLAN + NETWORKS):
            saved = objects.networks.save(NETWORK.parse(network(vlan))[0])
            stack.callback(lan.delete_network, saved.meta.name)
        for vlan in range(FIRST_VLAN, FIRST_VLAN + NETWORKS):
            lan.wait_report(lan.a, network_name(vlan), lambda _: True, f"node a knows VLAN {vlan}")
        policy = objects.policies.save(ingress("echo", {"ports": [{"port": ALLOWED, "protocol": "UDP"}]}))
        stack.callback(objects.policies.delete, policy)
        made = []
        for vlan in range(FIRST_VLAN, FIRST_VLAN + NETWORKS):
            for number in range(EACH):
                namespace = stack.enter_context(quick_namespace(f"leak{vlan}-{number}"))
                ends = [stack.enter_context(listen(namespace, port)) for port in (FORBIDDEN, ALLOWED)]
                mac = bytes.fromhex("02005e21") + (vlan * 100 + number).to_bytes(2)
                made.append(Sink(f"leak{vlan}-{number}", namespace, vlan, mac, f"10.66.1.{number + 1}", *ends))
        print(f"{len(made)} namespaces are there")
        yield made


@contextlib.contextmanager
def quick_namespace(label: str) -> Iterator[Namespace]:
    """Without a program, whose start takes long in here."""
    name = names.unique(label)
    ensure_named(name).close()
    try:
        yield named(name)
    finally:
        delete_named(name)


def network(vlan: int) -> dict[str, Any]:
    return {
        "apiVersion": "homeport.dev/v1",
        "kind": "Network",
        "metadata": {"name": network_name(vlan)},
        "spec": {
            "type": "L2",
            "nodeInterfaceMatcher": {"interfaceName": "bond0"},
            "l2NetworkConfig": {"vlanID": vlan},
            "ipam": {"pools": [{"cidr": "10.66.0.0/16"}]},
        },
    }


def test_nothing_forbidden_arrives_while_guests_come_policies_change_and_the_agent_dies(
    lan: Lan, sinks: list[Sink]
) -> None:
    wire = lan.world.switch.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    wire.bind((lan.a.ports[0], 0))
    with (
        wire,
        attaching(lan, sinks) as attached,
        Flood(wire, sinks) as flood,
        Restless(Objects(lan.store)) as restless,
    ):
        with timed(f"attach of {len(sinks)} guests in a flood"):
            for number, _ in enumerate(attached, 1):
                if number % EACH == 0:
                    print(f"{number} attached after {flood.sent} datagrams", flush=True)
        require_tight(sinks, flood, restless)
        lan.a.agent.kill()
        time.sleep(1)
        lan.a.agent.start()
        with timed("start of the agent in a flood"):
            lan.a.agent.wait_ready(SLOW)
        require_tight(sinks, flood, restless)


@contextlib.contextmanager
def attaching(lan: Lan, sinks: Sequence[Sink]) -> Iterator[Iterator[object]]:
    """The answers, as they come. All are detached in the end."""
    run_dir = lan.a.run_dir
    with ThreadPoolExecutor(AT_ONCE) as workers:
        try:
            yield workers.map(lambda sink: ask(run_dir, "attach", **sink.request()), sinks)
        finally:
            if not lan.a.agent.alive:
                lan.a.agent.start()
                lan.a.agent.wait_ready(SLOW)
            with timed(f"detach of {len(sinks)} guests"):
                list(workers.map(lambda sink: detach(lan, sink), sinks))


def require_tight(sinks: Sequence[Sink], flood: Flood, restless: Restless) -> None:
    """From now on every guest hears what it may, twice over, and until then none has heard what it may not."""
    changes, sent = restless.changes, flood.sent
    for _ in range(2):
        for sink in sinks:
            heard(sink.allowed)
        for sink in sinks:
            wait_until(lambda sink=sink: heard(sink.allowed), f"{sink.name} hears what it may", say=False)
    wait_until(lambda: flood.sent - sent > 6 * len(sinks) and restless.changes > changes + 4, "policies change")
    leaked = {sink.name: count for sink in sinks if (count := heard(sink.forbidden))}
    print(
        f"{flood.sent} datagrams were sent, two thirds of them forbidden; {restless.changes} changes; leaked: {leaked}"
    )
    assert leaked == {}


def detach(lan: Lan, sink: Sink) -> None:
    with contextlib.suppress(Refused):
        ask(lan.a.run_dir, "detach", vm=sink.name, namespace="leak")
