"""Addresses and routes inside the guest's namespace."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from homeport_api.errors import NotFound
from homeport_dataplane.guest import GuestConfig, GuestRoute, configure_guest, read_guest
from homeport_dataplane.veth import ensure_veth
from tests.dataplane.conftest import Box, BoxMaker, guest_in, port_of

_DEFAULT4, _DEFAULT6 = ip_network("0.0.0.0/0"), ip_network("::/0")

CONFIGS = [
    pytest.param(GuestConfig(), id="nothing but up"),
    pytest.param(
        GuestConfig(
            (ip_interface("192.0.2.7/24"), ip_interface("2001:db8::7/64")),
            (
                GuestRoute(_DEFAULT4, ip_address("192.0.2.1")),
                GuestRoute(_DEFAULT6, ip_address("2001:db8::1")),
                GuestRoute(ip_network("198.51.100.0/24"), ip_address("192.0.2.2")),
                GuestRoute(ip_network("203.0.113.0/24")),
            ),
        ),
        id="dual stack with routes",
    ),
    pytest.param(
        GuestConfig((ip_interface("192.0.2.7/32"),), (GuestRoute(_DEFAULT4, ip_address("198.51.100.1")),)),
        id="/32 with a gateway on the link",
    ),
    pytest.param(
        GuestConfig((ip_interface("2001:db8::7/128"),), (GuestRoute(_DEFAULT6, ip_address("fe80::1")),)),
        id="/128 with a link-local gateway",
    ),
    pytest.param(
        GuestConfig((ip_interface("2001:db8::7/128"),), (GuestRoute(_DEFAULT6, ip_address("2001:db8:1::1")),)),
        id="/128 with a global gateway on the link",
    ),
    pytest.param(GuestConfig((ip_interface("192.0.2.6/31"),)), id="/31 has no broadcast address"),
]


@pytest.fixture
def guest(switch: Box, box: BoxMaker) -> Box:
    made = box("guest")
    ensure_veth(switch.ns, port_of("uid1"), guest_in(made))
    return made


@pytest.mark.parametrize("config", CONFIGS)
def test_configured_once_and_again(guest: Box, config: GuestConfig) -> None:
    before = read_guest(guest.ns, "eth1")
    assert before is not None and "link eth1 is down" in before.lacks(config)
    configure_guest(guest.ns, "eth1", config)
    first = read_guest(guest.ns, "eth1")
    assert first is not None and first.lacks(config) == ()
    configure_guest(guest.ns, "eth1", config)
    again = read_guest(guest.ns, "eth1")
    assert again is not None
    # A link-local address of the kernel's own may have come up in between.
    assert set(config.addresses) <= again.addresses and again.routes == first.routes


def test_an_ipv6_address_is_usable_at_once(guest: Box) -> None:
    configure_guest(guest.ns, "eth1", GuestConfig((ip_interface("2001:db8::7/64"),)))
    shown = guest.shell.show("-6", "address")
    (ours,) = [each for entry in shown for each in entry["addr_info"] if each["local"] == "2001:db8::7"]
    assert "tentative" not in ours and ours["nodad"]


def test_ipv6_is_switched_on_for_an_ipv6_address(guest: Box) -> None:
    """containerd and others make sandboxes with IPv6 off."""
    guest.ns.ensure_sysctl("ipv6/conf/all/disable_ipv6", "1")
    configure_guest(guest.ns, "eth1", GuestConfig((ip_interface("2001:db8::7/64"),)))
    state = read_guest(guest.ns, "eth1")
    assert state is not None and ip_interface("2001:db8::7/64") in state.addresses


def test_what_else_is_there_is_left_alone(guest: Box) -> None:
    guest.shell.ip("address add 203.0.113.9/24 dev eth1")
    configure_guest(guest.ns, "eth1", GuestConfig((ip_interface("192.0.2.7/24"),)))
    state = read_guest(guest.ns, "eth1")
    assert state is not None and ip_interface("203.0.113.9/24") in state.addresses


def test_what_is_missing_is_said(guest: Box) -> None:
    config = GuestConfig((ip_interface("192.0.2.7/24"),), (GuestRoute(_DEFAULT4, ip_address("192.0.2.1")),))
    configure_guest(guest.ns, "eth1", config)
    guest.shell.ip("address del 192.0.2.7/24 dev eth1")
    state = read_guest(guest.ns, "eth1")
    assert state is not None and state.lacks(config) == ("address 192.0.2.7/24", "route to 0.0.0.0/0")


def test_a_link_that_is_gone(box: BoxMaker) -> None:
    guest = box("guest")
    assert read_guest(guest.ns, "eth1") is None
    with pytest.raises(NotFound, match="eth1 does not exist"):
        configure_guest(guest.ns, "eth1", GuestConfig())
