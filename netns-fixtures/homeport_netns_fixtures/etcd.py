"""Real etcd for tests: one member on unix sockets, or three with mutual TLS on loopback.

    with etcd_member() as etcd:      # etcd.endpoints == ("unix:///tmp/hp-etcd-…/client:0",)
    with etcd_cluster() as etcd:     # etcd.endpoints == ("https://127.0.0.1:23011", …), etcd.certificates
        etcd.members[1].kill()       # SIGKILL; start() brings the same member back with its data and ports
        etcd.members[2].pause()      # SIGSTOP: connected and silent, like a member behind a dead link

Everything lives in one directory under /tmp that goes with the context, and so do the processes. Members may be killed
and started from any thread. Ports are taken below the kernel's ephemeral range, so no outgoing connection can sit on a
dead member's port.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

READY_WITHIN = 30.0
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Certificates:
    """One authority, one certificate for the members and one for their clients: PEM files, ECDSA, a day long."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


@dataclass(slots=True)
class Member:
    """One etcd process with its directory. `arguments` are all but the binary, so `start` after `kill` is a restart."""

    name: str
    directory: Path
    client_url: str
    arguments: tuple[str, ...]
    certificates: Certificates | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """The client's view of `client_url`: etcd makes a socket file of a unix URL's host in its directory."""
        if self.client_url.startswith("unix://"):
            return f"unix://{self.socket_path}"
        return self.client_url

    @property
    def socket_path(self) -> Path:
        return self.directory / self.client_url.removeprefix("unix://")

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Returns at once; `wait_ready` waits. Does nothing while the member lives."""
        if self.alive:
            return
        for name in ("client:0", "peer:0"):  # etcd binds over no stale socket
            (self.directory / name).unlink(missing_ok=True)
        with (self.directory / "etcd.log").open("ab") as log:
            command = ["etcd", *self.arguments]
            self.process = subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        """As a crash would: no shutdown, nothing flushed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def wait_ready(self, within: float = READY_WITHIN) -> None:
        """Until the member answers its own health check, which needs a quorum. Fails with the end of its log."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if not self.alive:
                raise AssertionError(f"etcd {self.name} died:\n{self.log_tail()}")
            with contextlib.suppress(OSError):
                if b'"health":"true"' in self._http_get("/health"):
                    return
            time.sleep(0.02)
        raise AssertionError(f"etcd {self.name} was not ready in {within:.0f} s:\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        text = (self.directory / "etcd.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _end(self, signum: int) -> None:
        if self.process is None:
            return
        self.process.send_signal(signum)
        if signum != signal.SIGKILL:
            self.process.send_signal(signal.SIGCONT)
        self.process.wait(READY_WITHIN)

    def _http_get(self, path: str) -> bytes:
        with contextlib.ExitStack() as stack:
            if self.client_url.startswith("unix://"):
                connection = stack.enter_context(socket.socket(socket.AF_UNIX))
                connection.settimeout(2)
                connection.connect(os.fspath(self.socket_path))
            else:
                host, port = self.client_url.removeprefix("https://").rsplit(":", 1)
                connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=2))
                if self.certificates is not None:
                    context = ssl.create_default_context(cafile=self.certificates.ca)
                    context.load_cert_chain(self.certificates.client_cert, self.certificates.client_key)
                    connection = stack.enter_context(context.wrap_socket(connection, server_hostname=host))
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
            return answer


@dataclass(frozen=True, slots=True)
class Etcd:
    """A running cluster of one or three. `certificates` is None on unix sockets."""

    directory: Path
    members: tuple[Member, ...]
    certificates: Certificates | None = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.endpoint for member in self.members)

    def start(self) -> None:
        """All members that are down, until all answer."""
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait_ready()

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def etcdctl(self, *arguments: str, endpoints: Sequence[str] | None = None) -> str:
        """The cluster's own tool, for what the store under test does not do itself (compaction, snapshots, eyes)."""
        command = ["etcdctl", "--endpoints", ",".join(endpoints or self.endpoints), *arguments]
        if self.certificates is not None:
            certificates = self.certificates
            command += ["--cacert", os.fspath(certificates.ca), "--cert", os.fspath(certificates.client_cert)]
            command += ["--key", os.fspath(certificates.client_key)]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def close(self) -> None:
        for member in self.members:
            member.kill()


@contextlib.contextmanager
def etcd_member(*arguments: str) -> Iterator[Etcd]:
    """One member on unix sockets, no TCP port. `arguments` are added to etcd's command line."""
    with _directory() as directory:
        quick = ("--heartbeat-interval", "20", "--election-timeout", "200")  # alone, it elects itself after that time
        options = ("--advertise-client-urls", "unix://client:0", "--initial-advertise-peer-urls", "unix://peer:0")
        member = Member(
            "solo",
            directory,
            "unix://client:0",
            (
                *_common("solo", "unix://client:0", "unix://peer:0"),
                *options,
                *("--initial-cluster", "solo=unix://peer:0"),
                *quick,
                *arguments,
            ),
        )
        with _running(Etcd(directory, (member,))) as etcd:
            yield etcd


@contextlib.contextmanager
def etcd_cluster(*arguments: str, members: int = 3) -> Iterator[Etcd]:
    """Members that speak mutual TLS with clients and with one another, on loopback ports."""
    with _directory() as directory:
        certificates = make_certificates(directory / "tls")
        names = [f"m{number}" for number in range(members)]
        ports = _free_ports(2 * members)
        clients = {name: f"https://127.0.0.1:{ports[2 * at]}" for at, name in enumerate(names)}
        peers = {name: f"https://127.0.0.1:{ports[2 * at + 1]}" for at, name in enumerate(names)}
        initial = ",".join(f"{name}={peers[name]}" for name in names)
        made = []
        for name in names:
            (directory / name).mkdir()
            options = ("--advertise-client-urls", clients[name], "--initial-advertise-peer-urls", peers[name])
            made.append(
                Member(
                    name,
                    directory / name,
                    clients[name],
                    (
                        *_common(name, clients[name], peers[name]),
                        *options,
                        *("--initial-cluster", initial),
                        *_tls(certificates),
                        *arguments,
                    ),
                    certificates,
                )
            )
        with _running(Etcd(directory, tuple(made), certificates)) as etcd:
            yield etcd


def make_certificates(directory: Path) -> Certificates:
    """Made with the `openssl` command; the members' certificate is good for 127.0.0.1 and localhost."""
    directory.mkdir(mode=0o700)
    _openssl(directory, "req", "-x509", *_new_key("ca"), "-days", "1", "-subj", "/CN=homeport test CA")
    for name, usage in (("server", "serverAuth,clientAuth"), ("client", "clientAuth")):
        extensions = directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={usage}\n")
        _openssl(directory, "req", *_new_key(name, "csr"), "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", extensions.name)
        _openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
    return Certificates(
        directory / "ca.pem",
        directory / "server.pem",
        directory / "server.key",
        directory / "client.pem",
        directory / "client.key",
    )


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    """One member on unix sockets, new for each test."""
    with etcd_member() as running:
        yield running


@pytest.fixture
def etcd_three() -> Iterator[Etcd]:
    """Three members with mutual TLS, new for each test, which may kill them."""
    with etcd_cluster() as running:
        yield running


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    # Not pytest's tmp_path: a unix socket's path must stay under 108 bytes, however long a test's name is.
    directory = Path(tempfile.mkdtemp(prefix="hp-etcd-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def _running(etcd: Etcd) -> Iterator[Etcd]:
    try:
        etcd.start()
        yield etcd
    finally:
        etcd.close()


def _common(name: str, client_url: str, peer_url: str) -> tuple[str, ...]:
    listen = ("--listen-client-urls", client_url, "--listen-peer-urls", peer_url)
    return ("--name", name, "--data-dir", "data", *listen, "--logger", "zap", "--log-level", "warn")


def _tls(certificates: Certificates) -> tuple[str, ...]:
    ca, cert, key = map(os.fspath, (certificates.ca, certificates.server_cert, certificates.server_key))
    client = ("--client-cert-auth", "--trusted-ca-file", ca, "--cert-file", cert, "--key-file", key)
    peer = ("--peer-client-cert-auth", "--peer-trusted-ca-file", ca, "--peer-cert-file", cert, "--peer-key-file", key)
    return (*client, *peer)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        for port in random.sample(_PORTS, len(_PORTS)):
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise AssertionError("no free loopback ports")


def _new_key(name: str, suffix: str = "pem") -> tuple[str, ...]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    return (*curve, "-keyout", f"{name}.key", "-out", f"{name}.{suffix}")


def _openssl(directory: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
