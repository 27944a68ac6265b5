"""Which error has which code: the one table between Homeport's exceptions and CNI's error codes, in both directions.

Pure. Reference: CNI SPEC 1.1.0, section 5 "Error". 1 to 99 are the specification's, from 100 they are ours.
"""

import json
from dataclasses import dataclass
from enum import IntEnum

from homeport_api.errors import (
    AddressOwned,
    AlreadyExists,
    BadEnvironment,
    BadInput,
    Conflict,
    Exhausted,
    Held,
    HomeportError,
    Invalid,
    MacInUse,
    MtuTooLarge,
    NotAllowed,
    NotFound,
    PolicyUnsupported,
    Unavailable,
    UplinkUnusable,
)
from homeport_cni.versions import NEWEST, SUPPORTED

MAX_MSG = 1 << 14
"""Characters of a message, most of which nobody reads."""


class Code(IntEnum):
    """What a runtime reads. Each of ours is explained in the manual by this name."""

    INCOMPATIBLE_VERSION = 1
    BAD_ENVIRONMENT = 4
    DECODING_FAILED = 6
    INVALID_CONFIGURATION = 7
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50
    POOL_EXHAUSTED = 101
    HELD_ELSEWHERE = 102
    ADDRESS_OWNED = 103
    NOT_ALLOWED = 104
    UPLINK_UNUSABLE = 105
    MTU_TOO_LARGE = 106
    NOT_FOUND = 107
    MAC_IN_USE = 108
    POLICY_UNSUPPORTED = 111
    INTERNAL = 999


class IncompatibleVersion(HomeportError):
    """The configuration's cniVersion is not spoken here, or is too old for the command."""


class NotReady(HomeportError):
    """STATUS: this node cannot serve an ADD at present. The text says why."""


# The most derived class counts: a lost race (plain Conflict) is worth another try, a held Interface is not.
_CODES: dict[type[HomeportError], Code] = {
    IncompatibleVersion: Code.INCOMPATIBLE_VERSION,
    BadEnvironment: Code.BAD_ENVIRONMENT,
    BadInput: Code.DECODING_FAILED,
    Invalid: Code.INVALID_CONFIGURATION,
    AlreadyExists: Code.INVALID_CONFIGURATION,
    Unavailable: Code.TRY_AGAIN_LATER,
    Conflict: Code.TRY_AGAIN_LATER,
    NotReady: Code.NOT_AVAILABLE,
    Exhausted: Code.POOL_EXHAUSTED,
    Held: Code.HELD_ELSEWHERE,
    AddressOwned: Code.ADDRESS_OWNED,
    NotAllowed: Code.NOT_ALLOWED,
    UplinkUnusable: Code.UPLINK_UNUSABLE,
    MtuTooLarge: Code.MTU_TOO_LARGE,
    NotFound: Code.NOT_FOUND,
    MacInUse: Code.MAC_IN_USE,
    PolicyUnsupported: Code.POLICY_UNSUPPORTED,
}
# Where two classes share a code, the first in the table is what the code is read back as.
_CLASSES: dict[int, type[HomeportError]] = {code: kind for kind, code in reversed(_CODES.items())}


@dataclass(frozen=True, slots=True)
class CniError:
    """An error as it stands on stdout."""

    code: int
    msg: str
    details: str = ""
    cni_version: str = NEWEST


def code_of(error: BaseException) -> Code:
    """999 where no row of the table fits: what CHECK found, what the kernel refused, and all that nobody foresaw."""
    for kind in type(error).__mro__:
        code = _CODES.get(kind)
        if code is not None:
            return code
    return Code.INTERNAL


def exception_of(code: int, message: str) -> HomeportError:
    """The exception that a code was rendered from, for a caller on the other side of the socket."""
    return _CLASSES.get(code, HomeportError)(message)


def render(error: BaseException, cni_version: str = NEWEST) -> bytes:
    """The error JSON for stdout. The text of what nobody foresaw stays in the log: it could name anything. Homeport's
    own errors are written to be read, whatever their code."""
    code = code_of(error)
    if not isinstance(error, HomeportError):
        msg, details = "internal error; the agent's log has the whole of it", type(error).__name__
    else:
        msg, details = _cut(str(error)), ""
    document: dict[str, object] = {
        "cniVersion": cni_version if cni_version in SUPPORTED else NEWEST,
        "code": int(code),
        "msg": msg,
    }
    if details:
        document["details"] = details
    return json.dumps(document).encode() + b"\n"


def _cut(text: str) -> str:
    """Sixty thousand wrong addresses in one call must not make an answer that no frame carries."""
    return text if len(text) <= MAX_MSG else f"{text[:MAX_MSG]}… ({len(text) - MAX_MSG} more characters)"


def read(stdout: bytes) -> CniError | None:
    """The error that a plugin printed; None when stdout holds anything else (a result, or nothing)."""
    try:
        document = json.loads(stdout)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("code"), int):
        return None
    return CniError(
        document["code"],
        str(document.get("msg", "")),
        str(document.get("details", "")),
        str(document.get("cniVersion", NEWEST)),
    )
