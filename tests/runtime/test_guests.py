"""Real guests under QEMU, on taps that `homeport attach --tap` moves into the switch while QEMU holds them open."""

from typing import Any

import pytest

from homeport_netns_fixtures.guest import Guest, Nic, open_tap
from homeport_netns_fixtures.netns import CommandFailed
from homeport_netns_fixtures.plugin import GuestMaker
from homeport_netns_fixtures.topology import Node
from tests.runtime.manifests import addresses, apply, attach, bare, interfaces, virtual_machine, wait_phase


def attach_and_boot(node: Node, qemu: GuestMaker, name: str, network: str) -> tuple[Guest, dict[str, Any]]:
    """As a hypervisor's front end does: the tap is opened and attached, and what attach answers goes to the guest."""
    opened = open_tap(node.namespace, f"tap-{name}")
    result = attach(node, name, "--network", network, "--tap", f"tap-{name}")
    nic = Nic(f"tap-{name}", mac_of(result), opened=opened)
    return qemu(node.namespace, name, [nic], addresses=addresses(result)), result


def mac_of(result: dict[str, Any]) -> str:
    return str(result["interfaces"][result["ips"][0]["interface"]]["mac"])


def place(result: dict[str, Any]) -> tuple[str, list[str]]:
    return mac_of(result), addresses(result)


def test_guests_keep_their_place_over_kill_detach_and_deletion(node: Node, qemu: GuestMaker) -> None:
    apply(node, virtual_machine("web", "blue"))
    web, web_result = attach_and_boot(node, qemu, "web", "blue")
    db, db_result = attach_and_boot(node, qemu, "db", "blue")
    web_at, db_at = bare(web_result)[0], bare(db_result)[0]
    assert {"tap-web", "tap-db"}.isdisjoint(node.namespace.links()), "they are in the switch"
    web.wait_ready()
    db.wait_ready()
    assert web.pings(db_at, attempts=10)
    assert db.pings(bare(web_result)[1], attempts=10), "the other family"
    assert attach(node, "web", "--network", "blue", "--tap", "tap-web") == web_result, "a repeat answers the same"

    # Killed: the tap goes with the process, and the place stays.
    web.kill()
    wait_phase(node, "web-eth0", "Reserved")
    assert not db.pings(web_at)
    web, again = attach_and_boot(node, qemu, "web", "blue")
    assert place(again) == place(web_result)
    web.wait_ready()
    assert db.pings(web_at, attempts=10)

    # Detached while it runs: the tap is the hypervisor's again, and can come back.
    node.homeport("detach", "web")
    assert "tap-web" in node.namespace.links()
    assert web.alive
    assert not web.pings(db_at)
    assert place(attach(node, "web", "--network", "blue", "--tap", "tap-web")) == place(web_result)
    assert web.pings(db_at, attempts=10)

    # Deleted and made again, with another guest in between.
    web.kill()
    wait_phase(node, "web-eth0", "Reserved")
    node.homeport("delete", "virtualmachine", "web")
    attach(node, "between", "--network", "blue", "--netns", f"{node.guest('between').path}")
    apply(node, virtual_machine("web", "blue"))
    web, again = attach_and_boot(node, qemu, "web", "blue")
    assert place(again) == place(web_result)
    web.wait_ready()
    assert web.run("cat /sys/class/net/eth0/address").output.strip() == mac_of(web_result)
    assert db.pings(web_at, attempts=10)
    assert set(interfaces(node)) == {"web-eth0", "db-eth0", "between-eth0"}


def test_a_guest_is_on_its_own_network_alone(node: Node, qemu: GuestMaker) -> None:
    """The other guests are namespaces: what counts is the tap."""
    web, _ = attach_and_boot(node, qemu, "web", "blue")
    near, far = node.guest("near"), node.guest("far")
    near_at = bare(attach(node, "near", "--network", "blue", "--netns", f"{near.path}"))[0]
    far_at = bare(attach(node, "far", "--network", "green", "--netns", f"{far.path}"))[0]
    web.wait_ready()
    assert web.pings(near_at, attempts=10)
    assert not web.pings(far_at)


def test_a_tap_that_nobody_has_open_is_refused_with_the_remedy(node: Node, qemu: GuestMaker) -> None:
    node.namespace.ip("tuntap add tap-idle mode tap")
    with pytest.raises(CommandFailed, match="nobody has tap tap-idle open"):
        attach(node, "idle", "--network", "blue", "--tap", "tap-idle")
    assert "tap-idle" in node.namespace.links()
    assert "idle-eth0" not in interfaces(node)
