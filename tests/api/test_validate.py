"""What may change once an object exists, and what is not enforced yet."""

from dataclasses import replace

import pytest

from homeport_api.addresses import VlanId
from homeport_api.interface import Holder, Interface, InterfaceSpec, InterfaceStatus, Role
from homeport_api.meta import ObjectMeta
from homeport_api.network import Network
from homeport_api.validate_interface import interface_changes
from homeport_api.validate_network import network_changes, not_enforced, same_domain
from homeport_api.wire import INTERFACE, NETWORK


def network(name: str = "blue", /, **spec: object) -> Network:
    document = {"apiVersion": "homeport.dev/v1", "kind": "Network", "metadata": {"name": name}, "spec": spec}
    return NETWORK.parse(document)[0]


def interface(**spec: object) -> Interface:
    metadata = {"name": "web-eth0", "namespace": "shop"}
    return INTERFACE.parse({"metadata": metadata, "spec": {"networkName": "blue", **spec}})[0]


def on(uplink: str | None, **l2: object) -> dict[str, object]:
    matcher = {"nodeInterfaceMatcher": {"interfaceName": uplink}} if uplink else {}
    return {**matcher, "l2NetworkConfig": l2}


REMEDY = "make another Network instead"


@pytest.mark.parametrize(
    ("old", "new", "errors"),
    [
        pytest.param(on("bond0", vlanID=5), on("bond0", vlanID=5) | {"mtu": 9000}, [], id="MTU may change"),
        pytest.param(
            on("bond0"),
            on("eth1"),
            [f"spec.nodeInterfaceMatcher.interfaceName: never changes, and is bond0, not eth1: {REMEDY}"],
            id="uplink",
        ),
        pytest.param(
            on(None),
            on("eth1"),
            [f"spec.nodeInterfaceMatcher.interfaceName: never changes, and is absent, not eth1: {REMEDY}"],
            id="isolated stays isolated",
        ),
        pytest.param(
            on("bond0", vlanID=5),
            on("bond0"),
            [f"spec.l2NetworkConfig.vlanID: never changes, and is 5, not absent: {REMEDY}"],
            id="VLAN",
        ),
        pytest.param(
            on("bond0", trunk={"vlans": [5, 9], "nativeVLAN": 7}),
            on("bond0", trunk={"vlans": [9, 5]}),
            [f"spec.l2NetworkConfig.trunk: never changes, and is [5, 9] with native VLAN 7, not [5, 9]: {REMEDY}"],
            id="native VLAN",
        ),
        pytest.param(
            on("bond0", trunk={"vlans": [5, 9]}), on("bond0", trunk={"vlans": [9, 5]}), [], id="order of VLANs is free"
        ),
    ],
)
def test_where_frames_go_never_changes(old: dict[str, object], new: dict[str, object], errors: list[str]) -> None:
    assert [str(error) for error in network_changes(network(**old), network(**new))] == errors


@pytest.mark.parametrize(
    ("spec", "other", "doubled"),
    [
        pytest.param(on("bond0", vlanID=5), on("bond0", vlanID=5), True, id="same VLAN"),
        pytest.param(on("bond0"), on("bond0"), True, id="both untagged"),
        pytest.param(on("bond0", vlanID=5), on("eth1", vlanID=5), False, id="other uplink"),
        pytest.param(on("bond0", vlanID=5), on("bond0"), False, id="tagged and untagged"),
        pytest.param(on(None), on(None), False, id="isolated"),
        pytest.param(on("bond0", vlanID=5), on("bond0", trunk={"vlans": [5], "nativeVLAN": 5}), False, id="trunk"),
    ],
)
def test_two_networks_on_one_vlan_of_an_uplink_are_found(
    spec: dict[str, object], other: dict[str, object], doubled: bool
) -> None:
    blue, green = network("blue", **spec), network("green", **other)
    assert same_domain(blue, [blue, green]) == (green if doubled else None)
    assert same_domain(green, [blue, green]) == (blue if doubled else None)


HOLDER = Holder("node1", "boot", "c1", "eth0")


def held(given: Interface, role: Role = Role.ACTIVE) -> Interface:
    return replace(given, status=InterfaceStatus(holders=(replace(HOLDER, role=role),)))


def test_addresses_change_only_while_nobody_holds_the_interface() -> None:
    old = interface(ipAddresses=["10.0.0.5/24"], macAddress="02:00:00:00:00:01")
    new = interface(ipAddresses=["10.0.0.6/24"], macAddress="02:00:00:00:00:02")
    why = "cannot change while the Interface is held by container c1 (eth0) on node node1: detach it first"
    assert interface_changes(old, new) == ()
    assert interface_changes(held(old, Role.STANDBY), new) == ()
    assert [str(error) for error in interface_changes(held(old), new)] == [
        f"spec.ipAddresses: {why}",
        f"spec.macAddress: {why}",
    ]


def test_an_interface_stays_on_its_network_and_with_its_vm() -> None:
    old = interface(virtualMachineName="web", interfaceName="eth0")
    new = Interface(ObjectMeta("web-eth0", "shop"), InterfaceSpec("green", vm="db"))
    assert [str(error) for error in interface_changes(old, new)] == [
        "spec.networkName: never changes, and is blue, not green: delete the Interface and make another",
        "spec.virtualMachineName: never changes once it is set, and is web, not db",
        "spec.interfaceName: never changes once it is set, and is eth0, not absent",
    ]
    assert interface_changes(interface(), old) == ()


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        pytest.param({"mtu": 1500}, (), id="nothing"),
        pytest.param({"security": {}, "networkPolicies": "All"}, (), id="policy"),
        pytest.param(
            {"externalDHCP4": True, "externalDHCP6": True, "ra": {"mode": "None"}},
            ("spec.externalDHCP4", "spec.externalDHCP6", "spec.ra"),
            id="DHCP",
        ),
        pytest.param({"externalDHCP4": False}, (), id="the default in writing"),
        pytest.param({"dhcpRelay": {"servers6": ["2001:db8::1"]}}, ("spec.dhcpRelay",), id="relay"),
    ],
)
def test_what_has_no_effect_yet_is_named(spec: dict[str, object], fields: tuple[str, ...]) -> None:
    assert not_enforced(network(**spec)) == fields


def test_domains_follow_uplink_and_vlan() -> None:
    assert network(**on("bond0", vlanID=5)).l2_domain == "bond0:5"
    assert network(**on("bond0", trunk={"vlans": [5], "nativeVLAN": 7})).l2_domain == "bond0:7"
    assert network(**on("bond0", trunk={"vlans": [5]})).l2_domain is None
    assert network().l2_domain == ":blue"
    assert network(**on("bond0", vlanID=5)).spec.l2.vlan_id == VlanId(5)
