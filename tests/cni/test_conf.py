"""Network configurations, good, odd and broken."""

import json
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.errors import BadInput, HomeportError, Invalid
from homeport_cni.conf import ANNOTATIONS, VALID_ATTACHMENTS, AttachmentRef, declared_version, parse_conf
from homeport_cni.errors import IncompatibleVersion

BLUE: dict[str, Any] = {"cniVersion": "1.1.0", "name": "blue", "type": "homeport", "network": "blue"}


def encoded(**changes: Any) -> bytes:
    """The plain configuration with keys changed, or with None left out."""
    return json.dumps({key: value for key, value in (BLUE | changes).items() if value is not None}).encode()


def test_a_whole_configuration_is_read() -> None:
    conf = parse_conf(
        encoded(
            interface="web-eth0",
            runDir="/run/homeport",
            capabilities={"ips": True},
            runtimeConfig={
                "ips": ["10.0.0.5/24", "2001:db8::5"],
                "mac": "02-00-5E-10-00-01",
                "portMappings": [],
                ANNOTATIONS: {"a": "b"},
            },
            args={"cni": {"namespace": "shop", "vm": "web 1", "interface": "lan", "ips": ["10.0.0.5"]}},
            prevResult={"interfaces": [{"name": "eth0", "sandbox": "/x"}]},
        ),
        "homeport",
    )
    assert (conf.cni_version, conf.name, conf.type) == ("1.1.0", "blue", "homeport")
    assert (conf.network, conf.interface) == ("blue", "web-eth0")
    assert conf.asked.ips == {
        ip_address("10.0.0.5"): ip_interface("10.0.0.5/24"),
        ip_address("2001:db8::5"): None,
    }
    assert conf.asked.mac == "02:00:5e:10:00:01"
    assert conf.annotations == {"a": "b"}
    assert (conf.args.namespace, conf.args.vm, conf.args.interface) == ("shop", "web 1", "lan")
    assert (conf.args.asked.source, [*conf.args.asked.ips]) == ("args.cni", [ip_address("10.0.0.5")])
    assert conf.prev_result is not None
    assert conf.prev_result.container_links == {"eth0"}
    assert conf.warnings == ()


def test_ipam_has_its_keys_under_ipam_and_others_are_its_callers() -> None:
    conf = parse_conf(
        encoded(type="bridge", network=None, isGateway=True, ipam={"type": "homeport-ipam", "network": "red", "x": 1}),
        "homeport-ipam",
    )
    assert (conf.type, conf.network) == ("bridge", "red")
    assert conf.warnings == ("ipam.x: unknown key",)


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"netwrok": "blue"}, "netwrok: unknown key; 'network' is meant?"),
        ({"ipam": {"type": "host-local"}}, "ipam: unknown key"),
        ({"args": {"cni": {"vmm": "x"}}}, "args.cni.vmm: unknown key; 'vm' is meant?"),
    ],
)
def test_unknown_keys_are_a_warning(changes: dict[str, Any], warning: str) -> None:
    assert parse_conf(encoded(**changes), "homeport").warnings == (warning,)


@pytest.mark.parametrize("value", [None, ""])
def test_neither_network_nor_interface(value: str | None) -> None:
    assert parse_conf(encoded(network=value, interface=value), "homeport").names_nothing


@pytest.mark.parametrize(
    "stdin",
    [b"", b"{", b"[]", b'"x"', b"\xff{}", b"\xef\xbb\xbf{}", b'{"a": NaN}', b"{} {}", b'{"a":' * 100_000],
    ids=["empty", "cut", "list", "string", "not UTF-8", "byte order mark", "NaN", "two", "deep"],
)
def test_what_cannot_be_decoded(stdin: bytes) -> None:
    with pytest.raises(BadInput, match="stdin"):
        parse_conf(stdin, "homeport")
    assert declared_version(stdin) == "1.1.0"


@pytest.mark.parametrize(
    ("version", "text"), [(None, "no cniVersion"), ("0.2.0", "'0.2.0'"), ("2.0.0", "'2.0.0'"), (1, "1"), ([], r"\[\]")]
)
def test_versions_nobody_speaks_here(version: Any, text: str) -> None:
    with pytest.raises(IncompatibleVersion, match=f"{text}.*0.3.1, 0.4.0, 1.0.0, 1.1.0"):
        parse_conf(encoded(cniVersion=version), "homeport")


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        pytest.param({"name": None}, ["name"], id="no name"),
        pytest.param({"name": None, "type": None}, ["name", "type"], id="no name and no type"),
        pytest.param({"name": "../x"}, ["name"], id="name against the grammar"),
        pytest.param({"name": 5}, ["name", "name"], id="name no string"),
        pytest.param({"network": 5}, ["network"], id="network no string"),
        pytest.param({"network": "a\ud800"}, ["network"], id="half a surrogate pair"),
        pytest.param({"network": "x" * 254}, ["network"], id="network too long"),
        pytest.param({"runDir": ["/run"]}, ["runDir"], id="runDir no string"),
        pytest.param({"runtimeConfig": 1}, ["runtimeConfig"], id="runtimeConfig no object"),
        pytest.param({"runtimeConfig": {"ips": "10.0.0.5"}}, ["runtimeConfig.ips"], id="ips no list"),
        pytest.param(
            {"runtimeConfig": {"ips": [5, "x", "10.0.0.5/24"], "mac": "01:00:00:00:00:01"}},
            ["runtimeConfig.ips[0]", "runtimeConfig.ips[1]", "runtimeConfig.mac"],
            id="each wrong address and the MAC",
        ),
        pytest.param({"runtimeConfig": {ANNOTATIONS: {"a": 1}}}, [f"runtimeConfig.{ANNOTATIONS}.a"], id="annotation"),
        pytest.param({"args": {"cni": []}}, ["args.cni"], id="args.cni no object"),
        pytest.param({"prevResult": []}, ["prevResult"], id="prevResult no object"),
        pytest.param({"prevResult": {"ips": 1}}, ["prevResult.ips"], id="prevResult malformed"),
        pytest.param({VALID_ATTACHMENTS: {}}, [VALID_ATTACHMENTS], id="attachments no list"),
        pytest.param({VALID_ATTACHMENTS: [{"ifname": "eth0"}]}, [f"{VALID_ATTACHMENTS}[0]"], id="attachment cut"),
    ],
)
def test_errors_come_all_together_with_their_paths(changes: dict[str, Any], paths: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        parse_conf(encoded(**changes), "homeport")
    assert [field.path for field in caught.value.fields] == paths


def test_a_delete_insists_on_the_head_alone() -> None:
    conf = parse_conf(encoded(network=5, runtimeConfig={"ips": 1}, prevResult=7), "homeport", strict=False)
    assert conf.name == "blue"
    assert [warning.split(":")[1].strip() for warning in conf.warnings] == [
        "network",
        "runtimeConfig.ips",
        "prevResult",
    ]
    with pytest.raises(Invalid, match="name: is missing"):
        parse_conf(encoded(name=None), "homeport", strict=False)


def test_no_attachments_and_no_word_about_attachments_differ() -> None:
    assert parse_conf(encoded(), "homeport").valid_attachments is None
    assert parse_conf(encoded(**{VALID_ATTACHMENTS: []}), "homeport").valid_attachments == ()
    one = [{"containerID": "c1", "ifname": "eth0"}]
    assert parse_conf(encoded(**{VALID_ATTACHMENTS: one}), "homeport").valid_attachments == (
        AttachmentRef("c1", "eth0"),
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("10.0.0.5"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ips", "mac", "cni", "x"]), inner),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    [*BLUE, "interface", "ipam", "runDir", "runtimeConfig", "args", "prevResult", VALID_ATTACHMENTS, "x"]
)


@given(st.dictionaries(_KEYS, _JSON, max_size=5), st.sampled_from(["homeport", "homeport-ipam"]), st.booleans())
def test_any_document_is_read_or_refused(changes: dict[str, Any], executable: str, strict: bool) -> None:
    try:
        parse_conf(json.dumps(BLUE | changes).encode(), executable, strict)
    except HomeportError as error:
        assert str(error)


def test_warnings_do_not_grow_with_what_a_pods_author_writes() -> None:
    keys = {f"interfaceNam{index}" + "x" * index: 1 for index in range(2_000)}
    warnings = parse_conf(encoded(args={"cni": keys}), "homeport").warnings
    assert len(warnings) == 17
    assert warnings[-1] == "args.cni.*: 1984 more unknown keys"
    assert all(len(warning) < 400 for warning in warnings)
