"""A store transaction under construction, kept within etcd's limit of operations. Pure.

`guard` is what must hold for the result to be right. `wish` is what is worth comparing as long as there is room: a
Network edited, or an address gone to rest, in the very millisecond of the call. etcd counts comparisons and writes
apart (128 of each by default); a call of a few NICs has room for all of its wishes.
"""

from dataclasses import dataclass

from homeport_api.errors import Invalid
from homeport_store.protocol import Delete, PrefixEmpty, Put, Unchanged

MAX_OPERATIONS = 128


@dataclass(frozen=True, slots=True)
class Transaction:
    """`rests` are written with a lease that ends an address's rest; they are apart because only the store can grant
    one."""

    preconditions: tuple[Unchanged | PrefixEmpty, ...]
    writes: tuple[Put | Delete, ...]
    rests: tuple[Put, ...] = ()


class Draft:
    """Collects; a key guarded or written again keeps the last word."""

    def __init__(self) -> None:
        self._guards: dict[str, Unchanged | PrefixEmpty] = {}
        self._wishes: dict[str, Unchanged] = {}
        self._writes: dict[str, Put | Delete] = {}
        self._rests: dict[str, Put] = {}

    def guard(self, key: str, revision: int) -> None:
        self._guards[key] = Unchanged(key, revision)

    def guard_empty(self, prefix: str) -> None:
        self._guards[prefix] = PrefixEmpty(prefix)

    def wish(self, key: str, revision: int) -> None:
        self._wishes[key] = Unchanged(key, revision)

    def put(self, key: str, value: bytes) -> None:
        self._writes[key] = Put(key, value)

    def delete(self, key: str) -> None:
        self._writes[key] = Delete(key)

    def rest(self, key: str, value: bytes) -> None:
        self._rests[key] = Put(key, value)

    @property
    def empty(self) -> bool:
        return not self._writes and not self._rests

    def finish(self) -> Transaction:
        """Invalid when what must be compared or written exceeds the limit: the call has to be split."""
        guards, writes = len(self._guards), len(self._writes) + len(self._rests)
        if max(guards, writes) > MAX_OPERATIONS:
            raise Invalid(
                f"too much for one transaction ({guards} comparisons, {writes} writes, at most {MAX_OPERATIONS}): "
                "attach fewer NICs in one call"
            )
        wishes = [wish for key, wish in self._wishes.items() if key not in self._guards]
        room = MAX_OPERATIONS - guards
        return Transaction(
            (*self._guards.values(), *wishes[:room]), tuple(self._writes.values()), tuple(self._rests.values())
        )
