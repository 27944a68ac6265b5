"""Conntrack zones: each L2 domain has a number of its own, the same on every node. Stored under zones/…."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from homeport_api.addresses import L2Domain

FIRST_ZONE = 16384
LAST_ZONE = 32767
"""Zones are 16 bits; others on the node (OVS, Cilium, tc) number theirs from below or above."""
COUNT = LAST_ZONE - FIRST_ZONE + 1


@dataclass(frozen=True, slots=True)
class Zone:
    """What a zone's record holds; its domain is the record's key."""

    number: int


def preferred_zones(domain: L2Domain) -> Iterator[int]:
    """Every number once, in an order that is the domain's own: the same domain tends to get the same zone again, and
    two that find one taken do not both try its neighbour."""
    digest = sha256(domain.encode()).digest()
    start, step = int.from_bytes(digest[:4]), int.from_bytes(digest[4:8]) | 1
    for at in range(COUNT):
        yield FIRST_ZONE + (start + at * step) % COUNT
