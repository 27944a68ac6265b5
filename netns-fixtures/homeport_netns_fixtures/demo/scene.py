"""Where the demonstration happens: a node with its agent, and the `homeport` commands that are run and shown on it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from homeport_netns_fixtures.demo.narrator import Narrator
from homeport_netns_fixtures.topology import BRIDGE, Node, World


class NotAsTold(Exception):
    """Something did not happen as the demonstration tells it; the text says what was seen instead."""


@dataclass(frozen=True, slots=True)
class Place:
    """What an attach answered: the addresses with their prefix lengths, IPv4 first, the guest's MAC and MTU."""

    addresses: tuple[str, ...]
    mac: str
    mtu: int
    gateways: tuple[str, ...]

    @property
    def bare(self) -> tuple[str, ...]:
        return tuple(address.partition("/")[0] for address in self.addresses)

    def __str__(self) -> str:
        return f"{', '.join(self.addresses)}   MAC {self.mac}"


@dataclass(slots=True)
class Scene:
    """One node of a world. What it runs is printed as a person would type it."""

    narrator: Narrator
    world: World
    node: Node
    examples: Path

    def homeport(self, *arguments: str, refused: bool = False, shown: bool = True) -> str:
        """Runs the command line and prints what it said; `refused`: it must be. Answers its stdout."""
        self.narrator.command("homeport", *arguments)
        done = self.node.homeport(*arguments, check=False)
        said = f"{done.stdout}{done.stderr}"
        if shown or (done.returncode != 0) != refused:
            self.narrator.output(said)
        if (done.returncode != 0) != refused:
            raise NotAsTold(
                f"`homeport {' '.join(arguments)}` ended with exit code {done.returncode}"
                + (", and was to be refused" if refused else "")
            )
        return done.stdout

    def apply(self, *names: str) -> None:
        words = [word for name in names for word in ("-f", self.shown(self.examples / name))]
        self.homeport("apply", *words)

    def attach(self, vm: str, network: str, *where: str) -> Place:
        """Attaches, and prints the place in a line rather than the whole CNI result."""
        place = place_of(json.loads(self.homeport("attach", vm, "--network", network, *where, shown=False)))
        self.narrator.output(f"{place}")
        return place

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object as JSON, without a word."""
        found: dict[str, Any] = json.loads(self.node.homeport("get", kind, name, "-o", "json").stdout)
        return found

    def cable(self) -> list[str]:
        """The node's NIC gets the name that the manifests give the uplink; others are added. Their names."""
        wanted = uplinks(self.examples) or [self.node.uplink]
        first, *others = wanted
        if first != self.node.uplink:
            nic = self.node.uplink
            self.node.namespace.ip(f"link set {nic} down", f"link set {nic} name {first}", f"link set {first} up")
        for position, name in enumerate(others):
            port = f"{self.node.ports[0]}x{position}"
            self.world.switch.ip(
                f"link add {port} type veth peer name {name} netns {self.node.namespace.name}",
                f"link set {port} master {BRIDGE} up",
            )
            self.node.namespace.ip(f"link set {name} up")
        return wanted

    def gateway(self, network: str) -> str | None:
        """The gateway's address of a Network, on a host made for it beyond the switch; None where it has none."""
        spec = self.get("network", network)["spec"]
        address = spec.get("gateway4")
        if address is None:
            return None
        prefix = str(spec["ipam"]["pools"][0]["cidr"]).partition("/")[2]
        vlan = spec.get("l2NetworkConfig", {}).get("vlanID")
        self.world.outside("gateway", f"{address}/{prefix}", vlan=vlan)
        return str(address)

    def require(self, true: bool, fact: str, otherwise: str) -> None:
        """Prints the fact, or ends the demonstration with what was seen instead."""
        if not true:
            raise NotAsTold(otherwise)
        self.narrator.fact(fact)

    def shown(self, path: Path) -> str:
        """As a person at the top of the checkout would write it."""
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def place_of(result: dict[str, Any]) -> Place:
    """Of a CNI result whose last interface is the guest's."""
    link, ips = result["interfaces"][-1], result.get("ips", [])
    ips = sorted(ips, key=lambda ip: ":" in ip["address"])
    gateways = tuple(ip["gateway"] for ip in ips if "gateway" in ip)
    return Place(tuple(ip["address"] for ip in ips), link["mac"], int(link.get("mtu", 1500)), gateways)


def uplinks(examples: Path) -> list[str]:
    """The uplinks that the Networks of these manifests name."""
    found: dict[str, None] = {}
    for path in sorted(examples.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if isinstance(document, dict) and document.get("kind") == "Network":
                name = (document.get("spec") or {}).get("nodeInterfaceMatcher", {}).get("interfaceName")
                if name:
                    found[name] = None
    return list(found)
