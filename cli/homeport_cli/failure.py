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


_CODES: tuple[tuple[type[HomeportError], Exit], ...] = (
    (Invalid, Exit.USAGE),
    (BadInput, Exit.USAGE),
    (NotFound, Exit.NOT_FOUND),
    (Unavailable, Exit.UNREACHABLE),
    (AlreadyExists, Exit.CONFLICT),
    (Conflict, Exit.CONFLICT),
)


class AgentRefused(HomeportError):
    """The agent's answer to a request it did not carry out. `exit_code` is the agent's own word on it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code(error: HomeportError) -> int:
    if isinstance(error, AgentRefused):
        return error.exit_code
    return next((int(code) for kind, code in _CODES if isinstance(error, kind)), int(Exit.REFUSED))


def lines(error: HomeportError) -> list[str]:
    """One line for each thing that is wrong."""
    if isinstance(error, Invalid):
        return [str(field) for field in error.fields]
    return [str(error)]
