"""Exit codes, and how a failure is told. The one table from errors to codes."""

from enum import IntEnum

from homeport_api.errors import (
    AlreadyExists,
    BadInput,
    Conflict,
    HomeportError,
    Invalid,
    NotFound,
    Unavailable,
)


class Exit(IntEnum):
    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    CONFLICT = 5
    DENIED = 10
    DISAGREE = 11


_CODES: tuple[tuple[type[HomeportError], Exit], ...] = (
    (Invalid, Exit.USAGE),
    (BadInput, Exit.USAGE),
    (NotFound, Exit.NOT_FOUND),
    (Unavailable, Exit.UNREACHABLE),
    (AlreadyExists, Exit.CONFLICT),
    (Conflict, Exit.CONFLICT),
)


def exit_code(error: HomeportError) -> Exit:
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.REFUSED)


def lines(error: HomeportError) -> list[str]:
    """One line for each thing that is wrong."""
    if isinstance(error, Invalid):
        return [str(field) for field in error.fields]
    return [str(error)]
