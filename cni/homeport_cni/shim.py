"""The CNI executables for nodes where shim.c can neither be built nor was shipped: the same rules in the same order.

Its cost is the interpreter's start, so it imports only modules that are built in or cost nothing (`json`, `socket` or
`typing` would double it), and runs as a file of its own under `python -IS`: install-cni writes the interpreter's path
and the run directory into its copy. See shim.c for what is decided here and why.
"""

from __future__ import annotations

import _json
import _socket
import posix
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

RUN_DIR = "/run/homeport"  # homeport-run-dir= (what install-cni looks for, and replaces)
PATIENCE = 120.0  # the agent answers within its queue's deadline of 60 s, or refuses
SHORT_PATIENCE = 10.0  # for calls that do not depend on the answer
SUPPORTED = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = '"1.1.0"'
MAX_STDIN = 1 << 20
MAX_ENVIRON = 1 << 16
MAX_PAYLOAD = 1 << 22
MAX_PATH = 107  # sun_path without its terminating zero (unix(7))
STARTED = time.monotonic()


class Scanner:
    """Settings of the interpreter's own JSON scanner: strict, and numbers of any length."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = float

    @staticmethod
    def parse_constant(name: str) -> NoReturn:
        raise ValueError(name)


def members(text: str) -> dict[str, tuple[object, str]]:
    """The members of the JSON object that `text` is, each value beside its own text. Raises ValueError for anything
    else, RecursionError for nesting that nobody means. Of a name that stands there twice the last counts."""
    scan = _json.make_scanner(Scanner)  # type: ignore[arg-type]  # any object with these attributes will do
    found: dict[str, tuple[object, str]] = {}
    at = _expect(text, 0, "{")
    if text[at : at + 1] == "}":
        at += 1
    else:
        while True:
            _expect(text, at, '"')
            name, at = _json.scanstring(text, at + 1, True)
            at = _expect(text, at, ":")
            try:
                value, end = scan(text, at)
            except StopIteration:
                raise ValueError("no value") from None
            found[name] = (value, text[at:end])
            at = _skip_space(text, end)
            if text[at : at + 1] == "}":
                at += 1
                break
            at = _expect(text, at, ",")
    if _skip_space(text, at) != len(text):
        raise ValueError("text behind the object")
    return found


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n\r":
        at += 1
    return at


def _expect(text: str, at: int, character: str) -> int:
    """The next place of interest behind `character`, which must be the next one."""
    at = _skip_space(text, at)
    if text[at : at + 1] != character:
        raise ValueError("not an object")
    return _skip_space(text, at + 1)


class Call:
    """What the runtime asks, as far as it must be understood here."""

    def __init__(self, executable: str, command: str, stdin: bytes) -> None:
        self.executable = executable
        self.command = command
        self.stdin = stdin
        self.conf: dict[str, tuple[object, str]] | None = None
        self.version = NEWEST  # for error answers, as it stands in the configuration
        self.chained = self.ordinary = False
        self.patience = PATIENCE
        try:
            self.conf = members(stdin.decode())
        except (ValueError, RecursionError):
            return
        version = self.get("cniVersion")
        if version in SUPPORTED:
            self.version = self.conf["cniVersion"][1]
            neither = self.get("network") in (None, "") and self.get("interface") in (None, "")
            self.chained = executable == "homeport" and neither
        self.ordinary = self.chained and not self.is_annotated()
        if self.ordinary or command == "STATUS":
            self.patience = SHORT_PATIENCE

    def get(self, name: str) -> object:
        return self.conf[name][0] if self.conf and name in self.conf else None

    def is_annotated(self) -> bool:
        """Whether the pod says anything to Homeport. What is not understood is the agent's to refuse."""
        runtime = self.get("runtimeConfig")
        if runtime in (None, ""):
            return False
        if not isinstance(runtime, dict):
            return True
        annotations = runtime.get("io.kubernetes.cri.pod-annotations")
        if annotations in (None, ""):
            return False
        if not isinstance(annotations, dict):
            return True
        return "homeport.dev/interfaces" in annotations or "networking.gke.io/interfaces" in annotations


def left(patience: float) -> float:
    seconds = STARTED + patience - time.monotonic()
    if seconds <= 0:
        raise TimeoutError(110, "Connection timed out")
    return seconds


def answer(exit_code: int, data: bytes = b"") -> NoReturn:
    """Prints the answer and ends. A result that could not be printed must not count as success."""
    try:
        while data:
            try:
                data = data[posix.write(1, data) :]
            except BlockingIOError:
                poller = select.poll()
                poller.register(1, select.POLLOUT)
                poller.poll()
    except OSError as error:
        posix.write(2, f"homeport: stdout: {error.strerror}\n".encode())
        posix._exit(exit_code or 1)
    posix._exit(exit_code)


def fail(code: int, message: str, version: str = NEWEST) -> NoReturn:
    """The error JSON of the specification (section 5), and exit code 1."""
    quoted = _json.encode_basestring_ascii(message.encode("utf-8", "replace").decode())
    answer(1, f'{{"cniVersion":{version},"code":{code},"msg":{quoted}}}\n'.encode())


def read_stdin() -> bytes:
    chunks: list[bytes] = []
    size = 0
    poller = select.poll()
    poller.register(0, select.POLLIN)
    while True:
        try:
            if not poller.poll(left(PATIENCE) * 1000):
                continue
            chunk = posix.read(0, MAX_STDIN + 1 - size)
        except TimeoutError:
            fail(6, "stdin: the network configuration did not end in time")
        except BlockingIOError:
            continue
        except OSError as error:
            fail(5, f"stdin: {error.strerror}")
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_STDIN:
            fail(6, f"stdin: the network configuration is over the limit of {MAX_STDIN} bytes")


def answer_version(call: Call) -> NoReturn:
    if call.conf is None and call.stdin.strip(b" \t\n\r"):
        fail(6, "stdin: not a JSON object")
    version = call.conf["cniVersion"][1] if call.conf and isinstance(call.get("cniVersion"), str) else NEWEST
    spoken = ",".join(f'"{version}"' for version in SUPPORTED)
    answer(0, f'{{"cniVersion":{version},"supportedVersions":[{spoken}]}}\n'.encode())


def answer_without_agent(call: Call, path: str, reason: str) -> NoReturn:
    if call.conf is None:
        fail(6, "stdin: not a JSON object")
    if call.ordinary and call.command in ("DEL", "CHECK"):
        answer(0)
    fail(
        50 if call.command == "STATUS" else 11,
        f"the Homeport agent does not answer at {path}: {reason}; see whether `homeport agent` runs on this node",
        call.version,
    )


def find_socket(call: Call) -> str:
    """The socket's path: the configuration's runDir, else the one written in at installation."""
    section = call.get("ipam") if call.executable == "homeport-ipam" else None
    said = section.get("runDir") if isinstance(section, dict) else None
    if call.executable != "homeport-ipam":
        said = call.get("runDir")
    if not isinstance(said, str) or not said:
        return RUN_DIR + "/agent.sock"
    path = said + "/agent.sock"
    try:
        if len(path.encode()) <= MAX_PATH and "\0" not in path:
            return path
    except UnicodeEncodeError:
        pass
    fail(7, f"runDir: must be a path of at most {MAX_PATH - len('/agent.sock')} bytes", call.version)


def build_frame(call: Call) -> bytes:
    """The frame: length, kind, executable, CNI_* variables, an empty string, stdin (frames.py)."""
    environ = [name + b"=" + value + b"\0" for name, value in posix.environ.items() if name.startswith(b"CNI_")]
    if sum(map(len, environ)) > MAX_ENVIRON:
        fail(4, f"the CNI_* variables together are over the limit of {MAX_ENVIRON} bytes", call.version)
    payload = b"".join((b"C", call.executable.encode(), b"\0", *environ, b"\0", call.stdin))
    return len(payload).to_bytes(4, "big") + payload


def open_netns(call: Call) -> int | None:
    """The namespace's descriptor; None where none is given. DEL goes on without one: the namespace may be gone."""
    path = posix.environ.get(b"CNI_NETNS")
    if not path:
        return None
    try:
        # O_NONBLOCK: a path that is a FIFO must not hold us. Whether it is a namespace is for the agent to see.
        return posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOCTTY)
    except OSError as error:
        if call.command in ("ADD", "CHECK"):
            fail(4, f"CNI_NETNS: {path.decode('utf-8', 'replace')}: {error.strerror}", call.version)
        return None


def connect(path: str, patience: float) -> _socket.socket:
    """Blocking, limited by the kernel: a connect() without blocking would not wait for an agent with a full queue."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
    long = 8 if sys.maxsize > 1 << 32 else 4
    limit = int(left(patience)).to_bytes(long, sys.byteorder) + (1).to_bytes(long, sys.byteorder)
    connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, limit)
    try:
        connection.connect(path)
    except BlockingIOError:
        raise TimeoutError(110, "Connection timed out") from None
    return connection


def send_frame(connection: _socket.socket, data: bytes, netns: int | None, patience: float) -> OSError | None:
    """What went wrong, or None. An agent that refuses early stops reading, and its answer is there all the same."""
    rights: list[tuple[int, int, bytes]] = []
    if netns is not None:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, netns.to_bytes(4, sys.byteorder))]
    try:
        while data:
            connection.settimeout(left(patience))
            data = data[connection.sendmsg([data], rights, _socket.MSG_NOSIGNAL) :]
            rights = []
    except OSError as error:
        return error
    return None


def receive(connection: _socket.socket, size: int, patience: float) -> bytes:
    data = b""
    while len(data) < size:
        connection.settimeout(left(patience))
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ConnectionResetError(104, "Connection reset by peer")
        data += chunk
    return data


def main() -> NoReturn:
    # A closed standard stream would become the agent's socket, and the answer would go there.
    for fd in (0, 1, 2):
        try:
            posix.fstat(fd)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)

    executable = "homeport-ipam" if sys.argv[0].rpartition("/")[2] == "homeport-ipam" else "homeport"
    command = posix.environ.get(b"CNI_COMMAND", b"").decode("utf-8", "replace")
    if not command:
        fail(4, f"CNI_COMMAND is not set: {executable} is a CNI plugin, to be run by a container runtime")
    call = Call(executable, command, read_stdin())

    if command == "VERSION":
        answer_version(call)
    if call.chained and command == "STATUS":
        answer(0)
    if call.ordinary and command == "ADD" and call.conf and isinstance(call.get("prevResult"), dict):
        answer(0, call.conf["prevResult"][1].encode())

    path = find_socket(call)
    frame = build_frame(call)
    netns = open_netns(call)
    failed: OSError | None = None
    try:
        connection = connect(path, call.patience)
        failed = send_frame(connection, frame, netns, call.patience)
        header = receive(connection, 6, call.patience)
        length = int.from_bytes(header[:4], "big")
        if header[4:5] != b"R" or not 2 <= length <= MAX_PAYLOAD + 1:
            answer_without_agent(call, path, "what it sent is no answer")
        output = receive(connection, length - 2, call.patience)
    except OSError as error:
        answer_without_agent(call, path, (failed or error).strerror or "Connection timed out")
    answer(header[5], output)


if __name__ == "__main__":
    main()
