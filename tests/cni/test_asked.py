"""Addresses and MACs from several sources."""

from ipaddress import ip_address, ip_interface

import pytest

from homeport_api.errors import Invalid
from homeport_cni.asked import Asked, agree_on_ips, agree_on_mac, parse_asked

MAC = "02:00:5e:10:00:01"


def asked(source: str, *ips: str, mac: str | None = None) -> Asked:
    return parse_asked(source, ips, mac)


@pytest.mark.parametrize(
    ("sources", "agreed"),
    [
        pytest.param([], {}, id="nobody asks"),
        pytest.param([asked("a"), asked("b")], {}, id="nobody asks for an address"),
        pytest.param([asked("a"), asked("b", "10.0.0.5/24")], {"10.0.0.5": "10.0.0.5/24"}, id="one asks"),
        pytest.param(
            [asked("a", "10.0.0.5"), asked("b", "10.0.0.5/24")], {"10.0.0.5": "10.0.0.5/24"}, id="the prefix counts"
        ),
        pytest.param(
            [asked("a", "10.0.0.5/24"), asked("b", "10.0.0.5")], {"10.0.0.5": "10.0.0.5/24"}, id="in either order"
        ),
        pytest.param(
            [asked("a", "10.0.0.5", "2001:db8::5"), asked("b", "2001:DB8::5", "10.0.0.5")],
            {"10.0.0.5": None, "2001:db8::5": None},
            id="order and spelling do not matter",
        ),
    ],
)
def test_agreement(sources: list[Asked], agreed: dict[str, str | None]) -> None:
    expected = {ip_address(key): ip_interface(value) if value else None for key, value in agreed.items()}
    assert agree_on_ips(sources) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(["10.0.0.5"], ["10.0.0.6"], id="another address"),
        pytest.param(["10.0.0.5/24"], ["10.0.0.5/16"], id="another prefix"),
        pytest.param(["10.0.0.5"], ["10.0.0.5", "2001:db8::5"], id="one more"),
        pytest.param(["10.0.0.5"], ["2001:db8::5"], id="another family"),
    ],
)
def test_two_that_differ_are_both_named(one: list[str], other: list[str]) -> None:
    with pytest.raises(Invalid, match=r"runtimeConfig asks for .*, CNI_ARGS for "):
        agree_on_ips([asked("runtimeConfig", *one), asked("args.cni"), asked("CNI_ARGS", *other)])


def test_a_third_source_is_held_against_prefixes_of_the_second() -> None:
    with pytest.raises(Invalid, match=r"^b asks for 10\.0\.0\.5/24, c for 10\.0\.0\.5/16"):
        agree_on_ips([asked("a", "10.0.0.5"), asked("b", "10.0.0.5/24"), asked("c", "10.0.0.5/16")])


def test_macs_agree_whatever_their_spelling() -> None:
    assert agree_on_mac([asked("a", mac=MAC), asked("b"), asked("c", mac="0200.5E10.0001")]) == MAC
    assert agree_on_mac([asked("a")]) is None
    with pytest.raises(Invalid, match=f"a asks for MAC {MAC}, b for 02:00:5e:10:00:02"):
        agree_on_mac([asked("a", mac=MAC), asked("b", mac="02:00:5e:10:00:02")])


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.5/33", "fe80::1%eth0", "blue", "10.0.0.5/24/24"])
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"scope|IPv4 or IPv6"):
        asked("a", text)


@pytest.mark.parametrize("text", ["01:00:5e:00:00:01", "00:00:00:00:00:00", "02:00:5e:10:00", "x"])
def test_bad_macs_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="MAC"):
        asked("a", mac=text)
