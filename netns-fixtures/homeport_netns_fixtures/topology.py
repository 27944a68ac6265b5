"""Worlds: nodes with an agent each, the switch between them, guests, and what stands outside.

        node "a"                     switch                     node "b"
    ┌──────────────────┐     ┌───────────────────┐     ┌────────────────────┐
    │ run dir, data dir│     │  br0              │     │ bond0 = eth1, eth2 │
    │ eth1 ────────────┼─────┼─ n1p1       n2p1 ─┼─────┼─ eth1              │
    │ agent            │     │             n2p2 ─┼─────┼─ eth2   agent      │
    └───┬──────────────┘     └───────┬───────────┘     └────────────────────┘
    guests: namespaces          outside: a host on an access port, or on a trunk

    world = topology("a", NodeSpec("b", bond=True), etcd=etcd_three)
    for node in world.nodes:
        node.agent.start()
        node.agent.wait_ready()
    with world.wire(world.node("a")) as wire: ...

Where the kernel can, the switch's bridge filters VLANs: ports of nodes are trunks for every VLAN with VLAN 1 untagged,
as a switch comes from its box. Elsewhere it is a plain bridge, which passes every frame as it is. No link of a world is
ever in the machine's own namespace.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from homeport_netns_fixtures import capability, leftovers
from homeport_netns_fixtures.agent import AgentProcess
from homeport_netns_fixtures.capture import Capture
from homeport_netns_fixtures.etcd import Etcd
from homeport_netns_fixtures.guest import Guest, Nic
from homeport_netns_fixtures.netns import Namespace, create, named
from homeport_netns_fixtures.relay import Relay

BRIDGE = "br0"
NATIVE_VLAN = 1
ALL_OTHER_VLANS = "2-4094"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a node is like. `options` are the agent's, beyond those that say where it lives. With `bond`, the uplink is
    an active-backup bond of two NICs."""

    name: str
    bond: bool = False
    options: tuple[str, ...] = ()
    mtu: int = 1500


@dataclass(slots=True)
class Node:
    """One node: its namespace, its uplink, its agent and the guests that were made on it."""

    spec: NodeSpec
    namespace: Namespace
    directory: Path
    ports: tuple[str, ...]
    agent: AgentProcess
    boot_id: str
    relays: list[Relay] = field(default_factory=list)
    _guests: list[Namespace] = field(default_factory=list)
    _machines: list[Guest] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def uplink(self) -> str:
        return "bond0" if self.spec.bond else "eth1"

    @property
    def run_dir(self) -> Path:
        return self.directory / "run"

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def switch(self) -> Namespace:
        """The namespace of this node's own switch, which its agent makes."""
        return named(f"homeport-{hashlib.sha256(os.fsencode(self.run_dir)).hexdigest()[:8]}")

    def guest(self, label: str = "guest") -> Namespace:
        """A namespace to plug a port into, as a container runtime makes one. It goes with the world, or earlier by
        `delete`."""
        namespace = create(f"{self.name}-{label}")
        self._guests.append(namespace)
        return namespace

    def machine(self, name: str, nics: Sequence[Nic], *, addresses: Sequence[str] = ()) -> Guest:
        """A real virtual machine whose taps appear in this node's namespace; it boots while this returns."""
        guest = Guest(self.namespace, self.directory, name, nics, addresses=addresses)
        self._machines.append(guest)
        guest.start()
        return guest

    def homeport(
        self, *arguments: str, stdin: str = "", check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The command line on this node: `node.homeport("get", "networks", "-o", "json")`."""
        settings = {"HOMEPORT_RUN_DIR": os.fspath(self.run_dir), "HOMEPORT_DATA_DIR": os.fspath(self.data_dir)}
        settings["HOMEPORT_NODE"] = self.name
        command = (sys.executable, "-m", "homeport_cli", *arguments)
        # Where Python is emulated its start alone takes many seconds.
        environment = os.environ | settings | dict(env or {})
        return self.namespace.run(*command, stdin=stdin, check=check, timeout=120, env=environment)

    def power_off(self) -> None:
        """As if the plug were pulled: agent, its etcd and guests end at once, all links they had are gone, what is on
        the disk stays. The next start of the agent is another boot."""
        self.agent.kill()
        for machine in self._machines:
            machine.kill()
        leftovers.kill_processes_naming(os.fspath(self.directory))
        for namespace in (*self._guests, self.switch):
            namespace.delete()
        self._guests.clear()
        self.boot_id = str(uuid.uuid4())
        at = self.agent.options.index("--boot-id") + 1
        self.agent.options = (*self.agent.options[:at], self.boot_id, *self.agent.options[at + 1 :])

    def cut_store(self) -> None:
        """This node's way to an external etcd on the network fails; others keep theirs."""
        for relay in self.relays:
            relay.cut()

    def mend_store(self) -> None:
        for relay in self.relays:
            relay.mend()


@dataclass(slots=True)
class World:
    """Nodes and the switch between them."""

    directory: Path
    switch: Namespace
    vlans: bool
    stack: contextlib.ExitStack
    nodes: tuple[Node, ...] = ()

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def outside(self, name: str, *addresses: str, vlan: int | None = None, trunk: bool = False) -> Namespace:
        """A host that is no node, with `eth0` on a port of the switch: untagged, on the access port of a VLAN, or on a
        trunk. A VLAN needs a kernel that filters them."""
        if vlan is not None or trunk:
            capability.require(capability.kernel_lacks())
        host = create(f"outside-{name}")
        self.stack.callback(host.delete)
        port = f"x-{name}"
        self.switch.ip(
            f"link add {port} type veth peer name eth0 netns {host.name}", f"link set {port} master {BRIDGE}"
        )
        if vlan is not None:
            self.switch.bridge(
                f"vlan del vid {NATIVE_VLAN} dev {port}", f"vlan add vid {vlan} dev {port} pvid untagged"
            )
        elif trunk:
            self.switch.bridge(f"vlan add vid {ALL_OTHER_VLANS} dev {port}")
        self.switch.ip(f"link set {port} up")
        host.ip(*(f"address add {address} dev eth0" for address in addresses), "link set eth0 up")
        return host

    def wire(self, node: Node, nic: int = 0) -> Capture:
        """All frames on a node's cable, seen from the switch's end: `outgoing` ones go to the node."""
        return self.stack.enter_context(Capture(self.switch, node.ports[nic]))

    def unplug(self, node: Node, nic: int = 0) -> None:
        """The cable is out: the node sees no carrier."""
        self.switch.ip(f"link set {node.ports[nic]} down")

    def plug(self, node: Node, nic: int = 0) -> None:
        self.switch.ip(f"link set {node.ports[nic]} up")


@contextlib.contextmanager
def build(*specs: NodeSpec | str, etcd: Etcd | None = None) -> Iterator[World]:
    """The world of these nodes. Agents are prepared and not started. Without `etcd` each embeds its own."""
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="hpt-", dir="/tmp"))  # short, or unix sockets would not fit
        stack.callback(shutil.rmtree, directory)
        switch = create("switch")
        stack.callback(switch.delete)
        vlans = capability.kernel_lacks() is None
        switch.ip(
            f"link add {BRIDGE} type bridge vlan_filtering {int(vlans)} mcast_snooping 0"
            if vlans
            else f"link add {BRIDGE} type bridge mcast_snooping 0",
            f"link set {BRIDGE} up",
        )
        world = World(directory, switch, vlans, stack)
        plain = (NodeSpec(spec) if isinstance(spec, str) else spec for spec in specs)
        for spec in plain:
            world.nodes = (*world.nodes, _build_node(world, spec, etcd))
        yield world


def _build_node(world: World, spec: NodeSpec, etcd: Etcd | None) -> Node:
    namespace = create(f"node-{spec.name}")
    world.stack.callback(namespace.delete)
    ports = _cable(world, namespace, spec)
    directory = world.directory / spec.name
    for path in (directory, directory / "run", directory / "data"):
        path.mkdir(mode=0o700)
    boot_id = str(uuid.uuid4())
    options = ["--run-dir", f"{directory}/run", "--data-dir", f"{directory}/data", "--node", spec.name]
    options += ["--boot-id", boot_id, "--machine-id", uuid.uuid4().hex, *_store_options(etcd), *spec.options]
    agent = AgentProcess(namespace, directory / "run", directory / "agent.log", tuple(options))
    node = Node(spec, namespace, directory, ports, agent, boot_id)
    world.stack.callback(node.power_off)
    for endpoint in etcd.endpoints if etcd is not None else ():
        if endpoint.startswith("http"):
            relay = Relay(namespace, urlsplit(endpoint).port or 2379)
            world.stack.callback(relay.close)
            node.relays.append(relay)
    return node


def _cable(world: World, namespace: Namespace, spec: NodeSpec) -> tuple[str, ...]:
    """The node's NICs with their ports on the switch, and the bond over them."""
    nics = ("eth1", "eth2") if spec.bond else ("eth1",)
    ports = tuple(f"n{len(world.nodes) + 1}p{position}" for position, _ in enumerate(nics, 1))
    for nic, port in zip(nics, ports, strict=True):
        world.switch.ip(
            f"link add {port} mtu {spec.mtu} type veth peer name {nic} mtu {spec.mtu} netns {namespace.name}",
            f"link set {port} master {BRIDGE}",
        )
        if world.vlans:
            world.switch.bridge(f"vlan add vid {ALL_OTHER_VLANS} dev {port}")
        world.switch.ip(f"link set {port} up")
    if spec.bond:
        capability.require(capability.bonding_lacks())
        namespace.ip(
            "link add bond0 type bond mode active-backup miimon 50",
            *(f"link set {nic} master bond0" for nic in nics),
            f"link set bond0 mtu {spec.mtu} up",
        )
    else:
        namespace.ip("link set eth1 up")
    return ports


def _store_options(etcd: Etcd | None) -> list[str]:
    if etcd is None:
        return []
    options = ["--etcd-endpoints", ",".join(etcd.endpoints)]
    if etcd.certificates is not None:
        tls = etcd.certificates
        options += ["--cacert", f"{tls.ca}", "--cert", f"{tls.client_cert}", "--key", f"{tls.client_key}"]
    return options
