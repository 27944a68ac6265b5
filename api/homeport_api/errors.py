"""Every error a caller of Homeport acts on. Each package raises these; the rims (CNI, command line) map them to codes.

A class exists only where somebody decides differently because of it. Not here: malformed frames from the wire, which
are values that count and drop, never exceptions.
"""

from dataclasses import dataclass


class HomeportError(Exception):
    """Root of all errors that are Homeport's own. The text says what is wrong, where, and what to do."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field. `path` is written as in the manifest: `spec.ipam.pools[0].cidr`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Invalid(HomeportError):
    """Input that can never succeed as it is, with all of its errors at once."""

    def __init__(self, fields: tuple[FieldError, ...] | list[FieldError] | str) -> None:
        self.fields = (FieldError("", fields),) if isinstance(fields, str) else tuple(fields)
        super().__init__("; ".join(str(field) for field in self.fields))


class NotFound(HomeportError):
    """The named object does not exist."""


class AlreadyExists(HomeportError):
    """An object of that name exists already, or another one claims the same place."""


class Conflict(HomeportError):
    """Somebody else changed, holds or uses the thing."""


class InUse(Conflict):
    """The object cannot go while others refer to it."""


class Held(Conflict):
    """The Interface has an active holder elsewhere; the text names it."""


class AddressOwned(Conflict):
    """The address belongs to another Interface."""


class MacInUse(Conflict):
    """The MAC belongs to another Interface of the same L2 domain."""


class Exhausted(HomeportError):
    """No free address is left in the pools of the Network."""


class NotAllowed(HomeportError):
    """What is asked for is well-formed, and not permitted to this caller."""


class UplinkUnusable(HomeportError):
    """The Network's uplink is missing on this node, taken, or cannot carry the VLAN."""


class MtuTooLarge(HomeportError):
    """The MTU exceeds the uplink's."""


class PolicyUnsupported(HomeportError):
    """A policy selects the Interface, and this kernel cannot enforce it."""


class BadEnvironment(HomeportError):
    """The caller's environment (CNI variables, network namespace) is unusable."""


class BadInput(HomeportError):
    """Bytes that cannot be decoded."""


class TooNew(BadInput):
    """They were written by a newer Homeport, so they are not to be overwritten."""


class Unavailable(HomeportError):
    """Something needed is out of reach for now: the store, the agent, a record that will come. Try again."""
