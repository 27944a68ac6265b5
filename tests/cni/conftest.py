"""Both shims, installed as `install-cni` installs them, and a small agent of the test's own to answer them."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from homeport_cni.build import COMPILERS, FLAGS, SOURCE
from homeport_cni.frames import CniCall, CniReply, decode_call, encode, encode_reply
from homeport_cni.install import Shim, install, patch_run_dir
from homeport_cni.sockets import read_frame
from homeport_netns_fixtures import capability

ENVIRON = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_IFNAME": "eth0",
    "CNI_NETNS": "/proc/self/ns/net",
    "CNI_PATH": "/opt/cni/bin",
}


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short enough for a socket's path, which pytest's own directories are not."""
    with tempfile.TemporaryDirectory(prefix="hp-") as directory:
        yield Path(directory)


def compiler() -> str:
    found = next(filter(None, map(shutil.which, COMPILERS)), None)
    capability.require(None if found else "no C compiler")
    assert found is not None
    return found


@pytest.fixture(scope="session", params=list(Shim), ids=str)
def kind(request: pytest.FixtureRequest) -> Shim:
    chosen: Shim = request.param
    if chosen is Shim.C:
        compiler()
    return chosen


@dataclass(frozen=True, slots=True)
class Program:
    """An installed shim. `bin_dir` has both executables; what it writes and answers is all a test looks at."""

    bin_dir: Path

    def __call__(
        self,
        stdin: bytes = b"",
        executable: str = "homeport",
        environ: Mapping[str, str] = ENVIRON,
        **changes: str | None,
    ) -> subprocess.CompletedProcess[bytes]:
        """`changes` are variables to set or, with None, to leave out."""
        env = {name: value for name, value in (environ | changes).items() if value is not None}
        return subprocess.run([self.bin_dir / executable], env=env, input=stdin, capture_output=True, timeout=30)


@pytest.fixture(scope="session")
def installed(kind: Shim, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once; a test puts its own run directory into a copy."""
    bin_dir = tmp_path_factory.mktemp(f"bin-{kind}")
    assert install(bin_dir, Path("/run/homeport-nobody"), prefer=kind).shim is kind
    return bin_dir


def relocate(program: bytes, run_dir: Path) -> bytes:
    if program.startswith(b"#!"):
        return program.replace(b"'/run/homeport-nobody'", repr(str(run_dir)).encode())
    return patch_run_dir(program, run_dir)


@pytest.fixture
def shim(installed: Path, run_dir: Path, tmp_path: Path) -> Program:
    for executable in ("homeport", "homeport-ipam"):
        copy = tmp_path / executable
        copy.write_bytes(relocate((installed / executable).read_bytes(), run_dir))
        copy.chmod(0o755)
    return Program(tmp_path)


@pytest.fixture(scope="session")
def impatient_source(kind: Shim, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same shim with a fifth of a second of patience instead of two minutes."""
    if kind is Shim.PYTHON:
        source = (installed / "homeport").read_bytes()
        return source.replace(b"PATIENCE = 120.0", b"PATIENCE = 0.2").replace(b"PATIENCE = 10.0", b"PATIENCE = 0.15")
    program = tmp_path_factory.mktemp("impatient") / "shim"
    limits = ("-DPATIENCE_MS=200", "-DSHORT_PATIENCE_MS=150")
    subprocess.run([compiler(), *FLAGS, *limits, "-o", os.fspath(program), os.fspath(SOURCE)], check=True)
    return program.read_bytes()


@pytest.fixture
def impatient(impatient_source: bytes, run_dir: Path, tmp_path: Path) -> Program:
    bin_dir = tmp_path / "impatient"
    bin_dir.mkdir()
    (bin_dir / "homeport").write_bytes(relocate(impatient_source, run_dir))
    (bin_dir / "homeport").chmod(0o755)
    return Program(bin_dir)


@dataclass(slots=True)
class Seen:
    """What the test's agent was asked. `namespaces` has the inode of each descriptor that came with a call."""

    calls: list[CniCall] = field(default_factory=list)
    namespaces: list[int] = field(default_factory=list)


@contextmanager
def listening(run_dir: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """An agent's socket; `serve` gets each connection, which is closed afterwards."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(run_dir / "agent.sock"))
    server.listen(8)

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                serve(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)


@contextmanager
def agent(run_dir: Path, reply: CniReply | None = None) -> Iterator[Seen]:
    """Answers each call with `reply`, or with its own stdin as stdout."""
    seen = Seen()

    def serve(connection: socket.socket) -> None:
        received = read_frame(connection, 10)
        assert received is not None
        with received:
            call = decode_call(received.frame.payload)
            seen.calls.append(call)
            seen.namespaces += [os.fstat(descriptor).st_ino for descriptor in received.descriptors]
        connection.sendall(encode(encode_reply(reply or CniReply(0, call.stdin))))

    with listening(run_dir, serve):
        yield seen
