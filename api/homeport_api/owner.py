"""Owner: the value of an address or MAC key. The key's absence is the lock; this says whose it is."""

from dataclasses import dataclass
from enum import StrEnum

from homeport_api.interface import InterfaceKey


class OwnerKind(StrEnum):
    """Why it is owned: chosen by Homeport, asked for by a user, or taken by the guest itself (first come, first
    bound)."""

    CHOSEN = "chosen"
    STATIC = "static"
    LEARNED = "learned"


@dataclass(frozen=True, slots=True)
class Owner:
    """Name and uid of the Interface: a record whose uid is not that of the living object of this name is a leak."""

    interface: InterfaceKey
    uid: str
    kind: OwnerKind = OwnerKind.CHOSEN
