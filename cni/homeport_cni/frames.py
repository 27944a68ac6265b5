"""The frames that cross the agent's unix socket: what a shim or the command line sends, and what comes back.

Pure: bytes to values and back, no socket (that is `sockets`). Every connection carries one request and one answer.

    +----------------+------+-------------------------+
    | length, 4 bytes | kind | payload: length - 1     |      length is big-endian and counts kind and payload
    +----------------+------+-------------------------+

    C   CNI request    executable NUL, then each CNI_*=value NUL, then NUL, then stdin to the end of the payload
    R   CNI reply      1 byte exit code, then stdout
    J   JSON           one JSON object, as request and as answer

A network namespace travels beside the request, as a descriptor (SCM_RIGHTS) with the frame's first byte.
The C shim writes the same frames without this module; `tests/cni/test_frames.py` holds the bytes that bind both.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from homeport_api.errors import BadInput

HEADER = struct.Struct(">IB")
MAX_STDIN = 1 << 20
"""What a shim reads of its stdin at most; more is answered by the shim itself, with code 6."""
MAX_ENVIRON = 1 << 16
"""The CNI_* variables of one request together; more is answered by the shim itself, with code 4."""
MAX_PAYLOAD = 1 << 22
"""The largest payload of any kind: a result with its prevResult, or a JSON answer."""


class Kind(Enum):
    """What a payload is. The value is the byte on the wire."""

    CNI_REQUEST = ord("C")
    CNI_REPLY = ord("R")
    JSON = ord("J")


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    payload: bytes


@dataclass(frozen=True, slots=True)
class CniCall:
    """What a runtime gave the executable. `executable` is `homeport` or `homeport-ipam`; `environ` holds the CNI_*
    variables and nothing else. Bytes that are not UTF-8 survive as surrogates, as in `os.environ`."""

    executable: str
    environ: Mapping[str, str]
    stdin: bytes


@dataclass(frozen=True, slots=True)
class CniReply:
    exit_code: int
    stdout: bytes


def encode(frame: Frame) -> bytes:
    """The frame's bytes. Raises BadInput for a payload over MAX_PAYLOAD, which the other side would refuse."""
    if len(frame.payload) > MAX_PAYLOAD:
        raise BadInput(f"a frame of {len(frame.payload)} bytes is over the limit of {MAX_PAYLOAD}")
    return HEADER.pack(len(frame.payload) + 1, frame.kind.value) + frame.payload


def decode_header(header: bytes) -> tuple[Kind, int]:
    """Kind and payload length, from the first HEADER.size bytes. Refuses what is too long before any of it is read."""
    length, kind = HEADER.unpack(header)
    if not 1 <= length <= MAX_PAYLOAD + 1:
        raise BadInput(f"a frame announces {length} bytes; at least 1 and at most {MAX_PAYLOAD + 1} are allowed")
    try:
        return Kind(kind), length - 1
    except ValueError as error:
        raise BadInput(f"a frame has the unknown kind {kind:#04x}") from error


def encode_call(call: CniCall) -> Frame:
    """A name or value that holds a NUL cannot come from an environment, and is refused."""
    head = [call.executable, *(f"{name}={value}" for name, value in call.environ.items())]
    if any("\0" in entry or not entry for entry in head):
        raise BadInput("a CNI variable holds a NUL byte, or the executable has no name")
    text = "".join(entry + "\0" for entry in head) + "\0"
    return Frame(Kind.CNI_REQUEST, text.encode("utf-8", "surrogateescape") + call.stdin)


def decode_call(payload: bytes) -> CniCall:
    """Of a variable given twice the first counts, as for getenv."""
    head, end, stdin = payload.partition(b"\0\0")
    if not end:
        raise BadInput("the environment of a CNI request does not end")
    executable, *variables = head.decode("utf-8", "surrogateescape").split("\0")
    environ: dict[str, str] = {}
    for variable in variables:
        name, equals, value = variable.partition("=")
        if not equals or not name.startswith("CNI_"):
            raise BadInput(f"{variable[:40]!r} in a CNI request is no CNI_* variable")
        environ.setdefault(name, value)
    return CniCall(executable, environ, stdin)


def encode_reply(reply: CniReply) -> Frame:
    return Frame(Kind.CNI_REPLY, bytes((reply.exit_code,)) + reply.stdout)


def decode_reply(payload: bytes) -> CniReply:
    if not payload:
        raise BadInput("a CNI reply has no exit code")
    return CniReply(payload[0], payload[1:])


def encode_json(value: Mapping[str, Any]) -> Frame:
    return Frame(Kind.JSON, json.dumps(value, separators=(",", ":")).encode())


def decode_json(payload: bytes) -> dict[str, Any]:
    """Refuses what is not an object: a caller can rely on names."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"a request is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput("a request is JSON, but not an object")
    return value
