"""Names and marks: within the kernel's limits, never colliding, and read back as written."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.addresses import MacDomain
from homeport_api.interface import InterfaceKey
from homeport_dataplane.marks import (
    DISCARDED,
    OWN_PREFIXES,
    PortMark,
    bridge_mac,
    bridge_name,
    parse_mark,
    port_mac,
    port_name,
    uplink_name,
)

_LINK = st.text("abcdefghijklmnop0123456789-.=_@", min_size=1, max_size=15)
_LABEL = st.text("abcxyz0123456789-.", min_size=1, max_size=63)


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        pytest.param("eth1", "hpb-eth1", id="short"),
        pytest.param("bond0.backup", "hpb=66605ef973b", id="too long is hashed"),
        pytest.param("enp175s0f1n", "hpb-enp175s0f1n", id="exactly fifteen"),
        pytest.param(":blue", "hpi-blue", id="isolated"),
        pytest.param(":customer-production", "hpi=fa7f7353bd6", id="isolated, too long"),
    ],
)
def test_bridge_name(domain: str, name: str) -> None:
    assert bridge_name(MacDomain(domain)) == name


@given(st.sets(_LINK, min_size=2, max_size=20))
def test_names_fit_and_never_collide(links: set[str]) -> None:
    names = {bridge_name(MacDomain(link)) for link in links} | {bridge_name(MacDomain(f":{link}")) for link in links}
    names |= {uplink_name(link) for link in links}
    names |= {port_name(link, 1) for link in links}
    assert len(names) == 4 * len(links)
    assert all(len(name) <= 15 for name in names)


def test_a_hashed_name_cannot_be_spelled_by_a_short_one() -> None:
    hashed = bridge_name(MacDomain("a-very-long-bond"))
    assert hashed != bridge_name(MacDomain(hashed.removeprefix("hpb=")))


@given(namespace=_LABEL, name=_LABEL, uid=_LABEL, epoch=st.integers(0, 10**9), origin=st.one_of(st.just(""), _LINK))
def test_a_mark_is_read_back_as_written(namespace: str, name: str, uid: str, epoch: int, origin: str) -> None:
    mark = PortMark(InterfaceKey(namespace, name), uid, epoch, origin)
    assert parse_mark(str(mark)) == mark


@pytest.mark.parametrize(
    "alias",
    ["", "uplink to rack 4", DISCARDED, "homeport:shop/web:uid:one:", "homeport:web:uid:1:", "foo:shop/web:uid:1:"],
)
def test_other_aliases_are_no_marks(alias: str) -> None:
    assert parse_mark(alias) is None


@given(st.text(max_size=60))
def test_any_alias_is_read_without_an_error(alias: str) -> None:
    mark = parse_mark(alias)
    assert mark is None or parse_mark(str(mark)) == mark


@pytest.mark.parametrize("length", [63, 117, 118, 119, 120, 253])
def test_the_longest_mark_fits_an_alias_and_says_whose_it_is(length: int) -> None:
    """IFALIASZ is 256, and the kernel takes one less, the terminating zero included."""
    mark = PortMark(InterfaceKey("n" * 63, "i" * length), "u" * 36, 2**31, "t" * 15)
    assert len(str(mark)) < 255
    read = parse_mark(str(mark))
    assert read is not None
    assert (read.uid, read.epoch, read.origin, read.interface.namespace) == (mark.uid, mark.epoch, "t" * 15, "n" * 63)
    assert str(read) == str(mark)
    assert (read == mark) == (length < 118)
    other = replace(mark, interface=replace(mark.interface, name="i" * (length - 1) + "j"))
    assert str(other) != str(mark)


@given(st.text("abcdef0123456789-", min_size=1, max_size=36), st.integers(0, 100))
def test_macs_are_unicast_and_local(uid: str, epoch: int) -> None:
    for mac in (port_mac(uid, epoch), bridge_mac(uid)):
        assert int(mac[:2], 16) & 0b11 == 0b10
    assert port_name(uid, epoch) != port_name(uid, epoch + 1)
    assert port_mac(uid, epoch) != port_mac(uid, epoch + 1)


@given(st.integers(min_value=0, max_value=2**31).map(str), st.integers(min_value=1, max_value=99))
def test_no_port_is_taken_for_a_bridge_or_an_uplink(uid: str, epoch: int) -> None:
    assert not port_name(uid, epoch).startswith(OWN_PREFIXES)


@given(_LINK)
def test_bridges_and_uplinks_are_told_by_their_beginning(uplink: str) -> None:
    for name in (bridge_name(MacDomain(uplink)), bridge_name(MacDomain(f":{uplink}")), uplink_name(uplink)):
        assert name.startswith(OWN_PREFIXES)
