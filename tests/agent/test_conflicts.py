"""An address that somebody else uses is told, and nothing else happens."""

import json
import time
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

from homeport_agent.conflicts import judge, probes_of, with_conflict
from homeport_agent.placement import Place, Placement
from homeport_agent.ports import Port, Rights
from homeport_api.addresses import MacAddress, MacDomain, VlanId
from homeport_api.attachment import AttachmentKey, Nic
from homeport_api.interface import Interface, InterfaceKey, InterfaceSpec
from homeport_api.meta import ObjectMeta
from homeport_dataplane.marks import PortMark
from homeport_dataplane.probe import Claim
from homeport_dataplane.vlan import PortVlans
from homeport_netns_fixtures.plugin import WorldBuilder

MAC, FOREIGN = MacAddress("02:00:00:00:00:01"), MacAddress("02:00:00:00:00:99")
NIC = Nic(
    InterfaceKey("shop", "web-eth0"), "u", 1, "blue", "eth0", mac=MAC,
    addresses=(ip_interface("10.0.0.5/24"), ip_interface("2001:db8::5/64")),
)  # fmt: skip
PORT = Port(
    "hp1",
    AttachmentKey("n1", "homeport", "blue", "c1", "eth0"),
    NIC,
    Placement(Place.SWITCH, MacDomain("bond0"), "bond0", True, PortVlans(VlanId(100)), False, 1500),
    PortMark(NIC.interface, NIC.uid, NIC.epoch),
    MAC,
    Rights(),
    None,
)
FOUR, SIX = ip_address("10.0.0.5"), ip_address("2001:db8::5")


def test_every_address_is_asked_for_with_the_tag_it_has_on_the_wire() -> None:
    assert [(probe.address, probe.vlan) for probe in probes_of(PORT)] == [(FOUR, 100), (SIX, 100)]
    untagged = replace(PORT, placement=replace(PORT.placement, uplink_untagged=VlanId(4094)))
    assert {probe.vlan for probe in probes_of(untagged)} == {None}
    plain = replace(PORT, placement=replace(PORT.placement, filtering=False, port=PortVlans()))
    assert {probe.vlan for probe in probes_of(plain)} == {None}


def test_without_a_wire_of_ours_nothing_is_asked() -> None:
    assert probes_of(replace(PORT, placement=replace(PORT.placement, uplink=None))) == ()
    assert probes_of(replace(PORT, placement=replace(PORT.placement, place=Place.HOST))) == ()


def test_only_a_foreign_mac_in_the_same_vlan_is_a_conflict() -> None:
    probes = probes_of(PORT)
    assert judge(probes, [Claim(FOUR, MAC, VlanId(100))]) == {}
    assert judge(probes, [Claim(FOUR, FOREIGN, VlanId(200))]) == {}
    assert judge(probes, [Claim(FOUR, FOREIGN)]) == {}
    claim = Claim(FOUR, FOREIGN, VlanId(100))
    assert judge(probes, [claim]) == {probes[0]: claim}


def test_the_condition_keeps_its_first_time_and_goes_with_the_conflict() -> None:
    interface = Interface(ObjectMeta("web-eth0", "shop"), InterfaceSpec("blue"))
    first = with_conflict(interface, "10.0.0.5 is in use by x", 5.0)
    assert [(each.type, each.since) for each in first.status.conditions] == [("Conflict", 5.0)]
    assert with_conflict(first, "10.0.0.5 is in use by x", 9.0) == first
    assert with_conflict(first, "", 9.0) == interface


OFFICE = """
apiVersion: homeport.dev/v1
kind: Network
metadata: {name: office}
spec:
  type: L2
  nodeInterfaceMatcher: {interfaceName: eth1}
  ipam: {pools: [{cidr: 192.0.2.0/29}, {cidr: "2001:db8:7::/64"}]}
"""


def test_a_foreign_host_with_the_address_is_named_on_the_interface(topology: WorldBuilder) -> None:
    world = topology("a")
    (node,) = world.nodes
    world.outside("squatter", "192.0.2.5/29")
    node.agent.start()
    node.agent.wait_ready()
    node.homeport("apply", "-f", "-", stdin=OFFICE)
    for vm, address in (("good", "192.0.2.4"), ("bad", "192.0.2.5")):
        guest = node.guest(vm)
        path = f"/run/netns/{guest.name}"
        node.homeport("attach", vm, "--network", "office", "--netns", path, "--ip", address)

    def conditions(vm: str) -> list[dict[str, str]]:
        shown = json.loads(node.homeport("get", "interface", f"{vm}-eth0", "-o", "json").stdout)
        found: list[dict[str, str]] = shown["status"].get("conditions", [])
        return [each for each in found if each["type"] == "Conflict"]

    began = time.monotonic()
    while not conditions("bad"):
        assert time.monotonic() < began + 30
        time.sleep(0.2)
    print(f"conflict told after {time.monotonic() - began:.1f} s")
    assert "192.0.2.5 is in use by" in conditions("bad")[0]["message"]
    assert conditions("good") == []


def test_so_is_one_whose_address_the_guest_took(topology: WorldBuilder) -> None:
    world = topology("a")
    (node,) = world.nodes
    world.outside("squatter", "192.0.2.5/29")
    node.agent.start()
    node.agent.wait_ready()
    node.homeport("apply", "-f", "-", stdin=OFFICE.replace("ipam", "gateway4: 192.0.2.1\n  #"))
    guest = node.guest("bad")
    node.homeport("attach", "bad", "--network", "office", "--netns", f"/run/netns/{guest.name}")
    guest.ip("address add 192.0.2.5/29 dev eth0", "address add 192.0.2.4/29 dev eth0")

    def status() -> dict[str, Any]:
        for source in ("192.0.2.4", "192.0.2.5"):
            guest.run("ping", "-c", "1", "-W", "0.1", "-I", source, "192.0.2.1", check=False)
        shown: dict[str, Any] = json.loads(node.homeport("get", "interface", "bad-eth0", "-o", "json").stdout)["status"]
        return shown

    began = time.monotonic()
    while not (found := [each for each in status().get("conditions", []) if each["type"] == "Conflict"]):
        assert time.monotonic() < began + 30
    assert "192.0.2.5 is in use by" in found[0]["message"]
    assert "192.0.2.4" not in found[0]["message"]
    assert {each["address"] for each in status()["learnedAddresses"]} == {"192.0.2.4", "192.0.2.5"}, "and stays bound"
