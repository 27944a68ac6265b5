"""`homeport-ipam` under stock plugins that make the links, Debian's and newer ones: addresses by our rules on links of
theirs."""

import json
from pathlib import Path
from typing import Any

import pytest

from homeport_netns_fixtures import cni
from homeport_netns_fixtures.cni import Answer, CniTool
from homeport_netns_fixtures.etcd import Etcd
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import Node
from tests.runtime.callers import configure, install_cni, succeeded
from tests.runtime.manifests import OFFICE, apply, interface, interfaces

IPAM = {"type": "homeport-ipam", "network": "office"}
LINKS: dict[str, dict[str, Any]] = {
    "bridge": {"type": "bridge", "bridge": "br7", "ipam": IPAM},
    "macvlan": {"type": "macvlan", "master": "eth1", "ipam": IPAM},
}


@pytest.fixture(params=["debian", "newer"])
def plugins(request: pytest.FixtureRequest, cnitool: CniTool, new_cni_plugins: Path) -> CniTool:
    """The reference client with either generation of the stock plugins."""
    if request.param == "newer":
        take_newer(cnitool, new_cni_plugins)
    return cnitool


def take_newer(cnitool: CniTool, newer: Path) -> None:
    for plugin in newer.iterdir():
        (cnitool.bin_dir / plugin.name).unlink()
        (cnitool.bin_dir / plugin.name).symlink_to(plugin)


@pytest.mark.parametrize("kind", LINKS)
def test_addresses_and_routes_on_the_links_of_a_stock_plugin(node: Node, plugins: CniTool, kind: str) -> None:
    install_cni(node, plugins.bin_dir)
    apply(node, OFFICE)
    name = configure(plugins, LINKS[kind], version="1.0.0")
    web, db = node.guest("web"), node.guest("db")
    added = succeeded(plugins("add", name, web, inside=node.namespace))
    (v4,) = (address for address in added.addresses if address.startswith("192.0.2."))
    (v6,) = (address for address in added.addresses if address.startswith("2001:db8::"))
    assert (v4.endswith("/24"), v6.endswith("/64")) == (True, True)
    routes = {route["dst"]: route.get("gateway") for route in web.show("-4", "route")}
    assert routes["default"] == routes["198.51.100.0/24"] == "192.0.2.1"
    assert {route["dst"]: route.get("gateway") for route in web.show("-6", "route")}["default"] == "2001:db8::1"

    # Now: the stock bridge takes another MAC with its next port, and its own CHECK does not like that.
    succeeded(plugins("check", name, web, inside=node.namespace))
    other = succeeded(plugins("add", name, db, inside=node.namespace))
    assert set(other.addresses).isdisjoint(added.addresses)
    db.wait_ping(v4.split("/")[0])
    db.wait_ping(v6.split("/")[0])
    assert len(interfaces(node)) == 2

    succeeded(plugins("del", name, web, inside=node.namespace))
    succeeded(plugins("del", name, web, inside=node.namespace))
    assert web.links() == {"lo"}
    assert len(interfaces(node)) == 1
    succeeded(plugins("del", name, db, inside=node.namespace))
    assert interfaces(node) == {}


def test_an_interface_keeps_its_addresses_under_other_containers(node: Node, plugins: CniTool) -> None:
    install_cni(node, plugins.bin_dir)
    apply(node, OFFICE, interface("shop", "office", "shop"))
    bridge = LINKS["bridge"] | {"ipam": {"type": "homeport-ipam", "interface": "shop"}}
    name = configure(plugins, bridge, version="1.0.0")
    had = []
    for label in ("first", "second"):
        guest = node.guest(label)
        had.append(succeeded(plugins("add", name, guest, inside=node.namespace)).addresses)
        held = plugins("add", name, node.guest("rival"), inside=node.namespace)
        assert (held.exit_code, held.error) != (0, 0)
        assert "default/shop" in held.stderr + json.dumps(held.result)
        succeeded(plugins("del", name, guest, inside=node.namespace))
        assert interfaces(node)["shop"]["status"]["phase"] == "Reserved"
    assert had[0] == had[1]
    assert len(had[0]) == 2


def ipam(node: Node, bin_dir: Path, command: str, container_id: str, guest: Namespace, **more: Any) -> Answer:
    """One call as the stock plugins make it: their own configuration, the executable named by `ipam.type`."""
    configuration = {"cniVersion": "1.1.0", "name": "office", "type": "bridge", "ipam": IPAM, **more}
    return cni.call(
        bin_dir / "homeport-ipam",
        command,
        configuration,
        inside=node.namespace,
        container_id=container_id,
        netns=guest,
        ifname="eth0",
    )


def test_the_same_add_again_and_a_gc_after_lost_dels(node: Node, cnitool: CniTool) -> None:
    install_cni(node, cnitool.bin_dir)
    apply(node, OFFICE)
    guest = node.guest()
    first = succeeded(ipam(node, cnitool.bin_dir, "ADD", "c1", guest))
    # Most stock plugins put their own in its place.
    assert first.result["dns"] == {"nameservers": ["192.0.2.53"], "search": ["office.example"]}
    assert succeeded(ipam(node, cnitool.bin_dir, "ADD", "c1", guest)).result == first.result
    second = succeeded(ipam(node, cnitool.bin_dir, "ADD", "c2", guest))
    assert set(second.addresses).isdisjoint(first.addresses)
    succeeded(ipam(node, cnitool.bin_dir, "CHECK", "c1", guest))

    # A restarted agent finds no port of these, and must not take them for gone.
    node.agent.kill()
    node.agent.start()
    node.agent.wait_ready()
    succeeded(ipam(node, cnitool.bin_dir, "CHECK", "c1", guest))

    valid = {"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    succeeded(ipam(node, cnitool.bin_dir, "GC", "c1", guest, **valid))
    succeeded(ipam(node, cnitool.bin_dir, "CHECK", "c1", guest))
    assert ipam(node, cnitool.bin_dir, "CHECK", "c2", guest).error != 0
    assert len(interfaces(node)) == 1


def test_a_newer_stock_plugin_passes_status_on_and_a_gc_ends_what_the_client_remembers(
    node: Node, cnitool: CniTool, new_cni_plugins: Path
) -> None:
    """No stock plugin passes GC itself on; the client's DELs before it do."""
    take_newer(cnitool, new_cni_plugins)
    install_cni(node, cnitool.bin_dir)
    apply(node, OFFICE)
    name = configure(cnitool, LINKS["bridge"])
    web, db = node.guest("web"), node.guest("db")
    succeeded(cnitool("status", name, web, inside=node.namespace))
    succeeded(cnitool("add", name, web, inside=node.namespace))
    succeeded(cnitool("add", name, db, inside=node.namespace))
    assert len(interfaces(node)) == 2
    cnitool("gc", name, web, inside=node.namespace)
    assert interfaces(node) == {}
    node.agent.kill()
    refused = cnitool("status", name, web, inside=node.namespace)
    assert refused.exit_code != 0
    assert "agent" in refused.stderr


def test_addresses_are_unique_over_two_nodes(topology: WorldBuilder, etcd: Etcd, cnitool: CniTool) -> None:
    world = topology("a", "b", etcd=etcd)
    settings = {"HOMEPORT_ETCD_ENDPOINTS": ",".join(etcd.endpoints)}
    bin_dirs = {}
    for node in world.nodes:
        node.agent.start()
        bin_dirs[node.name] = cnitool.bin_dir / node.name
    for node in world.nodes:
        node.agent.wait_ready()
        install_cni(node, bin_dirs[node.name])
    narrow = OFFICE.replace("192.0.2.199", "192.0.2.119")
    world.nodes[0].homeport("apply", "-f", "-", stdin=narrow, env=settings)

    given: list[str] = []
    for number in range(10):
        for node in world.nodes:
            guest = node.guest(f"g{number}")
            given += succeeded(ipam(node, bin_dirs[node.name], "ADD", f"{node.name}{number}", guest)).addresses
    assert len(set(given)) == len(given) == 40
    for node in world.nodes:
        assert ipam(node, bin_dirs[node.name], "ADD", "one-too-many", node.guest()).error == 101
