"""Hypervisors that call the scripts of `homeport install-qemu-ifup` attach and detach their guests by themselves."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from homeport_netns_fixtures.guest import Nic
from homeport_netns_fixtures.libvirt import Libvirt
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.plugin import GuestMaker
from homeport_netns_fixtures.topology import Node
from tests.runtime.manifests import apply, attach, interface, interfaces, wait_phase

ADDRESS, MAC = "10.10.0.20", "02:00:5e:10:00:20"
RESERVED = interface("web-eth0", "blue", "web", ipAddresses=[ADDRESS], macAddress=MAC)


def install_scripts(node: Node) -> Path:
    """The hypervisor's configuration has address and MAC, so they are reserved before it starts."""
    apply(node, RESERVED)
    directory = node.directory / "ifup"
    node.homeport("install-qemu-ifup", os.fspath(directory), "--run-dir", os.fspath(node.run_dir))
    return directory


def neighbour(node: Node) -> Namespace:
    """A guest on the same Network, to ping from."""
    guest = node.guest("neighbour")
    attach(node, "neighbour", "--network", "blue", "--netns", f"{guest.path}")
    return guest


def test_qemu_attaches_and_detaches_by_its_scripts(
    node: Node, qemu: GuestMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once told by its environment whose tap it is, once by a file beside the scripts."""
    scripts = install_scripts(node)
    guest = neighbour(node)
    nic = Nic("tap7", MAC, f"{scripts}/homeport-ifup", f"{scripts}/homeport-ifdown")
    with monkeypatch.context() as environment:
        environment.setenv("HOMEPORT_VM", "web")
        environment.setenv("HOMEPORT_NETWORK", "blue")
        web = qemu(node.namespace, "web", [nic], addresses=[f"{ADDRESS}/24"])
    web.wait_ready()
    guest.wait_ping(ADDRESS)
    assert "tap7" not in node.namespace.links()
    web.kill()
    wait_phase(node, "web-eth0", "Reserved")

    (scripts / "tap7.conf").write_text("# whose tap7 is\nHOMEPORT_VM=web\nHOMEPORT_INTERFACE_OBJECT=web-eth0\n")
    web.start()
    web.wait_ready()
    guest.wait_ping(ADDRESS)
    web.power_off()
    # Detached by the script, not found gone later.
    assert interfaces(node)["web-eth0"]["status"]["phase"] == "Reserved"
    assert not guest.pings(ADDRESS)


def wait_booted(neighbour: Namespace, within: int = 90) -> bool:
    """An emulated guest takes its time on a busy machine."""
    return any(neighbour.pings(ADDRESS, wait=1) for _ in range(within))


def test_libvirt_attaches_and_detaches_by_the_same_scripts(node: Node, libvirt: Callable[[Namespace], Libvirt]) -> None:
    """On a tap of libvirt's own, and then on one made before, which outlives the domain (`managed='no'`)."""
    scripts = install_scripts(node)
    guest = neighbour(node)
    hypervisor = libvirt(node.namespace)
    for tap, managed in (("vm0", "yes"), ("vm1", "no")):
        (scripts / f"{tap}.conf").write_text("HOMEPORT_VM=web\nHOMEPORT_NETWORK=blue\n")
        if managed == "no":
            node.namespace.ip(f"tuntap add {tap} mode tap")
        interface_of_domain = (
            f"<interface type='ethernet'><mac address='{MAC}'/><target dev='{tap}' managed='{managed}'/>"
            f"<model type='virtio'/><script path='{scripts}/homeport-ifup'/>"
            f"<downscript path='{scripts}/homeport-ifdown'/></interface>"
        )
        hypervisor.create("web", interface_of_domain, [f"{ADDRESS}/24"])
        log = scripts / f"{tap}.log"
        assert wait_booted(guest), f"{tap}: {log.read_text() if log.exists() else 'the script wrote no log'}"
        assert [entry["lladdr"] for entry in guest.show("neigh") if entry["dst"] == ADDRESS] == [MAC]
        assert tap not in node.namespace.links()
        assert json.loads(log.read_text()[log.read_text().index("{") :])["ips"][0]["address"] == f"{ADDRESS}/24"
        hypervisor.virsh("destroy", "web")
        wait_phase(node, "web-eth0", "Reserved")
        assert (tap in node.namespace.links()) == (managed == "no")
