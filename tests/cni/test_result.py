"""Results in four versions, alone and behind a prevResult."""

import json
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.addresses import MacAddress
from homeport_api.attachment import AttachedNic, Nic
from homeport_api.errors import Invalid
from homeport_api.interface import Interface, InterfaceKey, InterfaceSpec, InterfaceStatus
from homeport_api.meta import ObjectMeta
from homeport_api.network import DnsConfig, Network
from homeport_cni.result import (
    Result,
    ResultDns,
    ResultInterface,
    ResultIp,
    ResultRoute,
    decode,
    decode_prev,
    describe,
    encode,
    join,
    routes_of,
)
from homeport_cni.versions import FORMS, SUPPORTED

MAC = MacAddress("02:00:5e:10:00:01")
BRIDGE = ResultInterface("hp-bond0", "02:00:5e:00:00:01")
HOST = ResultInterface("hp1", "02:00:5e:00:00:02", mtu=1500)
LINK = ResultInterface("eth0", MAC, "/run/netns/c1", 1500)
V4 = IPv4Interface("10.0.0.5/24")
V6 = IPv6Interface("2001:db8::5/64")


def attached(*addresses: IPv4Interface | IPv6Interface, gateway6: str | None = "2001:db8::1") -> AttachedNic:
    key = InterfaceKey("shop", "web-eth0")
    status = InterfaceStatus(
        addresses=addresses,
        mac=MAC,
        gateway4=IPv4Address("10.0.0.1"),
        gateway6=IPv6Address(gateway6) if gateway6 else None,
        routes=(IPv4Network("10.9.0.0/16"), IPv6Network("2001:db8:9::/48")),
        dns=DnsConfig((IPv4Address("10.0.0.53"),), ("shop.example",)),
    )
    return AttachedNic(
        Nic(key, "u1", 1, "blue", "eth0", mac=MAC, addresses=addresses),
        Interface(ObjectMeta("web-eth0", "shop"), InterfaceSpec("blue"), status),
        Network(ObjectMeta("blue")),
    )


def test_a_nic_is_described_on_its_container_link_alone() -> None:
    result = describe(attached(V4, V6), (BRIDGE, HOST, LINK), default_route=True)
    assert json.loads(encode(result, "1.1.0")) == {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "hp-bond0", "mac": "02:00:5e:00:00:01"},
            {"name": "hp1", "mac": "02:00:5e:00:00:02", "mtu": 1500},
            {"name": "eth0", "mac": MAC, "mtu": 1500, "sandbox": "/run/netns/c1"},
        ],
        "ips": [
            {"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 2},
            {"address": "2001:db8::5/64", "gateway": "2001:db8::1", "interface": 2},
        ],
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "10.0.0.1"},
            {"dst": "::/0", "gw": "2001:db8::1"},
            {"dst": "10.9.0.0/16", "gw": "10.0.0.1"},
            {"dst": "2001:db8:9::/48", "gw": "2001:db8::1"},
        ],
        "dns": {"nameservers": ["10.0.0.53"], "search": ["shop.example"]},
    }


@pytest.mark.parametrize("version", SUPPORTED)
def test_each_version_has_its_own_form(version: str) -> None:
    document = json.loads(encode(describe(attached(V4), (LINK,), default_route=False), version))
    assert document["cniVersion"] == version
    assert ("version" in document["ips"][0]) == (version < "1.0.0")
    assert ("mtu" in document["interfaces"][0]) == (version == "1.1.0")


def test_a_further_nic_gets_no_default_route() -> None:
    assert routes_of(attached(V4), default_route=False) == (
        ResultRoute(IPv4Network("10.9.0.0/16"), IPv4Address("10.0.0.1")),
    )


def test_routes_of_a_family_without_gateway_are_on_the_link() -> None:
    assert routes_of(attached(V6, gateway6=None), default_route=True) == (
        ResultRoute(IPv6Network("2001:db8:9::/48"), None),
    )


def test_ipam_names_no_interfaces() -> None:
    document = json.loads(encode(describe(attached(V4), (), default_route=True), "1.0.0"))
    assert document["ips"] == [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}]
    assert "interfaces" not in document


def test_a_guest_that_asks_a_dhcp_server_is_told_nothing() -> None:
    document = json.loads(encode(describe(attached(V4), (LINK,), default_route=True, assigned=False), "1.1.0"))
    assert (document["ips"], document["dns"], "routes" in document) == ([], {}, False)


def test_nics_share_their_bridge_and_keep_their_own_index() -> None:
    second = ResultInterface("eth1", "02:00:5e:10:00:02", "/run/netns/c1")
    joined = join(
        [
            describe(attached(V4), (BRIDGE, HOST, LINK), default_route=False),
            describe(attached(V6), (BRIDGE, ResultInterface("hp2"), second), default_route=False),
        ]
    )
    assert [link.name for link in joined.interfaces] == ["hp-bond0", "hp1", "eth0", "hp2", "eth1"]
    assert [(str(ip.address), ip.interface) for ip in joined.ips] == [("10.0.0.5/24", 2), ("2001:db8::5/64", 4)]
    assert joined.dns.nameservers == ("10.0.0.53",)


PREV: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "x-vendor": {"kept": [1.50, None]},
    "interfaces": [{"name": "cni0", "socketPath": "/x"}, {"name": "eth0", "sandbox": "/run/netns/c1"}],
    "ips": [{"address": "10.88.0.2/16", "interface": 1}],
    "routes": [{"dst": "0.0.0.0/0", "priority": 7}],
    "dns": {"nameservers": ["10.88.0.1"], "options": ["ndots:5"]},
}


def test_ours_is_appended_and_what_was_there_is_untouched() -> None:
    ours = describe(attached(V4), (BRIDGE, LINK), default_route=False)
    document = json.loads(encode(join([ours], after=decode_prev(PREV)), "1.0.0"))
    assert document["x-vendor"] == PREV["x-vendor"]
    assert document["dns"] == PREV["dns"]
    for key in ("interfaces", "ips", "routes"):
        assert document[key][: len(PREV[key])] == PREV[key]
    assert document["ips"][1]["interface"] == 3
    assert [link["name"] for link in document["interfaces"]] == ["cni0", "eth0", "hp-bond0", "eth0"]


def test_with_nothing_of_ours_the_prev_result_is_the_result() -> None:
    assert json.loads(encode(Result(after=decode_prev(PREV)), "1.1.0")) == PREV


def test_only_links_with_a_sandbox_are_taken_in_the_container() -> None:
    assert decode_prev(PREV).container_links == {"eth0"}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        pytest.param({"interfaces": {}}, "prevResult.interfaces", id="interfaces no list"),
        pytest.param({"interfaces": [1]}, "prevResult.interfaces", id="interface no object"),
        pytest.param({"interfaces": [{"name": 5}]}, "prevResult.interfaces[0].name", id="name no string"),
        pytest.param({"ips": [{"address": "10.0.0.0/99"}]}, "prevResult.ips[0]", id="bad address"),
        pytest.param({"ips": [{"address": "10.0.0.1/24", "interface": 0}]}, "prevResult.ips[0].interface", id="index"),
        pytest.param(
            {"ips": [{"address": "10.0.0.1/24", "interface": True}]}, "prevResult.ips[0].interface", id="bool"
        ),
        pytest.param({"routes": [{"dst": "x"}]}, "prevResult.routes[0]", id="bad route"),
        pytest.param({"dns": {"search": [1]}}, "prevResult.dns.search", id="search no strings"),
        pytest.param({"dns": {"nameservers": 5}}, "prevResult.dns.nameservers", id="nameservers no list"),
    ],
)
def test_a_malformed_prev_result_is_refused_by_path(document: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        decode(document)
    assert [field.path for field in caught.value.fields] == [path]


_LINKS = st.builds(
    ResultInterface,
    st.text("abc0", min_size=1, max_size=5),
    st.just(str(MAC)) | st.just(""),
    st.just("/run/netns/x") | st.just(""),
    st.none() | st.integers(576, 9000),
)
_IPS = st.builds(ResultIp, st.ip_addresses(v=4).map(IPv4Interface) | st.ip_addresses(v=6).map(IPv6Interface), st.none())
_ROUTES = st.builds(ResultRoute, st.just(IPv4Network("10.0.0.0/8")), st.none() | st.ip_addresses(v=4))
_DNS = st.builds(ResultDns, st.lists(st.just("10.0.0.53"), max_size=2).map(tuple), st.just(()) | st.just(("a.b",)))


@given(
    st.builds(
        Result,
        st.lists(_LINKS, max_size=4).map(tuple),
        st.lists(_IPS, max_size=3).map(tuple),
        st.lists(_ROUTES, max_size=2).map(tuple),
        _DNS,
    ),
    st.sampled_from(SUPPORTED),
)
def test_what_is_encoded_is_decoded(result: Result, version: str) -> None:
    decoded = decode(json.loads(encode(result, version)))
    if FORMS[version].mtu:
        assert decoded == result
    assert decoded.ips == result.ips
