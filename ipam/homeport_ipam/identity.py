"""The address an identity (namespace, VM, interface) prefers in an L2 domain. Pure.

It must come out the same in every version of Homeport and after a lost store, so it is plain sha256 over labelled,
zero-separated parts, and never changes. (The Interface's name is derived in `homeport_api.interface`.)
"""

from hashlib import sha256

from homeport_api.addresses import L2Domain

LABEL = b"homeport address 1"


def preferred_index(namespace: str, vm: str, interface: str, domain: L2Domain, version: int, capacity: int) -> int:
    """Which address of a space this identity prefers: sha256 over the label and the parts, as one big-endian number,
    modulo the capacity. A pool that grows moves it; only those without an address yet notice."""
    parts = (domain, f"v{version}", namespace, vm, interface)
    digest = sha256(b"\0".join((LABEL, *(part.encode() for part in parts))))
    return int.from_bytes(digest.digest(), "big") % capacity
