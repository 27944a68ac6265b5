"""Manifests as users write them: what is accepted, and the exact words of every refusal."""

# ruff: noqa: E501 (texts are quoted whole, as users see them)

from textwrap import dedent
from typing import Any

import pytest
import yaml

from homeport_api import wire
from homeport_api.errors import Invalid
from homeport_api.interface import Interface
from homeport_api.manifest import Document, kind_by_name, read_manifest
from homeport_api.network import Lifecycle, Network


def refusals(text: str) -> list[str]:
    with pytest.raises(Invalid) as refusal:
        read_manifest(Document("", body) for body in yaml.safe_load_all(text))
    return [str(error).removeprefix("Network blue ").removeprefix("Interface web ") for error in refusal.value.fields]


def network_refusals(spec: str) -> list[str]:
    return refusals(f"apiVersion: homeport.dev/v1\nkind: Network\nmetadata: {{name: blue}}\nspec: {spec}")


def interface_refusals(spec: str) -> list[str]:
    return refusals(f"apiVersion: homeport.dev/v1\nkind: Interface\nmetadata: {{name: web}}\nspec: {spec}")


def read_one(text: str) -> Any:
    (read,) = read_manifest([Document("", yaml.safe_load(text))]).objects
    return read


UPLINK = "nodeInterfaceMatcher: {interfaceName: bond0}"
VLAN_RULE = "VLAN IDs 0 and 4095 are reserved by IEEE 802.1Q"


@pytest.mark.parametrize(
    ("spec", "errors"),
    [
        pytest.param("[]", ["spec: must be an object, not a list"], id="spec is a list"),
        pytest.param(
            "{type: L3}",
            ["spec.type: must be L2, not the text 'L3': Homeport makes Layer 2 networks only"],
            id="other type",
        ),
        pytest.param(
            "{gateway: 10.0.0.1}", ["spec.gateway: unknown field; did you mean spec.gateway6?"], id="near name"
        ),
        pytest.param(
            "{vlanID: 3}",
            ["spec.vlanID: unknown field; did you mean spec.l2NetworkConfig.vlanID?"],
            id="misplaced name",
        ),
        pytest.param(
            "{l2NetworkConfig: {vlanId: 3}}",
            ["spec.l2NetworkConfig.vlanId: unknown field; did you mean spec.l2NetworkConfig.vlanID?"],
            id="case",
        ),
        pytest.param(
            "{dnsConfig: {xyzzy: 3}}",
            ["spec.dnsConfig.xyzzy: unknown field; known here: nameservers, searches"],
            id="no near name",
        ),
        pytest.param(
            f"{{{UPLINK}, l2NetworkConfig: {{vlanID: 0}}}}",
            [f"spec.l2NetworkConfig.vlanID: 0 is not between 1 and 4094: {VLAN_RULE}"],
            id="VLAN 0",
        ),
        pytest.param(
            f"{{{UPLINK}, l2NetworkConfig: {{vlanID: 4095}}}}",
            [f"spec.l2NetworkConfig.vlanID: 4095 is not between 1 and 4094: {VLAN_RULE}"],
            id="VLAN 4095",
        ),
        pytest.param(
            f'{{{UPLINK}, l2NetworkConfig: {{vlanID: "100"}}}}',
            ["spec.l2NetworkConfig.vlanID: must be a whole number, not the text '100'"],
            id="VLAN in quotes",
        ),
        pytest.param(
            "{l2NetworkConfig: {vlanID: 100}}",
            [
                "spec.l2NetworkConfig.vlanID: needs spec.nodeInterfaceMatcher.interfaceName: an isolated Network has no "
                "uplink to tag frames on"
            ],
            id="VLAN without uplink",
        ),
        pytest.param(
            f"{{{UPLINK}, l2NetworkConfig: {{vlanID: 5, trunk: {{vlans: [6]}}}}}}",
            [
                "spec.l2NetworkConfig.trunk: excludes vlanID: a NIC carries one VLAN untagged or several tagged; keep "
                "one of both"
            ],
            id="VLAN and trunk",
        ),
        pytest.param(
            f'{{{UPLINK}, l2NetworkConfig: {{trunk: {{vlans: [1, "5-3", 4095, "a", "9-4095", true]}}}}}}',
            [
                "spec.l2NetworkConfig.trunk.vlans[1]: '5-3' ends before it begins",
                f"spec.l2NetworkConfig.trunk.vlans[2]: 4095 is not between 1 and 4094: {VLAN_RULE}",
                'spec.l2NetworkConfig.trunk.vlans[3]: must be a VLAN ID or a range, like 100 or "200-210", not the '
                "text 'a'",
                f"spec.l2NetworkConfig.trunk.vlans[4]: 4095 is not between 1 and 4094: {VLAN_RULE}",
                'spec.l2NetworkConfig.trunk.vlans[5]: must be a VLAN ID or a range, like 100 or "200-210", not the '
                "boolean true (if text was meant, put it in quotes)",
            ],
            id="trunk VLANs",
        ),
        pytest.param(
            f'{{{UPLINK}, l2NetworkConfig: {{trunk: {{vlans: [100, "90-110"]}}}}}}',
            ["spec.l2NetworkConfig.trunk.vlans[1]: 100 is listed already, in 100"],
            id="VLAN listed twice",
        ),
        pytest.param(
            f"{{{UPLINK}, l2NetworkConfig: {{trunk: {{vlans: []}}}}}}",
            ["spec.l2NetworkConfig.trunk.vlans: must not be empty; leave it out instead"],
            id="empty trunk",
        ),
        pytest.param(
            f"{{{UPLINK}, l2NetworkConfig: {{trunk: {{nativeVLAN: 5}}}}}}",
            ["spec.l2NetworkConfig.trunk.vlans: is required"],
            id="trunk of the native VLAN alone",
        ),
        pytest.param(
            f"{{{UPLINK}, l2NetworkConfig: {{trunk: {{vlans: [5]}}}}, ipam: {{pools: [{{cidr: 10.0.0.0/24}}]}}}}",
            [
                "spec.ipam.pools: a trunk without nativeVLAN has no addresses of its own: set "
                "l2NetworkConfig.trunk.nativeVLAN, or take the pools out"
            ],
            id="pool on a trunk without native VLAN",
        ),
        pytest.param(
            "{nodeInterfaceMatcher: {}}",
            ["spec.nodeInterfaceMatcher.interfaceName: is required"],
            id="uplink without name",
        ),
        pytest.param(
            "{nodeInterfaceMatcher: {interfaceName: averylongbridgename}}",
            [
                "spec.nodeInterfaceMatcher.interfaceName: 'averylongbridgename' is not a link name: 1 to 15 characters, "
                "none of them a space, '/', ':' or '%'"
            ],
            id="uplink name too long",
        ),
        pytest.param(
            "{nodeInterfaceMatcher: {interfaceName: ../eth0}}",
            [
                "spec.nodeInterfaceMatcher.interfaceName: '../eth0' is not a link name: 1 to 15 characters, none of them "
                "a space, '/', ':' or '%'"
            ],
            id="uplink name with slash",
        ),
        pytest.param(
            "{networkLifecycle: Mine}",
            ["spec.networkLifecycle: must be Managed or UserManaged, not the text 'Mine'"],
            id="lifecycle",
        ),
        pytest.param(
            "{gateway4: 10.0.0.300}",
            ["spec.gateway4: '10.0.0.300' is not an IP address, like 192.0.2.10 or 2001:db8::10"],
            id="gateway is no address",
        ),
        pytest.param(
            '{gateway4: "2001:db8::1", gateway6: 10.0.0.1}',
            [
                "spec.gateway4: '2001:db8::1' is an IPv6 address; an IPv4 address is needed here",
                "spec.gateway6: '10.0.0.1' is an IPv4 address; an IPv6 address is needed here",
            ],
            id="gateways of the other family",
        ),
        pytest.param(
            '{gateway6: "fe80::1%eth0"}',
            ["spec.gateway6: 'fe80::1%eth0' names a link after '%': leave that out"],
            id="gateway with zone",
        ),
        pytest.param(
            "{gateway4: 10.0.1.1, ipam: {pools: [{cidr: 10.0.0.0/24}]}}",
            ["spec.gateway4: 10.0.1.1 is in none of the pools: 10.0.0.0/24"],
            id="gateway outside the pools",
        ),
        pytest.param(
            "{gateway4: 224.0.0.1}",
            ["spec.gateway4: 224.0.0.1 is not an address that a router could have"],
            id="gateway is multicast",
        ),
        pytest.param(
            "{routes: [{to: 0.0.0.0/0}, {to: 10.0.0.1/8}, {via: 10.0.0.1}]}",
            [
                "spec.routes[0].to: '0.0.0.0/0' is the default route: set gateway4 instead",
                "spec.routes[1].to: '10.0.0.1/8' has host bits set: write 10.0.0.0/8",
                "spec.routes[2].to: is required",
                "spec.routes[2].via: unknown field; known here: to",
            ],
            id="routes",
        ),
        pytest.param(
            "{dnsConfig: {nameservers: [dns.example.org], searches: [a..b]}}",
            [
                "spec.dnsConfig.nameservers[0]: 'dns.example.org' is not an IP address, like 192.0.2.10 or 2001:db8::10",
                "spec.dnsConfig.searches[0]: 'a..b' is not a domain name, like example.org",
            ],
            id="DNS",
        ),
        pytest.param("{mtu: 67}", ["spec.mtu: 67 is not between 68 and 65535"], id="MTU too small"),
        pytest.param(
            "{mtu: 1279, ra: {mode: Own}}",
            ["spec.mtu: 1279 is too small for IPv6, which needs at least 1280"],
            id="MTU too small for IPv6",
        ),
        pytest.param(
            "{ipam: {pools: [{cidr: 10.0.0.1/24}, {cidr: 10.1.0.0}, {cidr: 224.0.0.0/8}, {cidr: x}, {}]}}",
            [
                "spec.ipam.pools[0].cidr: '10.0.0.1/24' has host bits set: write 10.0.0.0/24",
                "spec.ipam.pools[1].cidr: '10.1.0.0' has no prefix length: write 10.1.0.0/24 or the like",
                "spec.ipam.pools[2].cidr: '224.0.0.0/8' holds no addresses that a guest could have",
                "spec.ipam.pools[3].cidr: 'x' is not a CIDR, like 192.0.2.0/24 or 2001:db8::/64",
                "spec.ipam.pools[4].cidr: is required",
            ],
            id="pool CIDRs",
        ),
        pytest.param(
            "{ipam: {pools: [{cidr: 10.0.0.0/24, ranges: [{start: 10.0.0.9, end: 10.0.0.5}, {start: 10.0.0.9}]}]}}",
            [
                "spec.ipam.pools[0].ranges[0].end: 10.0.0.5 is before the start 10.0.0.9",
                "spec.ipam.pools[0].ranges[1].end: is required",
            ],
            id="range backwards",
        ),
        pytest.param(
            '{ipam: {pools: [{cidr: 10.0.0.0/24, ranges: [{start: 10.0.0.9, end: "2001:db8::1"}]}]}}',
            ["spec.ipam.pools[0].ranges[0].end: 2001:db8::1 is of another address family than the start 10.0.0.9"],
            id="range of two families",
        ),
        pytest.param(
            "{ipam: {pools: [{cidr: 10.0.0.0/24, ranges: [{start: 10.0.0.9, end: 10.0.1.5}], exclude: [10.0.2.0/24]}]}}",
            [
                "spec.ipam.pools[0].ranges[0]: 10.0.0.9-10.0.1.5 is not inside 10.0.0.0/24",
                "spec.ipam.pools[0].exclude[0]: 10.0.2.0-10.0.2.255 is not inside 10.0.0.0/24",
            ],
            id="outside the pool",
        ),
        pytest.param(
            "{ipam: {pools: [{cidr: 10.0.0.0/24}, {cidr: 10.0.0.0/25}]}}",
            ["spec.ipam.pools[1].cidr: 10.0.0.0/25 overlaps 10.0.0.0/24 of pools[0]"],
            id="pools overlap",
        ),
        pytest.param(
            "{ipam: {reclaimAfter: 1day}}",
            [
                "spec.ipam.reclaimAfter: '1day' is not a duration: write numbers with the units d, h, m, s or ms, like "
                "24h or 1h30m"
            ],
            id="duration",
        ),
        pytest.param(
            "{ipam: {reclaimAfter: 3600}}",
            ["spec.ipam.reclaimAfter: must be text, not the number 3600 (if text was meant, put it in quotes)"],
            id="duration without unit",
        ),
        pytest.param(
            '{externalDHCP4: true, externalDHCP6: yes, ipam: {pools: [{cidr: "2001:db8::/64"}, {cidr: 10.0.0.0/24}]}}',
            [
                "spec.ipam.pools[1]: is IPv4, and externalDHCP4 leaves IPv4 addresses to a server outside: keep one of "
                "both",
                "spec.ipam.pools[0]: is IPv6, and externalDHCP6 leaves IPv6 addresses to a server outside: keep one of "
                "both",
            ],
            id="pools and external DHCP",
        ),
        pytest.param(
            "{externalDHCP4: true, dhcpRelay: {servers4: [192.0.2.1], relayPool4: 10.0.0.2-10.0.0.9}}",
            ["spec.externalDHCP4: excludes dhcpRelay.servers4: keep one of both"],
            id="external DHCP and relay",
        ),
        pytest.param(
            "{dhcpRelay: {}}",
            ["spec.dhcpRelay.servers4: is required, unless servers6 is there: a relay needs a server"],
            id="relay without servers",
        ),
        pytest.param(
            "{dhcpRelay: {servers4: [192.0.2.1], relayPool6: 10.0.0.1-10.0.0.9}}",
            [
                "spec.dhcpRelay.relayPool4: is required with servers4: replies find each node by its address in there",
                "spec.dhcpRelay.relayPool6: 10.0.0.1-10.0.0.9 is not IPv6",
            ],
            id="relay pools",
        ),
        pytest.param(
            "{ra: {mode: Always, prefixes: [10.0.0.0/24]}}",
            [
                "spec.ra.mode: must be None or Own, not the text 'Always'",
                "spec.ra.prefixes[0]: '10.0.0.0/24' is an IPv4 CIDR; an IPv6 one is needed here",
            ],
            id="RA",
        ),
        pytest.param(
            "{security: {antiSpoof: maybe}}",
            ["spec.security.antiSpoof: must be true or false, not the text 'maybe'"],
            id="security",
        ),
        pytest.param(
            "{allowedNamespaces: {matchExpressions: [{key: a, operator: In}, {key: b, operator: Exists, values: [x]}]}}",
            [
                "spec.allowedNamespaces.matchExpressions[0].values: is required with the operator In",
                "spec.allowedNamespaces.matchExpressions[1].values: must be left out with the operator Exists",
            ],
            id="selector operands",
        ),
        pytest.param(
            "{allowedNamespaces: {matchLabels: {team: 7, -x: a}, names: []}}",
            [
                "spec.allowedNamespaces.matchLabels.team: must be text, not the number 7 (if text was meant, put it in "
                "quotes)",
                "spec.allowedNamespaces.matchLabels: '-x' is not a label key: up to 63 letters, digits, '-', '_' and "
                "'.', after an optional 'prefix/'",
                "spec.allowedNamespaces.names: unknown field; known here: matchExpressions, matchLabels",
            ],
            id="selector",
        ),
        pytest.param(
            "{provider: GKE}",
            [
                "spec.provider: unknown field; known here: "
                + ", ".join(sorted(entry.name for entry in wire.wire_network.SPEC.fields if not entry.foreign))
            ],
            id="field of another group",
        ),
    ],
)
def test_a_network_is_refused_with_every_error(spec: str, errors: list[str]) -> None:
    assert network_refusals(spec) == errors


@pytest.mark.parametrize(
    ("spec", "errors"),
    [
        pytest.param("{}", ["spec.networkName: is required"], id="no network"),
        pytest.param(
            "{networkName: blue, network: blue}",
            ["spec.network: unknown field; did you mean spec.networkName?"],
            id="near name",
        ),
        pytest.param(
            "{networkName: blue, ipAddresses: 10.0.0.5}",
            ["spec.ipAddresses: must be a list, not the text '10.0.0.5'"],
            id="address is no list",
        ),
        pytest.param(
            '{networkName: blue, ipAddresses: [10.0.0.0/24, 10.0.0.255/24, 224.0.0.5, 0.0.0.0, 127.0.0.1, x, "fe80::1%a"]}',
            [
                "spec.ipAddresses[0]: '10.0.0.0/24' is the network's own address, not a guest's",
                "spec.ipAddresses[1]: '10.0.0.255/24' is the broadcast address of 10.0.0.0/24",
                "spec.ipAddresses[2]: '224.0.0.5' is not an address that a guest could have",
                "spec.ipAddresses[3]: '0.0.0.0' is not an address that a guest could have",
                "spec.ipAddresses[4]: '127.0.0.1' is not an address that a guest could have",
                "spec.ipAddresses[5]: 'x' is not an address, like 192.0.2.10/24 or 2001:db8::10/64",
                "spec.ipAddresses[6]: 'fe80::1%a' names a link after '%': leave that out",
            ],
            id="addresses",
        ),
        pytest.param(
            "{networkName: blue, ipAddresses: [10.0.0.5, 10.0.0.6]}",
            [
                "spec.ipAddresses[1]: 10.0.0.6 is a second IPv4 address beside 10.0.0.5: an Interface has one of each "
                "family; put further ones into allowedAddresses"
            ],
            id="two addresses of a family",
        ),
        pytest.param(
            '{networkName: blue, macAddress: "01:00:5e:00:00:01"}',
            ["spec.macAddress: '01:00:5e:00:00:01' is a multicast MAC: the lowest bit of the first octet must be 0"],
            id="multicast MAC",
        ),
        pytest.param(
            '{networkName: blue, macAddress: "00:00:00:00:00:00"}',
            ["spec.macAddress: '00:00:00:00:00:00' is the zero MAC"],
            id="zero MAC",
        ),
        pytest.param(
            '{networkName: blue, macAddress: "02:00:5e"}',
            ["spec.macAddress: '02:00:5e' is not a MAC address: write six octets, like 02:00:5e:10:00:01"],
            id="short MAC",
        ),
        pytest.param(
            "{networkName: blue, macAddress: 12:34:56:10:20:30}",
            ["spec.macAddress: must be text, not the number 9783973230 (if text was meant, put it in quotes)"],
            id="MAC that YAML takes for a number",
        ),
        pytest.param(
            "{networkName: blue, virtualMachineName: web}",
            ["spec.interfaceName: is required with virtualMachineName: the VM's own name for it, like eth0"],
            id="half an identity",
        ),
        pytest.param(
            "{networkName: blue, virtualMachineName: a/b, interfaceName: eth0}",
            [
                "spec.virtualMachineName: 'a/b' is not usable as a name: 1 to 253 printable characters without spaces "
                "or '/'"
            ],
            id="VM name with slash",
        ),
        pytest.param(
            "{networkName: blue, allowedAddresses: [{address: 10.0.0.9}], trusted: [root]}",
            [
                "spec.allowedAddresses[0].vlan: is required",
                "spec.trusted[0]: must be dhcpServer or router, not the text 'root'",
            ],
            id="allowed and trusted",
        ),
    ],
)
def test_an_interface_is_refused_with_every_error(spec: str, errors: list[str]) -> None:
    assert interface_refusals(spec) == errors


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        pytest.param(
            "just text",
            ["must be an object with apiVersion, kind, metadata and spec, not the text 'just text'"],
            id="text",
        ),
        pytest.param("{}", ["apiVersion: is required", "kind: is required"], id="empty object"),
        pytest.param(
            "{apiVersion: homeport.dev/v2, kind: Network}",
            [
                "Network apiVersion: 'homeport.dev/v2' is not known for Network: write homeport.dev/v1 or "
                "networking.gke.io/v1"
            ],
            id="version",
        ),
        pytest.param(
            "{apiVersion: homeport.dev/v1, kind: Netwrok}",
            ["Netwrok kind: 'Netwrok' is not known here; did you mean Network?"],
            id="kind",
        ),
        pytest.param(
            "{apiVersion: v1, kind: Pod}",
            [
                "Pod kind: 'Pod' is not known here; known are Network, Interface, NetworkInterface, VirtualMachine, NetworkPolicy, MultiNetworkPolicy, Namespace"
            ],
            id="kind of somebody else",
        ),
        pytest.param(
            "{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: Blue, namespace: a}, spec: {}}",
            [
                "Network Blue metadata.namespace: must be left out: a Network belongs to no namespace",
                "Network Blue metadata.name: 'Blue' is not an object name: up to 253 lower-case letters, digits, '-' and "
                "'.', beginning and ending with a letter or digit",
            ],
            id="metadata",
        ),
        pytest.param(
            "{apiVersion: homeport.dev/v1, kind: VirtualMachine, metadata: {name: web}, spec: {interfaces: "
            "[{name: eth0, networkName: a, default: true}, {name: eth0, networkName: b, default: true}, {nam: eth1}]}}",
            [
                "VirtualMachine web spec.interfaces[2].name: is required",
                "VirtualMachine web spec.interfaces[2].networkName: is required",
                "VirtualMachine web spec.interfaces[2].nam: unknown field; did you mean spec.interfaces[2].name?",
            ],
            id="VM interfaces",
        ),
        pytest.param(
            "{apiVersion: homeport.dev/v1, kind: VirtualMachine, metadata: {name: web}, spec: {interfaces: "
            "[{name: eth0, networkName: a, default: true}, {name: eth0, networkName: b, default: true}]}}",
            [
                "VirtualMachine web spec.interfaces[1].name: 'eth0' is the name of interfaces[0] already",
                "VirtualMachine web spec.interfaces[1].default: interfaces[0] is the default already: keep one",
            ],
            id="VM interfaces doubled",
        ),
    ],
)
def test_documents_are_refused(text: str, errors: list[str]) -> None:
    assert refusals(text) == errors


def test_errors_of_all_documents_come_at_once_with_their_places() -> None:
    bodies = yaml.safe_load_all(
        dedent("""
        {apiVersion: homeport.dev/v1, kind: Network, metadata: {name: blue}, spec: {mtu: 1}}
        ---
        ---
        {apiVersion: homeport.dev/v1, kind: Interface, metadata: {name: web}, spec: {}}
        ---
        {apiVersion: homeport.dev/v1, kind: Interface, metadata: {name: db}, spec: {networkName: blue}}
        ---
        {apiVersion: networking.gke.io/v1, kind: NetworkInterface, metadata: {name: db}, spec: {networkName: blue}}
        """)
    )
    with pytest.raises(Invalid) as refusal:
        read_manifest(Document(f"lab.yaml:{at}", body) for at, body in enumerate(bodies, 1))
    assert [str(error) for error in refusal.value.fields] == [
        "lab.yaml:1 Network blue spec.mtu: 1 is not between 68 and 65535",
        "lab.yaml:3 Interface web spec.networkName: is required",
        "lab.yaml:5 NetworkInterface db metadata.name: is defined twice; the first is lab.yaml:4 Interface db",
    ]


def test_manifests_of_the_gke_groups_are_taken_as_they_are() -> None:
    manifest = read_manifest(
        Document("", body)
        for body in yaml.safe_load_all(
            dedent("""
            apiVersion: networking.gke.io/v1
            kind: Network
            metadata: {name: blue}
            spec:
              type: L2
              provider: GKE
              IPAMMode: External
              parametersRef: {group: networking.gke.io, kind: GKENetworkParamSet, name: x}
              networkLifecycle: AnthosManaged
              nodeInterfaceMatcher: {interfaceName: eth0}
              l2NetworkConfig: {vlanID: 100, prefixLength4: 24}
              gateway4: 10.0.0.1
              routes: [{to: 10.1.0.0/16}]
              dnsConfig: {nameservers: [8.8.8.8, 8.8.8.8]}
            ---
            apiVersion: networking.gke.io/v1
            kind: NetworkInterface
            metadata: {name: web, namespace: shop}
            spec: {networkName: blue, ipAddresses: [10.0.0.5/24]}
            """)
        )
    )
    network, interface = manifest.objects
    assert isinstance(network, Network)
    assert isinstance(interface, Interface)
    assert network.spec.lifecycle is Lifecycle.MANAGED
    assert len(network.spec.dns.nameservers) == 1
    assert [str(warning) for warning in manifest.warnings] == [
        "Network blue spec.provider: has no meaning here and is not kept",
        "Network blue spec.IPAMMode: has no meaning here and is not kept: spec.ipam and spec.externalDHCP4 decide",
        "Network blue spec.parametersRef: has no meaning here and is not kept",
    ]
    assert wire.INTERFACE.show(interface)["apiVersion"] == "homeport.dev/v1"


def test_a_list_as_get_prints_it_is_taken_apart() -> None:
    one = read_one("{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: a}, spec: {}}")
    two = read_one("{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: b}, spec: {}}")
    listed = {"apiVersion": "v1", "kind": "List", "items": [wire.NETWORK.show(one), wire.NETWORK.show(two)]}
    assert read_manifest([Document("", listed)]).objects == (one, two)


def test_an_object_without_namespace_goes_where_the_caller_says() -> None:
    body = yaml.safe_load("{apiVersion: homeport.dev/v1, kind: Interface, metadata: {name: a}, spec: {networkName: b}}")
    (interface,) = read_manifest([Document("", body)], "shop").objects
    assert interface.meta.namespace == "shop"


@pytest.mark.parametrize("word", ["net", "network", "Networks", "nets"])
def test_kinds_have_the_names_that_kubectl_users_expect(word: str) -> None:
    assert kind_by_name(word) is wire.NETWORK
    assert kind_by_name("pods") is None
