"""The spellings of the specification, and one step beyond each."""

import pytest

from homeport_api.errors import BadEnvironment
from homeport_cni.grammar import ifname_error, name_error, parse_args


@pytest.mark.parametrize("text", ["a", "0", "A.b_c-d", "9" * 253])
def test_good_names(text: str) -> None:
    assert name_error(text) is None


@pytest.mark.parametrize("text", ["", "-a", ".a", "_a", "a/b", "../x", "a b", "a\n", "ä", "a\0", "9" * 254])
def test_bad_names(text: str) -> None:
    assert name_error(text)


@pytest.mark.parametrize("text", ["eth0", "a", "pod37a8eec1ce1", "x" * 15, "eth0.100", "a-b_c"])
def test_good_ifnames(text: str) -> None:
    assert ifname_error(text) is None


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a/b", "a:b", "a b", "a\t", "\n", "x" * 16, "ä" * 8, "a\0", "eth%d", "a\x7f", "\udcff"]
)
def test_bad_ifnames(text: str) -> None:
    assert ifname_error(text)


@pytest.mark.parametrize(
    ("text", "args"),
    [
        pytest.param("", {}, id="empty"),
        pytest.param("VM_NAME=web", {"VM_NAME": "web"}, id="one"),
        pytest.param("IP=10.0.0.5;MAC=02:00:5e:10:00:01", {"IP": "10.0.0.5", "MAC": "02:00:5e:10:00:01"}, id="two"),
        pytest.param("IgnoreUnknown=1;K8S_POD_NAME=p;X=y", {"K8S_POD_NAME": "p"}, id="unknown ignored"),
        pytest.param("X=y;IgnoreUnknown=true", {}, id="ignored by a later word"),
        pytest.param("VM_NAME=a=b", {"VM_NAME": "a=b"}, id="value with ="),
        pytest.param("VM_NAME=", {"VM_NAME": ""}, id="empty value"),
        pytest.param("VM_NAME=a;VM_NAME=a", {"VM_NAME": "a"}, id="said twice alike"),
    ],
)
def test_good_args(text: str, args: dict[str, str]) -> None:
    assert parse_args(text) == args


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("VM_NAME", "'VM_NAME'"),
        ("=x", "'=x'"),
        ("VM_NAME=a;", "''"),
        ("VM_NAME=a;VM_NAME=b", "VM_NAME is given twice"),
        ("X=y", "X is not known"),
        ("IgnoreUnknown=0;X=y", "X is not known"),
        ("IgnoreUnknown=maybe", "IgnoreUnknown is 'maybe'"),
    ],
)
def test_bad_args_are_named(text: str, named: str) -> None:
    with pytest.raises(BadEnvironment, match="CNI_ARGS: .*" + named):
        parse_args(text)
