"""The Networks of the runtime tier, and reading back what the command line knows of Interfaces.

Blue and green have the same prefix and share no bridge: who asks for an address of the other network asks on its own
link, so silence means that the networks are apart and not that a route is missing.
"""

import json
import time
from typing import Any

from homeport_netns_fixtures.topology import Node

BLUE_AND_GREEN = """\
apiVersion: homeport.dev/v1
kind: Network
metadata: {name: blue}
spec:
  type: L2
  gateway4: 10.10.0.1
  ipam:
    pools:
      - {cidr: 10.10.0.0/24, ranges: [{start: 10.10.0.10, end: 10.10.0.99}]}
      - {cidr: "fd00:10::/64", ranges: [{start: "fd00:10::10", end: "fd00:10::ffff"}]}
---
apiVersion: homeport.dev/v1
kind: Network
metadata: {name: green}
spec:
  type: L2
  ipam:
    pools:
      - {cidr: 10.10.0.0/24, ranges: [{start: 10.10.0.100, end: 10.10.0.199}]}
"""

OFFICE = """\
apiVersion: homeport.dev/v1
kind: Network
metadata: {name: office}
spec:
  type: L2
  nodeInterfaceMatcher: {interfaceName: eth1}
  gateway4: 192.0.2.1
  gateway6: "2001:db8::1"
  routes: [{to: 198.51.100.0/24}]
  dnsConfig: {nameservers: [192.0.2.53], searches: [office.example]}
  ipam:
    pools:
      - {cidr: 192.0.2.0/24, ranges: [{start: 192.0.2.100, end: 192.0.2.199}]}
      - {cidr: "2001:db8::/64", ranges: [{start: "2001:db8::100", end: "2001:db8::ffff"}]}
"""


def apply(node: Node, *manifests: str) -> None:
    node.homeport("apply", "-f", "-", stdin="\n---\n".join(manifests))


def interface(name: str, network: str, vm: str, **spec: Any) -> str:
    """An Interface made beforehand, which is a reservation."""
    document = {
        "apiVersion": "homeport.dev/v1",
        "kind": "Interface",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"networkName": network, "virtualMachineName": vm, "interfaceName": "eth0", **spec},
    }
    return json.dumps(document)


def virtual_machine(name: str, network: str) -> str:
    document = {
        "apiVersion": "homeport.dev/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"interfaces": [{"name": "eth0", "networkName": network}]},
    }
    return json.dumps(document)


def interfaces(node: Node) -> dict[str, dict[str, Any]]:
    """Every Interface by its name, as the store has it."""
    listed = json.loads(node.homeport("get", "interfaces", "-A", "-o", "json").stdout)
    return {item["metadata"]["name"]: item for item in listed["items"]}


def phase(node: Node, name: str) -> str:
    return str(interfaces(node)[name]["status"]["phase"])


def wait_phase(node: Node, name: str, wanted: str, within: float = 30) -> None:
    end = time.monotonic() + within
    while (now := phase(node, name)) != wanted:
        assert time.monotonic() < end, f"Interface {name} is {now} after {within:.0f} s, not {wanted}"
        time.sleep(0.1)


def attach(node: Node, *arguments: str) -> dict[str, Any]:
    """`homeport attach`, and the CNI result that it prints."""
    result: dict[str, Any] = json.loads(node.homeport("attach", *arguments).stdout)
    return result


def addresses(result: dict[str, Any]) -> list[str]:
    return [str(entry["address"]) for entry in result["ips"]]


def bare(result: dict[str, Any]) -> list[str]:
    """The same without prefix lengths, to be pinged."""
    return [address.split("/")[0] for address in addresses(result)]
