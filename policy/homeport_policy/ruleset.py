"""A ruleset as a value: one table, its sets, its chains and their rules. Pure, and known to no kernel.

    Ruleset ─┬─ counters          by name, one per reason
             ├─ sets              of links, or of (link, MAC); elements are apart
             └─ chains ── Rule ── matches, all of which must hold, then a counter and a verdict

Elements are apart from the ruleset because they change with every attach, and a base chain that is made anew drops the
packets on their way. `Change` adds and deletes elements; both kinds are rendered by `render`.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum


class Hook(StrEnum):
    """Where bridged frames are seen. Input and output are frames for and from the bridge itself."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"


class Verdict(StrEnum):
    """`ACCEPT` ends the chain's hook, not the frame's way through the others."""

    ACCEPT = "accept"
    DROP = "drop"


class EtherType(IntEnum):
    """IEEE 802 numbers, "EtherType"."""

    IPV4 = 0x0800
    ARP = 0x0806
    RARP = 0x8035
    VLAN = 0x8100
    IPV6 = 0x86DD
    SERVICE_VLAN = 0x88A8


class Key(Enum):
    """What of a frame is looked up in a set: the expression that reads it, and the set's type."""

    IN_LINK = ("iifname", "ifname")
    OUT_LINK = ("oifname", "ifname")
    IN_LINK_AND_SOURCE = ("iifname . ether saddr", "ifname . ether_addr")

    @property
    def expression(self) -> str:
        return self.value[0]

    @property
    def type(self) -> str:
        return self.value[1]


@dataclass(frozen=True, slots=True)
class InSet:
    """The frame's key is an element of the set, or (`member` False) is not."""

    key: Key
    set: str
    member: bool = True


@dataclass(frozen=True, slots=True)
class Protocol:
    """What the frame carries behind its outer VLAN tag. `one_of` holds when it is among these, else when it is not."""

    types: frozenset[EtherType]
    one_of: bool = True


@dataclass(frozen=True, slots=True)
class OuterTag:
    """The frame arrived with a VLAN tag of these types. Only before a VLAN-aware bridge tags frames itself."""

    types: frozenset[EtherType]


@dataclass(frozen=True, slots=True)
class LinkLocalDestination:
    """The destination is one of 01:80:c2:00:00:00 to 0f, which no bridge forwards (IEEE 802.1Q, table 8-1)."""


Match = InSet | Protocol | OuterTag | LinkLocalDestination


@dataclass(frozen=True, slots=True)
class Rule:
    """All matches, in this order, then the counter, then the verdict."""

    matches: tuple[Match, ...]
    verdict: Verdict
    counter: str | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain: what no rule ends is accepted."""

    name: str
    hook: Hook
    priority: int
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Set:
    """A set whose elements come and go by `Change`."""

    name: str
    key: Key


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Everything of one table but elements. Applying it again resets rules, keeps sets with their elements, and
    counters."""

    table: str
    counters: tuple[str, ...]
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True, order=True)
class Element:
    """One element of one set: a link's name, and a MAC where the set has both."""

    set: str
    link: str
    mac: str | None = None

    @property
    def key(self) -> str:
        """As a listing of the kernel writes it."""
        return self.link if self.mac is None else f"{self.link} . {self.mac}"


@dataclass(frozen=True, slots=True)
class Change:
    """Elements to delete and to add, in one transaction. Repeating it changes nothing: an element that is there may be
    added and one that is not may be deleted."""

    table: str
    add: tuple[Element, ...] = ()
    delete: tuple[Element, ...] = ()

    def __add__(self, other: "Change") -> "Change":
        """Both in one transaction; the second must not undo the first."""
        if other.table != self.table:
            raise ValueError(f"changes of two tables, {self.table} and {other.table}, are two transactions")
        return Change(self.table, self.add + other.add, self.delete + other.delete)
