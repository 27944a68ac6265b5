"""Which addresses of one Network and family are owned, at rest or free, by index. Pure, not thread-safe.

free ──own──► owned ──release──► resting ──the lease ends──► free
                ▲────────────────────┘ by its former owner, or by anybody when nothing is free
"""

from collections.abc import Collection

from homeport_api.addresses import IpAddress
from homeport_ipam.pool import AddressSpace, FreeChoice, Randomness


class Bag:
    """A set of numbers that answers a random one in constant time."""

    __slots__ = ("_numbers", "_where")

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._where: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, number: int) -> None:
        if number not in self._where:
            self._where[number] = len(self._numbers)
            self._numbers.append(number)

    def discard(self, number: int) -> None:
        at = self._where.pop(number, None)
        if at is None:
            return
        last = self._numbers.pop()
        if last != number:
            self._numbers[at] = last
            self._where[last] = at

    def choose(self, random: Randomness, avoid: Collection[int]) -> int | None:
        count = len(self._numbers)
        start = random.randrange(count) if count else 0
        for step in range(min(count, len(avoid) + 1)):
            number = self._numbers[(start + step) % count]
            if number not in avoid:
                return number
        return None


class Occupancy:
    """The state of an `AddressSpace`. Every method costs the same at any size and fullness."""

    __slots__ = ("_free", "_resting", "space")

    def __init__(self, space: AddressSpace) -> None:
        self.space = space
        self._free = FreeChoice(space.capacity)
        self._resting = Bag()

    def set(self, number: int, *, owned: bool, resting: bool) -> None:
        """What is now so of an address, given as its number. Outside the space (a static address): nothing."""
        index = self.space.index_of(number)
        if index is None:
            return
        if owned or resting:
            self._free.take(index)
        else:
            self._free.give_back(index)
        if resting and not owned:
            self._resting.add(index)
        else:
            self._resting.discard(index)

    def is_free(self, address: IpAddress) -> bool:
        """Neither owned nor at rest."""
        index = self.space.index(address)
        return index is not None and self._free.is_free(index)

    def choose(self, random: Randomness, avoid: Collection[IpAddress] = ()) -> IpAddress | None:
        """A random free address; where none is free, a random one at rest; else None."""
        barred = {index for address in avoid if (index := self.space.index(address)) is not None}
        index = self._free.choose(random, barred)
        if index is None:
            index = self._resting.choose(random, barred)
        return None if index is None else self.space.address(index)
