"""Who is calling and what is asked for, on a node that no controller tells about pods."""

import json
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from homeport_api.attachment import Identity, NicRequest, PortKind
from homeport_api.errors import Invalid
from homeport_cni.annotation import GKE, OURS
from homeport_cni.conf import ANNOTATIONS
from homeport_cni.identify import Identified, identify
from homeport_cni.skel import parse_request

POD = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u1"
BLUE = {"network": "blue"}


def call(conf: dict[str, Any], args: str = "", ifname: str = "eth0", executable: str = "homeport") -> Identified:
    """An ADD with this configuration (its head is added) and these CNI_ARGS."""
    environ = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/c1",
        "CNI_IFNAME": ifname,
        "CNI_ARGS": args,
    }
    head = {"cniVersion": "1.1.0", "name": "blue", "type": "homeport"}
    return identify(parse_request(executable, environ, json.dumps(head | conf).encode()))


@pytest.mark.parametrize(
    ("conf", "args", "identity"),
    [
        pytest.param(BLUE, "", Identity("default", "c1", "eth0", ephemeral=True), id="a bare container"),
        pytest.param(BLUE, "VM_NAMESPACE=shop", Identity("shop", "c1", "eth0", ephemeral=True), id="with a namespace"),
        pytest.param(BLUE, "VM_NAME=web", Identity("default", "web", "eth0"), id="a VM by CNI_ARGS"),
        pytest.param(
            BLUE, "VM_NAME=web;VM_NAMESPACE=shop;VM_INTERFACE=lan", Identity("shop", "web", "lan"), id="all of it"
        ),
        pytest.param(
            BLUE | {"args": {"cni": {"namespace": "shop", "vm": "web", "interface": "lan"}}},
            "",
            Identity("shop", "web", "lan"),
            id="a VM by args.cni",
        ),
        pytest.param(
            BLUE | {"args": {"cni": {"vm": "web"}}},
            "VM_NAME=web;VM_INTERFACE=lan",
            Identity("default", "web", "lan"),
            id="both, agreeing",
        ),
        pytest.param(BLUE, POD, Identity("shop", "web-0", "eth0", ephemeral=True), id="a pod"),
    ],
)
def test_identities(conf: dict[str, Any], args: str, identity: Identity) -> None:
    identified = call(conf, args)
    assert identified.nics == (NicRequest(identity, "eth0", "blue"),)
    assert identified.pod == ("web-0" if args == POD else "")
    assert not identified.chained


@pytest.mark.parametrize(
    ("conf", "args", "text"),
    [
        pytest.param(BLUE, POD + ";VM_NAME=db", r"args\.cni\.vm and VM_NAME are not taken", id="VM_NAME"),
        pytest.param(BLUE, POD + ";VM_NAMESPACE=x", "VM_NAMESPACE are not taken", id="VM_NAMESPACE"),
        pytest.param(BLUE, POD + ";VM_INTERFACE=x", "VM_INTERFACE are not taken", id="VM_INTERFACE"),
        pytest.param(BLUE | {"args": {"cni": {"namespace": "x"}}}, POD, r"args\.cni\.namespace", id="cni namespace"),
        pytest.param(BLUE | {"args": {"cni": {"vm": "web-0"}}}, POD, r"args\.cni\.vm", id="cni vm, its own name"),
        pytest.param(BLUE | {"args": {"cni": {"interface": "x"}}}, POD, r"args\.cni\.interface", id="cni interface"),
        pytest.param(BLUE, "IgnoreUnknown=1;K8S_POD_NAME=p", "K8S_POD_NAMESPACE is ''", id="no namespace"),
    ],
)
def test_a_pod_does_not_say_who_it_is(conf: dict[str, Any], args: str, text: str) -> None:
    with pytest.raises(Invalid, match=text):
        call(conf, args)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ("VM_NAME=db", r"args\.cni\.vm is 'web' and CNI_ARGS VM_NAME is 'db'"),
        ("VM_NAMESPACE=../x", r"VM_NAMESPACE is '\.\./x'"),
        ("VM_NAMESPACE=Shop", "lower-case"),
        ("VM_INTERFACE=" + "x" * 254, "VM_INTERFACE: .* 1 to 253 printable"),
        ("VM_INTERFACE=a b", "VM_INTERFACE: 'a b' is not usable as a name"),
        ("VM_INTERFACE=a/b", "VM_INTERFACE: 'a/b' is not usable as a name"),
    ],
)
def test_names_that_cannot_be(args: str, text: str) -> None:
    with pytest.raises(Invalid, match=text):
        call(BLUE | {"args": {"cni": {"vm": "web"}}}, args)


def test_a_link_name_that_no_interface_could_have() -> None:
    """The kernel takes it, and a record of the store that held it could never be read again."""
    with pytest.raises(Invalid, match="CNI_IFNAME without VM_INTERFACE: 'ethü' is not usable as a name"):
        call(BLUE, POD, ifname="ethü")
    with pytest.raises(Invalid, match="interfaceName: 'ethü' is not usable as a name"):
        call(chained({OURS: '[{"interfaceName": "ethü", "network": "blue"}]'}), POD)
    assert call(BLUE, "VM_NAME=web;VM_INTERFACE=lan", ifname="ethü").nics[0].link == "ethü"


def test_a_pod_may_name_an_existing_interface_of_its_namespace() -> None:
    (nic,) = call({"interface": "web-eth0"}, POD).nics
    assert (nic.interface_object, nic.network, nic.identity.namespace) == ("web-eth0", None, "shop")


def test_what_is_asked_for_comes_from_all_sources() -> None:
    conf = BLUE | {
        "runtimeConfig": {"ips": ["10.0.0.5/24"], "mac": "02:00:5e:10:00:01"},
        "args": {"cni": {"ips": ["10.0.0.5", "2001:db8::5"][:1]}},
    }
    (nic,) = call(conf, "IP=10.0.0.5;MAC=02:00:5E:10:00:01").nics
    assert (nic.ips, nic.bare_ips, nic.mac) == ((ip_interface("10.0.0.5/24"),), (), "02:00:5e:10:00:01")
    (nic,) = call(BLUE, "IP=10.0.0.5,2001:db8::5/64").nics
    assert (nic.ips, nic.bare_ips) == ((ip_interface("2001:db8::5/64"),), (ip_address("10.0.0.5"),))


@pytest.mark.parametrize(
    ("conf", "args", "text"),
    [
        ({"runtimeConfig": {"ips": ["10.0.0.5"]}}, "IP=10.0.0.6", "runtimeConfig asks .*, CNI_ARGS for"),
        ({"args": {"cni": {"mac": "02:00:5e:10:00:01"}}}, "MAC=02:00:5e:10:00:02", r"args\.cni asks .*, CNI_ARGS for"),
        ({}, "IP=10.0.0", "CNI_ARGS: '10.0.0'"),
        ({}, "MAC=01:00:5e:00:00:01", "CNI_ARGS: .*multicast"),
    ],
)
def test_two_sources_that_differ_or_one_that_is_wrong(conf: dict[str, Any], args: str, text: str) -> None:
    with pytest.raises(Invalid, match=text):
        call(BLUE | conf, args)


def test_ipam_takes_no_mac_and_makes_no_link() -> None:
    conf = {"type": "bridge", "ipam": BLUE, "runtimeConfig": {"mac": "02:00:5e:10:00:01", "ips": ["10.0.0.5"]}}
    (nic,) = call(conf, "MAC=02:00:5e:10:00:02", executable="homeport-ipam").nics
    assert (nic.mac, nic.wants_mac, nic.kind, nic.bare_ips) == (None, False, PortKind.NONE, (ip_address("10.0.0.5"),))
    with pytest.raises(Invalid, match="ipam: needs network"):
        call({"type": "bridge", "ipam": {}}, executable="homeport-ipam")


PREV = {"interfaces": [{"name": "cni0"}, {"name": "eth1"}, {"name": "eth0", "sandbox": "/run/netns/c1"}]}


def chained(annotations: dict[str, str] | None, **more: Any) -> dict[str, Any]:
    return {"prevResult": PREV, "runtimeConfig": {ANNOTATIONS: annotations}} | more


@pytest.mark.parametrize("annotations", [None, {}, {"other": "x"}, {OURS: "[]"}])
def test_an_ordinary_pod_is_passed_through(annotations: dict[str, str] | None) -> None:
    assert call(chained(annotations), POD) == Identified((), "", chained=True, passthrough=True)


@pytest.mark.parametrize("name", [OURS, GKE])
def test_an_annotated_pod_gets_all_its_nics_by_name(name: str) -> None:
    entries = [{"interfaceName": "eth1", "network": "blue"}, {"interfaceName": "eth2", "interface": "web-eth2"}]
    identified = call(chained({name: json.dumps(entries)}), POD)
    assert identified.nics == (
        NicRequest(Identity("shop", "web-0", "eth1", ephemeral=True), "eth1", "blue"),
        NicRequest(Identity("shop", "web-0", "eth2", ephemeral=True), "eth2", None, "web-eth2"),
    )
    assert (identified.chained, identified.passthrough, identified.pod) == (True, False, "web-0")


def test_a_link_that_the_pod_has_already_is_refused_and_a_nodes_link_is_not() -> None:
    with pytest.raises(Invalid, match="a link eth0, which it has already"):
        call(chained({OURS: '[{"interfaceName": "eth0", "network": "blue"}]'}), POD)
    assert call(chained({OURS: '[{"interfaceName": "cni0", "network": "blue"}]'}), POD).nics


def test_addresses_of_the_call_are_the_first_plugins_in_a_chain() -> None:
    conf = chained({OURS: '[{"interfaceName": "eth1", "network": "blue"}]'})
    conf["runtimeConfig"]["ips"] = ["10.88.0.2/16"]
    identified = call(conf, POD)
    assert identified.nics[0].ips == ()
    assert identified.warnings == (
        "runtimeConfig: ips and mac are not used in a chained call; name an Interface that has them",
    )


def test_a_configuration_that_asks_for_nothing_and_follows_nobody() -> None:
    with pytest.raises(Invalid, match=r"network: is missing.*prevResult"):
        call({}, POD)
