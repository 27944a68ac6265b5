"""The world of the kernel tier: two nodes with bonds, a VLAN-aware switch, four Networks, and guests on all of them.

            node "a"                      switch                     node "b"
    blue1 blue2  green1  ──┐   ┌───────────────────────────┐   ┌──  blue3  green2
    office1  trunk1      bond0 ┼─ n1p1, n1p2   n2p1, n2p2 ─┼ bond0  office2  trunk2
                               └───────────────────────────┘

    blue     VLAN 100       192.0.2.x      the addresses of blue and green are the same
    green    VLAN 200       192.0.2.x
    office   untagged       198.51.100.x
    trunk    VLAN 10 untagged, 100 and 200 to 202 tagged: its guests have eth0.100 and eth0.200 besides

It is built once for all tests here, since everything is many times slower in this kernel; each leaves it as it was.
"""

import contextlib
import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from homeport_api.node import NodeReport
from homeport_api.wire import NETWORK, REPORT
from homeport_cni.install import Shim, install
from homeport_netns_fixtures import cni
from homeport_netns_fixtures.capture import Capture, Frame
from homeport_netns_fixtures.etcd import Etcd
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.topology import Node, World
from homeport_store import keys
from homeport_store.connect import StoreOptions, connect
from homeport_store.etcd import EtcdStore
from homeport_store.objects import Objects

WITHIN = 30.0
CALL_SECONDS = 120.0
"""Longer than a shim waits for its agent."""
BROADCAST = "ff:ff:ff:ff:ff:ff"
BRIDGE, UPLINK = "hpb-bond0", "hpu-bond0"
GUESTS = {
    "a": {
        "blue1": ("blue", 11),
        "blue2": ("blue", 12),
        "green1": ("green", 11),
        "office1": ("office", 11),
        "trunk1": ("trunk", 11),
    },
    "b": {"blue3": ("blue", 13), "green2": ("green", 12), "office2": ("office", 12), "trunk2": ("trunk", 12)},
}
PREFIXES = {
    "blue": ("192.0.2.", "2001:db8:2::"),
    "green": ("192.0.2.", "2001:db8:2::"),
    "office": ("198.51.100.", "2001:db8:51::"),
    "trunk": ("203.0.113.", "2001:db8:113::"),
}


def wait_until(condition: Callable[[], object], what: str, within: float = WITHIN, *, say: bool = True) -> float:
    """Returns how long it took, and prints it."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + within, f"not within {within:.0f} s: {what}"
        time.sleep(0.01)
    took = time.monotonic() - began
    if say:
        print(f"{what}: {took:.3f} s")
    return took


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints how long the block took."""
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.1f} s")


def ruleset(namespace: Namespace) -> str:
    """All rules and elements, without counts; but for sets that the kernel fills by itself, whose elements come and
    go."""
    listed = namespace.run("nft", "--stateless", "list", "ruleset").stdout
    return re.sub(r"\tset (new_flows|flows_from|flows_to|claims|used[46]) \{.*?\n\t\}\n", "", listed, flags=re.DOTALL)


def frame(*types: int, source: str, to: str = BROADCAST, tags: tuple[int, ...] = ()) -> bytes:
    """`types` are the types after the addresses: a tag's type is followed by the next of `tags`, the last by 50 bytes
    that are unlike those of any other frame."""
    head, vlans = bytes.fromhex((to + source).replace(":", "")), list(tags)
    for each in types:
        head += each.to_bytes(2, "big")
        if each in (0x8100, 0x88A8):
            head += vlans.pop(0).to_bytes(2, "big")
    return head + os.urandom(50)


def body(data: bytes) -> bytes:
    """What tells a frame of `frame` from all others, whatever became of its tags."""
    return data[-50:]


@dataclass(slots=True)
class Guest:
    """A guest's namespace with `eth0` attached to a Network by CNI."""

    name: str
    network: str
    node: Node
    namespace: Namespace
    mac: str = ""
    port: str = ""

    @property
    def number(self) -> int:
        return GUESTS[self.node.name][self.name][1]

    @property
    def address(self) -> str:
        return f"{PREFIXES[self.network][0]}{self.number}"

    @property
    def address6(self) -> str:
        return f"{PREFIXES[self.network][1]}{self.number}"


class SteadyPing:
    """Twenty echo requests a second for as long as the block runs; `lost` afterwards are those never answered, but for
    the one that may still have been on its way."""

    def __init__(self, namespace: Namespace, address: str, directory: Path) -> None:
        self._log = Path(tempfile.mkstemp(prefix="ping-", dir=directory)[1])
        self._process = namespace.popen("ping", "-n", "-i", "0.05", address, log=self._log)
        wait_until(lambda: self._answered() >= {1}, f"{address} answers the steady ping")

    @property
    def lost(self) -> int:
        seen = self._answered()
        return max(seen) - len(seen)

    def _answered(self) -> set[int]:
        return set(map(int, re.findall(r"bytes from .*icmp_seq=(\d+)", self._log.read_text())))

    def __enter__(self) -> "SteadyPing":
        return self

    def __exit__(self, *_: object) -> None:
        last = max(self._answered())
        wait_until(lambda: max(self._answered()) > last, "the steady ping is answered at the end")
        self._process.send_signal(signal.SIGINT)
        self._process.wait(WITHIN)
        print(f"steady ping: {max(self._answered())} sent, {self.lost} lost")


@dataclass
class Lan:
    """The world, and what tests ask of it. `guests` by name, as drawn above."""

    world: World
    etcd: Etcd
    guests: dict[str, Guest] = field(default_factory=dict)

    @property
    def a(self) -> Node:
        return self.world.node("a")

    @property
    def b(self) -> Node:
        return self.world.node("b")

    def __getitem__(self, name: str) -> Guest:
        return self.guests[name]

    # The command line and CNI

    def homeport(self, node: Node, *arguments: str, stdin: str = "") -> str:
        env = {"HOMEPORT_ETCD_ENDPOINTS": ",".join(self.etcd.endpoints)}
        return node.homeport(*arguments, stdin=stdin, env=env).stdout

    def cni(
        self, command: str, node: Node, network: str, container: str, guest: Namespace | None, **args: str
    ) -> cni.Answer:
        return cni.call(
            node.directory / "cni" / "homeport",
            command,
            {"cniVersion": "1.1.0", "name": network, "type": "homeport", "network": network},
            inside=node.namespace,
            container_id=container,
            netns=guest,
            ifname="eth0",
            args={"VM_NAME": container, **args},
            timeout=CALL_SECONDS,
        )

    def install(self, node: Node) -> None:
        """The Python shim: compiling the other one takes long in here, and one behaviour is held for both elsewhere."""
        install(node.directory / "cni", node.run_dir, prefer=Shim.PYTHON)

    def attach(self, node: Node, name: str, network: str, *addresses: str) -> Guest:
        namespace = node.guest(name)
        asked = {"IP": ",".join(addresses)} if addresses else {}
        answer = self.cni("ADD", node, network, name, namespace, **asked)
        assert answer.error == 0, answer.result
        port, end = answer.result["interfaces"][1:]
        return Guest(name, network, node, namespace, end["mac"], port["name"])

    @contextlib.contextmanager
    def unattached(self, node: Node) -> Iterator[Namespace]:
        """A guest's namespace for an ADD that may fail."""
        namespace = node.guest("unattached")
        try:
            yield namespace
        finally:
            namespace.delete()

    def detach(self, guest: Guest) -> None:
        """As a runtime does: again for as long as the answer is to try again later."""

        def done() -> bool:
            error = self.cni("DEL", guest.node, guest.network, guest.name, guest.namespace).error
            assert error in (0, 11), error
            return error == 0

        wait_until(done, f"DEL of {guest.name}", within=2 * CALL_SECONDS)
        guest.namespace.delete()

    def populate(self, node: Node, *, ask: bool = True) -> None:
        """The node's guests of the drawing; those of a trunk with their VLAN sub-interfaces. The first time they ask
        for their addresses; later they have them anyway."""
        for name, (network, number) in GUESTS[node.name].items():
            addresses = [f"{prefix}{number}" for prefix in PREFIXES[network]] if ask else []
            guest = self.attach(node, name, network, *addresses)
            self.guests[name] = guest
            if network == "trunk":
                for vlan in (100, 200):
                    guest.namespace.ip(
                        f"link add link eth0 name eth0.{vlan} type vlan id {vlan}",
                        f"address add 192.0.2.{number + 20}/24 dev eth0.{vlan}",
                        f"address add 2001:db8:2::{number + 20}/64 dev eth0.{vlan} nodad",
                        f"link set eth0.{vlan} up",
                    )

    # What is in the store

    @cached_property
    def store(self) -> EtcdStore:
        made = connect(StoreOptions(Path("/nonexistent"), self.etcd.endpoints))
        return self.world.stack.enter_context(contextlib.closing(made))

    def apply(self, name: str, *, pool: str | None, uplink: str = "bond0", vlan: int | None = None) -> None:
        """A Network as the command line would store it, which takes many seconds to start in here."""
        spec: dict[str, Any] = {"type": "L2", "nodeInterfaceMatcher": {"interfaceName": uplink}}
        spec |= {"ipam": {"pools": [{"cidr": pool}]}} if pool else {}
        spec |= {"l2NetworkConfig": {"vlanID": vlan}} if vlan else {}
        manifest = {"apiVersion": "homeport.dev/v1", "kind": "Network", "metadata": {"name": name}, "spec": spec}
        Objects(self.store).networks.save(NETWORK.parse(manifest)[0])
        for node in (self.a, self.b):
            self.wait_report(node, name, lambda _: True, f"node {node.name} knows Network {name}")

    def delete_network(self, name: str) -> None:
        networks = Objects(self.store).networks
        networks.delete(networks.get(name))
        for node in (self.a, self.b):
            wait_until(lambda node=node: self.report(node, name) is None, f"node {node.name} has forgotten {name}")

    def report(self, node: Node, network: str) -> NodeReport | None:
        record = self.store.get(keys.report(node.name, network))
        return None if record is None else REPORT.loads(record.value, record.mod_revision)

    def wait_report(self, node: Node, network: str, wanted: Callable[[NodeReport], object], what: str) -> NodeReport:
        def right() -> bool:
            report = self.report(node, network)
            return report is not None and bool(wanted(report))

        wait_until(right, what)
        report = self.report(node, network)
        assert report is not None
        return report

    # What is in the kernel

    def vlans(self, node: Node) -> dict[str, set[tuple[int, ...]]]:
        """(VLAN ID, 1 for PVID, 1 for untagged) of every port in the node's switch."""
        return self.vlans_of(node.switch)

    def vlans_of(self, namespace: Namespace) -> dict[str, set[tuple[int, ...]]]:
        done = namespace.run("bridge", "-json", "vlan", "show")
        return {
            port["ifname"]: {
                (vlan, int("PVID" in entry.get("flags", ())), int("Egress Untagged" in entry.get("flags", ())))
                for entry in port["vlans"]
                for vlan in range(entry["vlan"], entry.get("vlanEnd", entry["vlan"]) + 1)
            }
            for port in json.loads(done.stdout or "[]")
        }

    def ports(self, node: Node) -> list[str]:
        return [link["ifname"] for link in node.switch.show("link") if link.get("ifalias", "").startswith("homeport:")]

    def forwards(self, node: Node, port: str) -> bool:
        """Whether the bridge would let frames of the port through: its link is up at both ends."""
        (link,) = json.loads(node.switch.run("bridge", "-json", "link", "show", "dev", port).stdout)
        return bool(link["state"] == "forwarding" and "LOWER_UP" in link["flags"])

    def drops(self, node: Node) -> dict[str, int]:
        """The drop counters of the guard rules."""
        done = node.switch.run("nft", "-j", "list", "table", "bridge", "homeport")
        counters = [each["counter"] for each in json.loads(done.stdout)["nftables"] if "counter" in each]
        return {counter["name"]: counter["packets"] for counter in counters}

    def learned(self, node: Node, port: str) -> set[tuple[str, int]]:
        """(MAC, VLAN) of what the bridge learned on a port."""
        entries = json.loads(node.switch.run("bridge", "-json", "fdb", "show", "br", BRIDGE).stdout)
        return {
            (entry["mac"], entry.get("vlan", 0))
            for entry in entries
            if entry["ifname"] == port and entry.get("state") != "permanent"
        }

    # What crosses

    @contextlib.contextmanager
    def wires(self) -> Iterator["Wires"]:
        """All cables between nodes and switch."""
        with contextlib.ExitStack() as stack:
            yield Wires(
                {
                    node.name: [stack.enter_context(Capture(self.world.switch, port)) for port in node.ports]
                    for node in self.world.nodes
                }
            )

    def steady_ping(self, source: str, target: str) -> SteadyPing:
        return SteadyPing(self[source].namespace, self[target].address, self.world.directory)


@dataclass(frozen=True, slots=True)
class Wires:
    """Captures on the switch's end of every cable, by node."""

    captures: Mapping[str, list[Capture]]

    def sent(self, node: Node) -> list[Frame]:
        """What the node has put on its cables so far."""
        return [each for capture in self.captures[node.name] for each in capture if not each.outgoing]

    def wait_sent(self, node: Node, data: bytes) -> Frame:
        def found() -> list[Frame]:
            return [each for each in self.sent(node) if body(each.data) == body(data)]

        wait_until(found, f"a frame of node {node.name} is on the wire")
        return found()[0]


def ping(guest: Guest, address: str, *, device: str = "eth0", size: int = 56, wait: int = 5) -> bool:
    """Whether an echo request out of `device` is answered within `wait` seconds."""
    argv = ["ping", "-n", "-q", "-c", "1", "-W", str(wait), "-I", device, "-s", str(size), address]
    return guest.namespace.run(*argv, check=False, timeout=60).returncode == 0
