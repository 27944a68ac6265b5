"""A switch, guests and a node, each a namespace of its own, seen both by iproute2 and by the verbs under test."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from homeport_api.addresses import MacAddress, MacDomain
from homeport_api.interface import InterfaceKey
from homeport_dataplane import bridge, marks
from homeport_dataplane import netns as verbs
from homeport_dataplane.port import Port
from homeport_dataplane.veth import Guest
from homeport_netns_fixtures.netns import Namespace as Shell

BRIDGE = marks.bridge_name(MacDomain("eth1"))


@dataclass(frozen=True, slots=True)
class Box:
    """One namespace: `shell` asks it from outside, `ns` is what the verbs take."""

    shell: Shell
    ns: verbs.Namespace


BoxMaker = Callable[[str], Box]


@pytest.fixture
def box(netns: Callable[[str], Shell]) -> Iterator[BoxMaker]:
    with contextlib.ExitStack() as stack:

        def make(label: str) -> Box:
            shell = netns(label)
            return Box(shell, stack.enter_context(verbs.Namespace.open_named(shell.name)))

        yield make


@pytest.fixture
def switch(box: BoxMaker) -> Box:
    """A switch with one bridge that knows no VLANs, as every kernel can make it."""
    made = box("switch")
    verbs.ensure_switch_settings(made.ns)
    bridge.ensure_bridge(made.ns, BRIDGE, vlan_aware=False)
    return made


def port_of(uid: str, *, epoch: int = 1, bridge: str = BRIDGE, origin: str = "", mtu: int = 1500) -> Port:
    mark = marks.PortMark(InterfaceKey("shop", f"{uid}-eth0"), uid, epoch, origin)
    return Port(marks.port_name(uid, epoch), bridge, mark, marks.port_mac(uid, epoch), mtu)


def wait_forwarding(switch: Box, *links: str) -> None:
    """The bridge starts a port's forwarding from a work queue, a moment after its carrier came."""
    end = time.monotonic() + 30
    for link in links:
        while '"state":"forwarding"' not in switch.shell.run("bridge", "-j", "link", "show", "dev", link).stdout:
            assert time.monotonic() < end, f"{link} does not forward"
            time.sleep(0.01)


def guest_in(namespace: Box, number: int = 1, name: str = "eth1") -> Guest:
    return Guest(namespace.ns, name, MacAddress(f"02:00:5e:10:00:{number:02x}"))
