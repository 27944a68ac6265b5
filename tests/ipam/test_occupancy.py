"""Owned, at rest and free, by address; and that a choice costs the same at any size and fullness."""

import random
from ipaddress import ip_address

import pytest

from homeport_ipam.occupancy import Occupancy
from homeport_ipam.pool import space_of
from tests.ipam.worlds import network


class Draws(random.Random):
    """Counts what is drawn: a choice that searched or probed would draw again."""

    def __init__(self) -> None:
        super().__init__(1)
        self.count = 0

    def randrange(self, *arguments: int) -> int:  # type: ignore[override]
        self.count += 1
        return super().randrange(*arguments)


def occupancy(cidr: str, taken: int) -> Occupancy:
    space = space_of(network("blue", cidr), 6 if ":" in cidr else 4)
    made = Occupancy(space)
    step = max(1, space.capacity // (taken + 1))
    for index in range(taken):
        made.set(int(space.address(index * step)), owned=True, resting=False)
    return made


@pytest.mark.parametrize(
    ("cidr", "taken"),
    [
        pytest.param("10.0.0.0/24", 253, id="/24, one left"),
        pytest.param("10.0.0.0/16", 65533, id="/16, one left"),
        pytest.param("10.0.0.0/8", 5000, id="/8"),
        pytest.param("fd00::/64", 5000, id="/64"),
        pytest.param("::/0", 5000, id="all of IPv6"),
    ],
)
def test_one_draw_a_choice(cidr: str, taken: int) -> None:
    made, draws = occupancy(cidr, taken), Draws()
    for count in range(1, 20):
        chosen = made.choose(draws)
        assert chosen is not None
        assert made.is_free(chosen)
        assert draws.count == count


def test_at_rest_only_when_nothing_is_free() -> None:
    made = occupancy("10.0.0.0/29", 0)
    numbers = [int(ip_address(f"10.0.0.{last}")) for last in range(1, 7)]
    for number in numbers[:4]:
        made.set(number, owned=True, resting=False)
    made.set(numbers[4], owned=False, resting=True)
    chance = random.Random(1)
    assert {made.choose(chance) for _ in range(50)} == {ip_address("10.0.0.6")}
    assert made.choose(chance, {ip_address("10.0.0.6")}) == ip_address("10.0.0.5")
    made.set(numbers[5], owned=True, resting=False)
    assert made.choose(chance) == ip_address("10.0.0.5")
    made.set(numbers[4], owned=True, resting=True)
    assert made.choose(chance) is None
    made.set(numbers[0], owned=False, resting=True)
    made.set(numbers[1], owned=False, resting=True)
    assert {made.choose(chance) for _ in range(50)} == {ip_address("10.0.0.1"), ip_address("10.0.0.2")}
    made.set(numbers[1], owned=False, resting=False)
    assert made.is_free(ip_address("10.0.0.2"))
    assert {made.choose(chance) for _ in range(50)} == {ip_address("10.0.0.2")}


def test_addresses_outside_the_pools_do_not_matter() -> None:
    made = occupancy("10.0.0.0/31", 0)
    made.set(int(ip_address("10.9.9.9")), owned=True, resting=True)
    assert not made.is_free(ip_address("10.9.9.9"))
    assert not made.is_free(ip_address("fd00::1"))
    assert made.choose(random.Random(1)) is not None
