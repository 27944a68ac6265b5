"""Bytes of the frames, literally: the C shim writes the same without ever seeing frames.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.errors import BadInput
from homeport_cni.frames import (
    HEADER,
    MAX_PAYLOAD,
    CniCall,
    CniReply,
    Frame,
    Kind,
    decode_call,
    decode_header,
    decode_json,
    decode_reply,
    encode,
    encode_call,
    encode_json,
    encode_reply,
)

CALL = CniCall("homeport", {"CNI_COMMAND": "ADD", "CNI_ARGS": ""}, b'{"name":\0"x"}')
CALL_BYTES = b'\x00\x00\x00\x32Chomeport\0CNI_COMMAND=ADD\0CNI_ARGS=\0\0{"name":\0"x"}'


def test_a_call_is_these_bytes() -> None:
    assert encode(encode_call(CALL)) == CALL_BYTES
    assert decode_header(CALL_BYTES[: HEADER.size]) == (Kind.CNI_REQUEST, 0x31)
    assert decode_call(CALL_BYTES[HEADER.size :]) == CALL


def test_a_reply_is_these_bytes() -> None:
    assert encode(encode_reply(CniReply(1, b"{}"))) == b"\x00\x00\x00\x04R\x01{}"
    assert decode_reply(b"\x01{}") == CniReply(1, b"{}")


def test_json_is_these_bytes() -> None:
    assert encode(encode_json({"verb": "health"})) == b'\x00\x00\x00\x12J{"verb":"health"}'
    assert decode_json(b'{"verb":"health"}') == {"verb": "health"}


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"\x00\x00\x00\x00C", id="no room for the kind"),
        pytest.param((MAX_PAYLOAD + 2).to_bytes(4, "big") + b"C", id="one byte too long"),
        pytest.param(b"\xff\xff\xff\xffC", id="four gigabytes"),
        pytest.param(b"\x00\x00\x00\x02c", id="unknown kind"),
    ],
)
def test_bad_headers_are_refused(header: bytes) -> None:
    with pytest.raises(BadInput, match=r"a frame (announces|has)"):
        decode_header(header)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        pytest.param(b"", "does not end", id="empty"),
        pytest.param(b"homeport\0CNI_COMMAND=ADD\0", "does not end", id="cut off"),
        pytest.param(b"homeport\0PATH=/bin\0\0", "PATH=/bin", id="foreign variable"),
        pytest.param(b"homeport\0CNI_COMMAND\0\0", "CNI_COMMAND", id="no value"),
    ],
)
def test_bad_calls_are_refused(payload: bytes, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        decode_call(payload)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{", b"\xff", b"[" * 100_000], ids=["empty", "list", "cut", "not UTF-8", "deep"]
)
def test_json_that_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(BadInput, match="request is"):
        decode_json(payload)


def test_a_reply_without_exit_code_is_refused() -> None:
    with pytest.raises(BadInput, match="no exit code"):
        decode_reply(b"")


def test_a_payload_over_the_limit_is_not_sent() -> None:
    with pytest.raises(BadInput, match="over the limit"):
        encode(Frame(Kind.JSON, bytes(MAX_PAYLOAD + 1)))


def test_a_variable_given_twice_counts_once_as_for_getenv() -> None:
    assert decode_call(b"homeport\0CNI_X=1\0CNI_X=2\0\0").environ == {"CNI_X": "1"}


_VALUES = st.binary(max_size=20).map(lambda value: value.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
_NAMES = st.text("ABCDEF_", min_size=1, max_size=8).map("CNI_{}".format)


@given(st.sampled_from(["homeport", "homeport-ipam"]), st.dictionaries(_NAMES, _VALUES, max_size=4), st.binary())
def test_any_call_survives(executable: str, environ: dict[str, str], stdin: bytes) -> None:
    call = CniCall(executable, environ, stdin)
    assert decode_call(encode_call(call).payload) == call


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(payload: bytes) -> None:
    for decode in (decode_call, decode_reply, decode_json):
        try:
            decode(payload)
        except BadInput:
            continue
