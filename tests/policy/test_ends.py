"""What somebody names as two ends, as packets."""

from ipaddress import ip_address

import pytest

from homeport_api.errors import HomeportError, Invalid, NotFound
from homeport_api.workload import NamedPort, Protocol
from homeport_policy.ends import Asked, Probe, packets_of, read_probe
from homeport_policy.evaluate import Packet
from homeport_policy.facts import Facts
from tests.policy.records import interface, known


def network(name: str, vlan: int, more: str = "") -> str:
    return (
        f"---\n{{apiVersion: homeport.dev/v1, kind: Network, metadata: {{name: {name}}}, spec: {{type: L2,\n"
        f" nodeInterfaceMatcher: {{interfaceName: bond0}}, l2NetworkConfig: {{vlanID: {vlan}{more}}}}}}}\n"
    )


TRUNK = network("trunk", 1).replace("vlanID: 1", "trunk: {vlans: [7], nativeVLAN: 100}")
ADDRESSES = {
    "shop/web-eth0": ("10.1.0.1/24", "fe80::1/64", "2001:db8:1::1/64"),
    "shop/web-eth1": ("10.2.0.1/24",),
    "shop/db-eth0": ("10.1.0.2/24", "2001:db8:1::2/64"),
    "shop/db-eth1": ("10.2.0.2/24",),
    "shop/six-eth0": ("2001:db8:2::6/64",),
    "ops/probe": ("10.1.0.9/24",),
    "ops/firewall-eth0": ("10.1.0.20/24",),
    "ops/dhcp-eth0": (),
}
WORLD = (
    network("blue", 100)
    + network("red", 200)
    + TRUNK
    + interface("shop/web-eth0", "blue", "web")
    + interface("shop/web-eth1", "red", "web", "eth1")
    + interface("shop/db-eth0", "blue", "db", allowedAddresses="[10.1.0.50]")
    + interface("shop/db-eth1", "red", "db", "eth1")
    + interface("shop/six-eth0", "red", "six")
    + interface("shop/c-1", "blue", "c:1", allowedAddresses="[10.1.0.50]")
    + interface("ops/probe", "blue")
    + interface("ops/firewall-eth0", "trunk", "firewall", allowedAddresses="[{vlan: 7, address: 10.7.0.1}]")
    + interface("ops/dhcp-eth0", "blue", "dhcp")
)


@pytest.fixture(scope="module")
def facts() -> Facts:
    named = (NamedPort("pg", 5432), NamedPort("dns", 53, Protocol.UDP))
    return known(WORLD, {**ADDRESSES, "shop/c-1": ("10.1.0.51/24",)}, ports={"shop/db": named})


def told(packets: tuple[Packet, ...]) -> list[tuple[str, ...]]:
    return [
        (
            str(each.source),
            str(each.target),
            each.domain,
            each.sender.interface.name if each.sender else "-",
            each.receiver.interface.name if each.receiver else "-",
        )
        for each in packets
    ]


@pytest.mark.parametrize(
    ("source", "target", "net", "expected"),
    [
        pytest.param(
            "shop/web:eth0",
            "shop/db:eth0",
            None,
            [
                ("10.1.0.1", "10.1.0.2", "bond0:100", "web-eth0", "db-eth0"),
                ("2001:db8:1::1", "2001:db8:1::2", "bond0:100", "web-eth0", "db-eth0"),
            ],
            id="both families, no link-local address while there is another",
        ),
        pytest.param(
            "web",
            "db",
            "red",
            [("10.2.0.1", "10.2.0.2", "bond0:200", "web-eth1", "db-eth1")],
            id="the network picks the NICs",
        ),
        pytest.param(
            "shop/web:web-eth1",
            "shop/db",
            None,
            [("10.2.0.1", "10.2.0.2", "bond0:200", "web-eth1", "db-eth1")],
            id="by the Interface's own name, and one NIC picks the other",
        ),
        pytest.param(
            "web", "ops/probe", None, [("10.1.0.1", "10.1.0.9", "bond0:100", "web-eth0", "probe")], id="a pod"
        ),
        pytest.param(
            "web",
            "ops/firewall",
            None,
            [("10.1.0.1", "10.1.0.20", "bond0:100", "web-eth0", "firewall-eth0")],
            id="a trunk in its native VLAN",
        ),
        pytest.param(
            "web",
            "ops/firewall",
            "trunk",
            [("10.1.0.1", "10.1.0.20", "bond0:100", "web-eth0", "firewall-eth0")],
            id="two Networks in one L2 domain",
        ),
        pytest.param(
            "web",
            "10.2.0.2",
            None,
            [("10.2.0.1", "10.2.0.2", "bond0:200", "web-eth1", "db-eth1")],
            id="an address that an Interface has",
        ),
        pytest.param(
            "10.2.0.77",
            "web",
            None,
            [("10.2.0.77", "10.2.0.1", "bond0:200", "-", "web-eth1")],
            id="an address outside, on-link on one NIC",
        ),
        pytest.param(
            "web",
            "192.0.2.1",
            "blue",
            [("10.1.0.1", "192.0.2.1", "bond0:100", "web-eth0", "-")],
            id="an address far away, by a network",
        ),
        pytest.param(
            "10.1.0.1",
            "2001:db8:1::2",
            None,
            "10.1.0.1 and 2001:db8:1::2 are of two families",
            id="two families",
        ),
        pytest.param(
            "10.7.0.1",
            "10.7.0.2",
            None,
            [("10.7.0.1", "10.7.0.2", "bond0:7", "firewall-eth0", "-")],
            id="two addresses, one of them a trunk's in a VLAN",
        ),
        pytest.param(
            "shop/c:1",
            "ops/probe",
            None,
            [("10.1.0.51", "10.1.0.9", "bond0:100", "c-1", "probe")],
            id="colon",
        ),
    ],
)
def test_ends(facts: Facts, source: str, target: str, net: str | None, expected: list[tuple[str, ...]] | str) -> None:
    asked = Asked(source, target, network=net, namespace="shop")
    if isinstance(expected, str):
        with pytest.raises(Invalid, match=expected):
            packets_of(facts, asked)
    else:
        assert told(packets_of(facts, asked)) == expected


@pytest.mark.parametrize(
    ("source", "target", "net", "error", "says"),
    [
        pytest.param(
            "shop/web",
            "shop/db",
            None,
            Invalid,
            "shop/web:eth0 to shop/db:eth0 in bond0:100; shop/web:eth1",
            id="twice",
        ),
        pytest.param("shop/web", "192.0.2.1", None, Invalid, "say which interface, or --network", id="far away"),
        pytest.param("shop/web", "10.1.0.50", None, Invalid, "to shop/c:1:eth0 in", id="a shared address"),
        pytest.param("shop/web:eth0", "10.1.0.1", None, Invalid, "the same Interface", id="itself"),
        pytest.param("shop/", "shop/db", None, Invalid, "neither an address nor a VM", id="no name"),
        pytest.param("shop/wbe", "shop/db", None, NotFound, "there are shop/c:1, shop/db, shop/six", id="typo"),
        pytest.param("no/x", "shop/db", None, NotFound, "no VM or pod no/x.*there are ops/dhcp", id="no namespace"),
        pytest.param("shop/web:eth7", "shop/db", None, NotFound, "no interface eth7; there are eth0, eth1", id="NIC"),
        pytest.param("shop/web", "shop/db", "bleu", NotFound, "there are blue, red, trunk", id="no such Network"),
        pytest.param("shop/six", "shop/db", "blue", NotFound, "shop/six is not on Network blue; it is on red", id="n"),
        pytest.param("shop/six", "ops/probe", None, NotFound, "no L2 domain in common", id="apart"),
        pytest.param("shop/six", "shop/db", None, NotFound, "no addresses of one family", id="families"),
        pytest.param("ops/dhcp", "ops/probe", None, NotFound, "ops/dhcp has none", id="no address known"),
        pytest.param("192.0.2.1", "192.0.2.2", None, NotFound, "neither 192.0.2.1 nor 192.0.2.2", id="strangers"),
    ],
)
def test_what_cannot_be_asked(
    facts: Facts, source: str, target: str, net: str | None, error: type[HomeportError], says: str
) -> None:
    with pytest.raises(error, match=says):
        packets_of(facts, Asked(source, target, network=net, namespace="shop"))


def test_a_named_port_is_the_receivers(facts: Facts) -> None:
    def ask(target: str, probe: Probe) -> tuple[object, object]:
        packet = packets_of(facts, Asked("web", target, probe, "blue", "shop"))[0]
        return packet.protocol, packet.port

    assert ask("db", read_probe("pg/tcp")) == (Protocol.TCP, 5432)
    assert ask("db", read_probe("dns/udp")) == (Protocol.UDP, 53)
    assert ask("192.0.2.1", read_probe("80")) == (Protocol.TCP, 80)
    assert ask("db", Probe()) == (None, None)
    with pytest.raises(NotFound, match="shop/db has no port dns/tcp; there are pg=5432/tcp, dns=53/udp"):
        ask("db", read_probe("dns"))
    with pytest.raises(Invalid, match="what is outside has no named ports"):
        ask("192.0.2.1", read_probe("pg"))


@pytest.mark.parametrize("text", ["", "0", "65536", "80/icmp", "80/", "-1", "²", "A B/tcp", "80/tcp/udp"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(ValueError, match="is not a port"):
        read_probe(text)


def test_a_scoped_address_is_a_name(facts: Facts) -> None:
    with pytest.raises(NotFound):
        packets_of(facts, Asked("fe80::1%eth0", "db", namespace="shop"))
    assert ip_address("fe80::1%eth0") != ip_address("fe80::1")
