"""What somebody changes in the switch by hand is put back at the kernel's word, and the guests go on."""

import pytest

from .lan import BRIDGE, UPLINK, Lan, ping, ruleset, wait_until

LINKS = ("ifname", "master", "operstate", "ifalias", "address", "mtu")
PROPERTIES = (
    "vlan_filtering",
    "vlan_default_pvid",
    "stp_state",
    "mcast_snooping",
    "group_fwd_mask",
    "no_linklocal_learn",
)
State = tuple[object, ...]


def look(lan: Lan) -> State:
    """All of node a's switch that an administrator could change: links, the bridge's settings, VLANs, rules."""
    links = lan.a.switch.show("-d", "link")
    bridge = [each["linkinfo"].get("info_data", {}) for each in links if each["ifname"] == BRIDGE]
    settings = tuple(tuple(data.get(name) for name in PROPERTIES) for data in bridge)
    each_link = {tuple(link.get(name) for name in LINKS) for link in links}
    rules = sorted(ruleset(lan.a.switch).splitlines())
    return each_link, settings, lan.vlans(lan.a), rules


@pytest.mark.parametrize(
    ("tool", "commands"),
    [
        pytest.param("bridge", ("vlan del vid 100 dev {port}",), id="VLAN off a port"),
        pytest.param("bridge", ("vlan del vid 100 dev {uplink}",), id="VLAN off the uplink"),
        pytest.param("bridge", ("vlan add vid 1 dev {port}",), id="VLAN 1 on a port"),
        pytest.param("bridge", ("vlan add vid 1 dev {port} pvid untagged",), id="VLAN 1 as PVID of a port"),
        pytest.param("bridge", ("vlan add vid 1 dev {uplink} pvid untagged",), id="VLAN 1 as PVID of the uplink"),
        pytest.param("bridge", ("vlan add vid 1 dev {bridge} self",), id="VLAN 1 on the bridge"),
        pytest.param("ip", ("link set {bridge} type bridge vlan_filtering 0",), id="VLAN filtering off"),
        pytest.param("ip", ("link set {bridge} type bridge vlan_default_pvid 1",), id="default PVID"),
        pytest.param("ip", ("link set {port} nomaster",), id="port off the bridge"),
        pytest.param("ip", ("link set {port} down",), id="port down"),
        pytest.param("ip", ("link delete {port}",), id="port deleted"),
        pytest.param("ip", ("link delete {uplink}",), id="uplink deleted"),
        pytest.param("ip", ("link delete {bridge}",), id="bridge deleted"),
        pytest.param("ip", ("link delete {bridge}", "link delete {uplink}"), id="bridge and uplink deleted"),
        pytest.param("nft", ("flush ruleset",), id="rules flushed"),
        pytest.param("nft", ("delete element bridge homeport speaking {{ {port} }}",), id="port out of the rules"),
    ],
)
def test_what_is_changed_by_hand_is_put_back(lan: Lan, tool: str, commands: tuple[str, ...]) -> None:
    before = look(lan)
    names = {"port": lan["blue1"].port, "bridge": BRIDGE, "uplink": UPLINK}
    lines = "\n".join(command.format(**names) for command in commands)
    option = ("-f", "-") if tool == "nft" else ("-batch", "-")
    lan.a.switch.run(tool, *option, stdin=lines + "\n")
    wait_until(lambda: look(lan) == before, f"healed: {'; '.join(commands)}")
    wait_until(lambda: ping(lan["blue1"], lan["blue3"].address), "blue1 reaches blue3")
