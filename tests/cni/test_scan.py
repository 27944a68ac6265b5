"""The shims' JSON readers against the standard library's: what each accepts, and where a member's value stands.

The C scanner runs under the address and undefined behaviour sanitizers.
"""

import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from homeport_cni import shim
from homeport_cni.build import SOURCE
from homeport_netns_fixtures import capability

MAX_DEPTH = 512
MISSING = b"missing"
Scan = Callable[[bytes], bytes | None]
"""None for what is no JSON, else the text of the member `k`, or MISSING."""


class Probe:
    """A running scan_probe."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.into, self.out = process.stdin, process.stdout

    def _field(self) -> bytes | None:
        (length,) = struct.unpack("=i", self.out.read(4))
        return None if length < 0 else self.out.read(length)

    def scan(self, document: bytes) -> tuple[bytes | None, bytes | None]:
        """As Scan, and the member as a decoded string where it is one."""
        self.into.write(struct.pack("=I", len(document)) + document)
        self.into.flush()
        verdict = self.out.read(1)
        if verdict == b"0":
            return None, None
        assert verdict == b"1", "the probe died; its stderr has the sanitizer's report"
        value = self._field()
        return MISSING if value is None else value, self._field()


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    compiler = shutil.which("cc")
    capability.require(None if compiler else "no C compiler")
    program = tmp_path_factory.mktemp("scan") / "probe"
    source = Path(__file__).with_name("scan_probe.c")
    flags = ["-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{SOURCE.parent}"]
    done = subprocess.run([str(compiler), *flags, "-o", program, source], capture_output=True, text=True)
    capability.require(f"no sanitizers: {done.stderr}" if done.returncode else None)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Probe(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def scan_in_python(document: bytes) -> bytes | None:
    try:
        found = shim.members(document.decode())
    except (ValueError, RecursionError):
        return None
    return found["k"][1].encode() if "k" in found else MISSING


def refuse(name: str) -> None:
    raise ValueError(name)


def parsed(document: bytes) -> Any:
    """The standard library's word. Raises ValueError."""
    return json.loads(document.decode(), parse_constant=refuse, parse_int=float)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Objects with a member `k`, written in any of the ways JSON allows; a third of them then damaged."""
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(-(10**30), 10**30)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=8)
    )
    values = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    )
    document = draw(st.dictionaries(st.sampled_from(["k", "kk", "", "ä", '"', "\\"]), values, max_size=4))
    space = draw(st.sampled_from(["", " ", "\n\t", "\r "]))
    text = json.dumps(
        document, ensure_ascii=draw(st.booleans()), separators=(f"{space},{space}", f"{space}:{space}")
    ).replace('"k"', draw(st.sampled_from(['"k"', '"\\u006b"', '"\\u006B"'])))
    data = f"{space}{text}{space}".encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 2)) == 0:
        at = draw(st.integers(0, len(data)))
        inserted = draw(
            st.binary(max_size=2) | st.sampled_from([b",", b"}", b'"', b"\\", b"0", b"-", b".", b"e", b"\\u"])
        )
        data = data[:at] + inserted + data[at + draw(st.integers(0, 2)) :]
    return data


ODD = [
    b"",
    b" ",
    b"{",
    b"{}",
    b"{,}",
    b'{"k":1,}',
    b'{"k" 1}',
    b'{"k":}',
    b'{"k":01}',
    b'{"k":-}',
    b'{"k":1.}',
    b'{"k":.5}',
    b'{"k":1e}',
    b'{"k":-0.0E-0}',
    b'{"k":"\x1f"}',
    b'{"k":"\x7f"}',
    b'{"k":"\\x"}',
    b'{"k":"\\u12g4"}',
    b'{"k":"\\',
    b'{"k":"\\u',
    b'{"k":"\\ud83d\\ude00"}',
    b'{"k":"\\ud83d"}',
    b'{"k":"\\ud83dx"}',
    b'{"k":"\\ude00\\ud83d"}',
    b'{"k":"\xc0\xaf"}',
    b'{"k":"\xed\xa0\x80"}',
    b'{"k":"\xf4\x90\x80\x80"}',
    b'{"k":"\xf0\x9f\x98\x80"}',
    b'{"k":"\xf0\x9f\x98',
    b'{"k":tru}',
    b'{"k":nullx}',
    b'{"k":NaN}',
    b'{"k":-Infinity}',
    b'{"k":[1,]}',
    b'{"k":[}',
    b'{"k":[]]}',
    b'{"k":{"k":[{}]}} x',
    b'{"k":1,"k":2}',
    b'\xef\xbb\xbf{"k":1}',
    b'{"k":1}\0',
    b"{'k':1}",
    b'{"k":"' + b"9" * 40 + b'"}',
    b'{"k":' + b"9" * 5000 + b"}",
]


def agrees_with_the_standard_library(document: bytes, value: bytes | None, objects_only: bool = False) -> None:
    try:
        expected = parsed(document)
    except (ValueError, RecursionError):
        assert value is None
        return
    if objects_only and not isinstance(expected, dict):
        assert value is None
        return
    if isinstance(expected, dict) and "k" in expected:
        assert value is not None
        assert parsed(value) == expected["k"]
        assert value in document, "the value's own bytes"
    else:
        assert value == MISSING


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents() | st.binary(max_size=20))
def test_the_c_scanner_agrees_on_anything(probe: Probe, document: bytes) -> None:
    check_c(probe, document)


@pytest.mark.parametrize("document", ODD)
def test_the_c_scanner_agrees_on_odd_documents(probe: Probe, document: bytes) -> None:
    check_c(probe, document)


def check_c(probe: Probe, document: bytes) -> None:
    value, decoded = probe.scan(document)
    agrees_with_the_standard_library(document, value)
    if value is not None and value.startswith(b'"'):
        text = parsed(value)
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            encoded = None
        if encoded is None or b"\0" in encoded or len(encoded) > 31:
            assert decoded is None
        elif len(encoded) < 28:
            assert decoded == encoded


@settings(deadline=None)
@given(documents())
@example(b"0")
def test_the_python_reader_agrees_on_anything(document: bytes) -> None:
    agrees_with_the_standard_library(document, scan_in_python(document), objects_only=True)


@pytest.mark.parametrize("document", ODD)
def test_the_python_reader_agrees_on_odd_documents(document: bytes) -> None:
    agrees_with_the_standard_library(document, scan_in_python(document), objects_only=True)


@pytest.mark.parametrize(("depth", "accepted"), [(1, True), (MAX_DEPTH - 1, True), (MAX_DEPTH, False), (50_000, False)])
def test_nesting_has_a_limit(probe: Probe, depth: int, accepted: bool) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"k":', b"}")):
        document = b'{"k":' + opening * depth + b"1" + closing * depth + b"}"
        assert (probe.scan(document)[0] is not None) is accepted
    if depth in (1, 50_000):
        assert (scan_in_python(document) is not None) is accepted
