"""What is done to the switch for one scene, and what was seen of it: plain values, made outside the Debian kernel and
played inside, where everything that Python does costs many times as much."""

from collections.abc import Mapping
from dataclasses import dataclass

from homeport_dataplane.nft import Owned

WIRE = "wire"
"""The end that plays the hosts outside; the others are called like their ports."""


@dataclass(frozen=True, slots=True)
class Volley:
    """`rules` is the transaction from the volley before to this one. `frames` go out in order, each from its end; when
    the last have arrived (`awaited`, as end and number), every frame has. `numbers` are
    those of the scene's questions. `listed`: the whole table is listed afterwards."""

    name: str
    rules: bytes
    vlans: Mapping[str, int]
    frames: tuple[tuple[str, bytes], ...]
    awaited: frozenset[tuple[str, int]]
    numbers: tuple[int, ...]
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where numbered frames arrived, in order, and the table's counters afterwards. `complaint`: the rules were
    refused, or what was awaited did not come."""

    arrivals: tuple[tuple[str, int], ...] = ()
    counters: Mapping[str, int] | None = None
    complaint: str = ""
    owned: Owned | None = None


@dataclass(frozen=True, slots=True)
class Talk:
    """One connection by the guests' own stacks: opened, used both ways, and closed."""

    client: str
    server: str
    source: str
    target: str
    protocol: str
    port: int
    allowed: bool


@dataclass(frozen=True, slots=True)
class Session:
    """Talks at one state of the table. `addresses` are those that each end has by then."""

    name: str
    rules: bytes
    vlans: Mapping[str, int]
    addresses: Mapping[str, tuple[str, ...]]
    talks: tuple[Talk, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """Which talks came to their good end, by their place in the session. `mute` are protocols that this kernel's stack
    has not, which then were not tried."""

    done: frozenset[int] = frozenset()
    counters: Mapping[str, int] | None = None
    mute: frozenset[str] = frozenset()
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Volleys or sessions on one table. `trunk`: every guest's port is one, with the volley's VLAN as its native."""

    name: str
    ports: tuple[str, ...]
    trunk: bool
    br_netfilter: bool
    base: bytes
    volleys: tuple[Volley, ...] = ()
    sessions: tuple[Session, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a run. `rules` are the fingerprints of each chain's rules at its end."""

    sightings: tuple[Sighting, ...]
    heard: tuple[Heard, ...]
    rules: Mapping[str, tuple[str, ...]]
    seconds: float
