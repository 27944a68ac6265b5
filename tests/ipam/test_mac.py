"""MACs made from identities: their form, their constancy, and what tells them apart."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from homeport_api.addresses import parse_mac
from homeport_ipam.mac import candidate_macs

_NAME = st.text(min_size=1, max_size=20)


@given(cluster=_NAME, domain=_NAME, namespace=_NAME, vm=_NAME, interface=_NAME)
def test_local_unicast_distinct_and_repeatable(
    cluster: str, domain: str, namespace: str, vm: str, interface: str
) -> None:
    macs = list(islice(candidate_macs(cluster, domain, namespace, vm, interface), 5))
    assert macs == list(islice(candidate_macs(cluster, domain, namespace, vm, interface), 5))
    assert len(set(macs)) == 5
    for mac in macs:
        assert parse_mac(mac) == mac
        assert int(mac[:2], 16) & 3 == 2


def test_never_changes_between_versions() -> None:
    first = next(candidate_macs("prod", "bond0:100", "shop", "web", "eth0"))
    assert first == "3a:8e:50:fc:3f:7a"


def test_parts_are_told_apart() -> None:
    one = next(candidate_macs("prod", "bond0:100", "shop", "we", "beth0"))
    other = next(candidate_macs("prod", "bond0:100", "shop", "web", "eth0"))
    assert one != other
