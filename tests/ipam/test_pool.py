"""Address spaces against a plain enumeration, and free choice against a set."""

import random
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.addresses import AddressRange
from homeport_api.meta import ObjectMeta
from homeport_api.network import Ipam, L2Config, Network, NetworkSpec
from homeport_api.pool import Pool
from homeport_ipam.pool import FreeChoice, prefix_length, space_of, why_not_given
from tests.ipam.worlds import addresses, network


def with_pools(*pools: Pool, gateway: str | None = None) -> Network:
    spec = NetworkSpec(ipam=Ipam(pools), gateway4=ip_address(gateway) if gateway else None)  # type: ignore[arg-type]
    return Network(ObjectMeta("blue"), spec)


@pytest.mark.parametrize(
    ("cidr", "capacity", "first", "last"),
    [
        pytest.param("10.0.0.0/24", 254, "10.0.0.1", "10.0.0.254", id="/24 without network and broadcast"),
        pytest.param("10.0.0.0/30", 2, "10.0.0.1", "10.0.0.2", id="/30"),
        pytest.param("10.0.0.0/31", 2, "10.0.0.0", "10.0.0.1", id="/31 has neither"),
        pytest.param("10.0.0.7/32", 1, "10.0.0.7", "10.0.0.7", id="/32"),
        pytest.param("10.0.0.0/8", 2**24 - 2, "10.0.0.1", "10.255.255.254", id="/8"),
        pytest.param("fd00::/64", 2**64 - 1, "fd00::1", "fd00::ffff:ffff:ffff:ffff", id="/64 without anycast"),
        pytest.param("fd00::/127", 2, "fd00::", "fd00::1", id="/127 has no anycast"),
        pytest.param("::/0", 2**128 - 1, "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", id="all of IPv6"),
    ],
)
def test_space_of_a_cidr(cidr: str, capacity: int, first: str, last: str) -> None:
    space = space_of(with_pools(Pool(ip_network(cidr))), ip_network(cidr).version)
    assert space.capacity == capacity
    assert (space.address(0), space.address(capacity - 1)) == (ip_address(first), ip_address(last))
    with pytest.raises(IndexError):
        space.address(capacity)


def test_gateway_ranges_and_exclusions() -> None:
    pool = Pool(
        ip_network("10.0.0.0/24"),
        ranges=(addresses("10.0.0.10", "10.0.0.19"), addresses("10.0.0.15", "10.0.0.24"), addresses("10.0.0.255")),
        exclude=(addresses("10.0.0.12", "10.0.0.13"), addresses("10.0.0.24")),
    )
    space = space_of(with_pools(pool, gateway="10.0.0.10"), 4)
    given_out = [str(space.address(index)) for index in range(space.capacity)]
    assert given_out == [f"10.0.0.{last}" for last in (11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)]


_OFFSET = st.integers(0, 63)
_SPANS = st.lists(st.tuples(_OFFSET, _OFFSET).map(sorted), max_size=5)


@given(ranges=_SPANS, exclude=_SPANS, gateway=st.none() | _OFFSET)
def test_space_is_the_enumeration(ranges: list[list[int]], exclude: list[list[int]], gateway: int | None) -> None:
    base = ip_network("10.1.0.0/26")

    def spans(pairs: list[list[int]]) -> tuple[AddressRange, ...]:
        return tuple(AddressRange(base[first], base[last]) for first, last in pairs)

    pool = Pool(base, spans(ranges), spans(exclude))
    space = space_of(with_pools(pool, gateway=str(base[gateway]) if gateway is not None else None), 4)
    expected = [
        address
        for at, address in enumerate(base)
        if (not ranges or any(first <= at <= last for first, last in ranges))
        and not any(first <= at <= last for first, last in exclude)
        and at not in (gateway, 0, 63)
    ]
    assert [space.address(index) for index in range(space.capacity)] == expected
    for address in base:
        assert (address in space) == (address in expected)
        assert space.index(address) == (expected.index(address) if address in expected else None)


@pytest.mark.parametrize("capacity", [1, 2, 7, 200, 2**64 - 1])
def test_free_choice_is_a_set_of_free_numbers(capacity: int) -> None:
    chance = random.Random(capacity)
    choice, taken = FreeChoice(capacity), set[int]()
    for _ in range(3000):
        number = chance.randrange(min(capacity, 300)) if chance.random() < 0.5 else capacity - 1
        if chance.random() < 0.6:
            choice.take(number)
            taken.add(number)
        else:
            choice.give_back(number)
            taken.discard(number)
        assert choice.taken == len(taken)
        avoid = set(chance.sample(range(min(capacity, 300)), min(capacity, 3)))
        chosen = choice.choose(chance, avoid)
        if chosen is None:
            assert len(taken | avoid) == capacity
        else:
            assert chosen not in taken | avoid
            assert choice.is_free(chosen)


def test_free_choice_reaches_every_free_number() -> None:
    chance = random.Random(5)
    choice = FreeChoice(50)
    for number in range(0, 50, 2):
        choice.take(number)
    assert {choice.choose(chance) for _ in range(2000)} == set(range(1, 50, 2))


def test_memory_follows_what_is_taken() -> None:
    chance = random.Random(1)
    choice = FreeChoice(2**64)
    taken: list[int] = []
    for _ in range(2000):
        number = choice.choose(chance)
        assert number is not None
        choice.take(number)
        taken.append(number)
    for number in taken[:1900]:
        choice.give_back(number)
    assert len(choice._at) <= 2 * choice.taken
    assert len(choice._where) <= 2 * choice.taken


def test_prefix_is_the_pools_else_the_networks_else_single() -> None:
    assert prefix_length(network("blue", "10.0.0.0/22"), ip_address("10.0.1.5")) == 22
    l2 = L2Config(prefix_length4=20)
    assert prefix_length(Network(ObjectMeta("n"), NetworkSpec(l2=l2)), ip_address("10.0.1.5")) == 20
    assert prefix_length(Network(ObjectMeta("n")), ip_address("fd00::5")) == 128


@pytest.mark.parametrize(
    ("address", "why"),
    [
        pytest.param("10.0.0.5", None, id="in the pool"),
        pytest.param("10.0.0.1", "gateway", id="gateway"),
        pytest.param("10.0.0.0", "network or broadcast", id="network address"),
        pytest.param("10.0.0.255", "network or broadcast", id="broadcast"),
        pytest.param("10.0.0.9", "excluded", id="excluded"),
        pytest.param("10.0.1.9", "outside", id="outside"),
    ],
)
def test_why_an_address_may_not_be_asked_for(address: str, why: str | None) -> None:
    net = with_pools(Pool(ip_network("10.0.0.0/24"), exclude=(addresses("10.0.0.9"),)), gateway="10.0.0.1")
    told = why_not_given(net, space_of(net, 4), ip_address(address), ip_network(f"{address}/32"))
    assert told is None if why is None else why in (told or "")


def test_without_pools_the_prefix_decides() -> None:
    spec = NetworkSpec(gateway4=ip_address("10.0.0.1"), l2=L2Config(prefix_length4=24))  # type: ignore[arg-type]
    net = Network(ObjectMeta("n"), spec)
    inside, outside = ip_address("10.0.0.7"), ip_address("10.0.7.7")
    assert why_not_given(net, space_of(net, 4), inside, ip_network("10.0.0.7/32")) is None
    assert "outside" in (why_not_given(net, space_of(net, 4), outside, ip_network("10.0.7.7/32")) or "")
