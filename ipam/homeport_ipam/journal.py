"""Every release with its reason: one record each under journal/…, in the order of time. Pure.

The journal answers "where did this address go, and why". It is written in the same transaction as the release itself,
so neither is ever without the other, and trimmed by age (`Allocator.trim_journal`).
"""

from dataclasses import dataclass

from homeport_api.addresses import IpAddress, L2Domain, MacAddress
from homeport_api.interface import InterfaceKey
from homeport_api.scalars import ADDRESS, MAC, TEXT, TIME
from homeport_api.table import Field, ListOf, Record
from homeport_api.wire import Stored
from homeport_api.wire_records import INTERFACE_KEY
from homeport_ipam.pool import Randomness
from homeport_store import keys


@dataclass(frozen=True, slots=True)
class Release:
    """What an Interface gave up at time `at`; it had been made at `created`. `domain` is that of the addresses, None
    where there was none."""

    at: float
    interface: InterfaceKey
    uid: str
    network: str
    reason: str
    created: float = 0.0
    domain: L2Domain | None = None
    addresses: tuple[IpAddress, ...] = ()
    mac: MacAddress | None = None


RELEASE: Stored[Release] = Stored(
    "journal entry",
    Record(
        Release,
        Field("at", TIME, "at", required=True),
        Field("interface", INTERFACE_KEY, "interface", required=True),
        Field("uid", TEXT, "uid", required=True),
        Field("network", TEXT, "network", required=True),
        Field("reason", TEXT, "reason", required=True),
        Field("created", TIME, "created"),
        Field("domain", TEXT, "domain"),
        Field("addresses", ListOf(ADDRESS), "addresses"),
        Field("mac", MAC, "mac"),
    ),
)


def entry_key(at: float, random: Randomness) -> str:
    """Sorts by time; the random end keeps two releases of one millisecond apart."""
    return keys.journal(f"{int(at * 1000):014d}-{random.getrandbits(48):012x}")


def entry_time(key: str) -> float:
    """ValueError for what is no entry of ours."""
    return int(keys.split(key, keys.JOURNAL)[0].partition("-")[0]) / 1000
