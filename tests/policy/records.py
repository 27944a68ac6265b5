"""The store's records of a small world, from manifests: what agents and the command line make snapshots of."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

import yaml

from homeport_api.interface import Interface, InterfaceKey
from homeport_api.manifest import Document, read_manifest
from homeport_api.network import Network
from homeport_api.networkpolicy import Namespace, NetworkPolicy
from homeport_api.workload import NamedPort, Workload
from homeport_policy.facts import Facts, PortFact


def known(
    manifests: str,
    addresses: Mapping[str, tuple[str, ...]],
    labels: Mapping[str, Mapping[str, str]] | None = None,
    ports: Mapping[str, tuple[NamedPort, ...]] | None = None,
    here: tuple[str, ...] = (),
) -> Facts:
    """`addresses` by Interface as `namespace/name`, `labels` and `ports` by VM. `here`: Interfaces with a port on this
    node's switch, which is called `hp-<name>`."""
    facts = Facts()
    wanted = read_manifest(
        [Document(f"test:{at}", each) for at, each in enumerate(yaml.safe_load_all(manifests))], "default"
    )
    for item in wanted.objects:
        match item:
            case Network():
                facts.put_network(item.name, item)
            case Namespace():
                facts.put_namespace(item.name, item)
            case NetworkPolicy():
                facts.put_policy(item.key, item)
            case Interface():
                given = tuple(ip_interface(text) for text in addresses.get(str(item.key), ()))
                status = replace(item.status, addresses=given)
                facts.put_interface(item.key, Interface(item.meta, item.spec, status))
    for vm in {*(labels or {}), *(ports or {})}:
        namespace, _, name = vm.partition("/")
        workload = Workload(namespace, name, (labels or {}).get(vm, {}), (ports or {}).get(vm, ()))
        facts.put_workload(InterfaceKey(namespace, name), workload)
    for each in here:
        namespace, _, name = each.partition("/")
        facts.put_port(InterfaceKey(namespace, name), PortFact("switch", f"hp-{name}"))
    return facts


def interface(name: str, network: str, vm: str | None = None, own: str = "eth0", **spec: Any) -> str:
    """The manifest of an Interface, `namespace/name`, which is the VM's `own`."""
    namespace, _, called = name.partition("/")
    whose = f", virtualMachineName: {vm}, interfaceName: {own}" if vm else ""
    more = "".join(f", {key}: {value}" for key, value in spec.items())
    return (
        f"---\n{{apiVersion: homeport.dev/v1, kind: Interface, metadata: {{name: {called}, namespace: {namespace}}}, "
        f"spec: {{networkName: {network}{whose}{more}}}}}\n"
    )
