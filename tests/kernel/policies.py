"""Policies in the kernel tier's world: written to the store as the command line would, and tried with real sockets."""

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from homeport_api.interface import AllowedAddress, InterfaceKey
from homeport_api.networkpolicy import NetworkPolicy
from homeport_api.wire import MULTI_NETWORK_POLICY, NETWORK_POLICY
from homeport_netns_fixtures.topology import Node
from homeport_store.objects import Objects

from .lan import Guest, Lan, wait_until

PORT, OTHER = 5432, 5433
SOON = 1.5
"""Seconds after which a connection that was not answered counts as denied; one that is allowed is answered at once."""


def policy(name: str, spec: Mapping[str, Any], *, network: str | None = None) -> NetworkPolicy:
    """As in a manifest; `network` by annotation."""
    metadata: dict[str, Any] = {"name": name, "namespace": "default"}
    if network is not None:
        metadata["annotations"] = {"homeport.dev/network": network}
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    kind = NETWORK_POLICY if body["kind"] == "NetworkPolicy" else MULTI_NETWORK_POLICY
    parsed, _ = kind.parse(body)
    return parsed


def of(*names: str) -> dict[str, Any]:
    """The selector of these VMs."""
    return {"matchExpressions": [{"key": "kubevirt/vm", "operator": "In", "values": list(names)}]}


def allow(to: str, *peers: str, port: int | None = None, protocol: str = "TCP") -> dict[str, Any]:
    """Ingress to one VM from these only."""
    rule: dict[str, Any] = {"from": [{"podSelector": of(*peers)}]}
    if port is not None:
        rule["ports"] = [{"port": port, "protocol": protocol}]
    return {"podSelector": of(to), "policyTypes": ["Ingress"], "ingress": [rule] if peers else []}


class Policies:
    """Writes policies, waits until the nodes have them, and takes them away again."""

    def __init__(self, lan: Lan) -> None:
        self._lan = lan
        self._objects = Objects(lan.store)
        self._written: dict[str, NetworkPolicy] = {}

    def put(self, value: NetworkPolicy, *on: Guest) -> None:
        """Until the ports of these guests are isolated by it, or differently than before."""
        before = {guest.name: self.leads(guest) for guest in on}
        old = self._written.get(value.meta.name)
        if old is not None:
            value = NetworkPolicy(
                value.kind,
                type(value.meta)(
                    value.meta.name,
                    value.meta.namespace,
                    old.meta.uid,
                    value.meta.labels,
                    value.meta.annotations,
                    old.meta.created,
                    old.meta.revision,
                ),
                value.spec,
                value.networks,
            )
        self._written[value.meta.name] = self._objects.policies.save(value)
        for guest in on:
            wait_until(
                lambda guest=guest: self.leads(guest) != before[guest.name],
                f"{guest.name} is judged by {value.meta.name}",
            )

    def drop(self, name: str, *on: Guest) -> None:
        before = {guest.name: self.leads(guest) for guest in on}
        self._objects.policies.delete(self._written.pop(name))
        for guest in on:
            wait_until(lambda guest=guest: self.leads(guest) != before[guest.name], f"{guest.name} without {name}")

    def clear(self) -> None:
        for name in tuple(self._written):
            self._objects.policies.delete(self._written.pop(name))
        for node in (self._lan.a, self._lan.b):
            wait_until(lambda node=node: not any(maps(node).values()), f"node {node.name} has no policy")

    def leads(self, guest: Guest) -> tuple[str | None, str | None]:
        """Where the guest's port leads in its node's table."""
        found = maps(guest.node)
        return found["egress"].get(guest.port), found["ingress"].get(guest.port)


@contextlib.contextmanager
def allowed(lan: Lan, guest: Guest, *addresses: str) -> Iterator[None]:
    """The guest may use these besides its own."""
    interfaces = Objects(lan.store).interfaces

    def write(*texts: str) -> None:
        known = interfaces.get(InterfaceKey("default", f"{guest.name}-eth0"))
        spec = replace(known.spec, allowed=tuple(AllowedAddress(ip_address(text)) for text in texts))
        interfaces.save(replace(known, spec=spec))

    def may_use() -> set[str]:
        listed = guest.node.switch.run("nft", "list", "set", "bridge", "homeport", "sources6").stdout
        return {address for address in addresses if f'"{guest.port}" . {address}' in listed}

    write(*addresses)
    wait_until(lambda: may_use() == set(addresses), f"{guest.name} may use them")
    try:
        yield
    finally:
        write()
        wait_until(lambda: not may_use(), f"{guest.name} may use them no more")


def table(node: Node) -> list[dict[str, Any]]:
    done = node.switch.run("nft", "-j", "list", "table", "bridge", "homeport", check=False)
    return json.loads(done.stdout)["nftables"] if done.returncode == 0 else []


def maps(node: Node) -> dict[str, dict[str, str]]:
    """Where ports lead."""
    found: dict[str, dict[str, str]] = {"egress": {}, "ingress": {}}
    for each in table(node):
        if "map" in each and each["map"]["name"] in found:
            for port, verdict in each["map"].get("elem", ()):
                found[each["map"]["name"]][port] = verdict["goto"]["target"]
    return found


def denied(node: Node) -> int:
    """Packets that policies denied on the node."""
    return sum(
        each["counter"]["packets"]
        for each in table(node)
        if "counter" in each and each["counter"]["name"].endswith("_denied")
    )


@contextlib.contextmanager
def server(guest: Guest, port: int = PORT, *, version: int = 4) -> Iterator[socket.socket]:
    """Listens on the guest's address."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with guest.namespace.entered():
        listening = socket.socket(family, socket.SOCK_STREAM)
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((guest.address if version == 4 else guest.address6, port))
        listening.listen(16)
        yield listening


def connect(guest: Guest, address: str, port: int = PORT, *, within: float = SOON) -> socket.socket | None:
    """A connection from the guest, or None where nobody answered."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with guest.namespace.entered():
        made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(within)
    try:
        made.connect((address, port))
    except (TimeoutError, ConnectionRefusedError) as error:
        made.close()
        if isinstance(error, ConnectionRefusedError):
            raise
        return None
    return made


def reaches(guest: Guest, other: Guest, port: int = PORT, *, version: int = 4) -> bool:
    """Whether the guest can open a connection to the other's server."""
    made = connect(guest, other.address if version == 4 else other.address6, port)
    if made is not None:
        made.close()
    return made is not None
