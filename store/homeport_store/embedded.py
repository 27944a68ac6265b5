"""etcd as the agent's child: one member in `<data-dir>/etcd/`, on unix sockets, without any TCP port.

    <data-dir>/etcd/    0700
        client:0        where this node's agent and command line connect; etcd names a socket after its URL's host:port
        peer:0          nobody ever connects; without it etcd would open a TCP port
        lock            held by the living etcd itself, through an inherited descriptor
        data/  etcd.log

An agent that ends without `stop`, or is killed, leaves etcd running, and the next one adopts it. Whether one lives is
never guessed from a PID in a file: the kernel holds `lock` for exactly as long as it does, and tells who listens on
`client:0`. Whoever gets the lock may start one, so there are never two, however many agents try.
"""

import contextlib
import fcntl
import logging
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from homeport_api.errors import Invalid, NotFound, Unavailable
from homeport_store.etcd import EtcdStore

MAX_TXN_OPS = 512
QUOTA_BYTES = 1 << 30
LONGEST_SOCKET_PATH = 107
_CLIENT, _PEER = "client:0", "peer:0"
_STOP_WITHIN = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE, _GOOD_WHILE = 0.1, 10.0, 60.0
_LONGEST_LOG = 1 << 20

log = logging.getLogger(__name__)


def directory_of(data_dir: Path) -> Path:
    return data_dir.absolute() / "etcd"


def endpoint_of(data_dir: Path) -> str:
    """Raises Invalid when the socket's path is longer than the kernel's limit."""
    path = os.fsencode(directory_of(data_dir) / _CLIENT)
    if len(path) > LONGEST_SOCKET_PATH:
        room = LONGEST_SOCKET_PATH - (len(path) - len(os.fsencode(data_dir.absolute())))
        raise Invalid(
            f"--data-dir {data_dir}: etcd's socket in it would have a path of {len(path)} bytes, and the kernel takes "
            f"{LONGEST_SOCKET_PATH}; use a directory of at most {room} bytes"
        )
    return f"unix://{os.fsdecode(path)}"


class EmbeddedEtcd:
    """`start` it once, then connect to `endpoint`. Until `stop`, an etcd that dies is started again."""

    def __init__(self, data_dir: Path, binary: str = "etcd", ready_within: float = 30.0) -> None:
        self.endpoint = endpoint_of(data_dir)
        self._directory = directory_of(data_dir)
        self._binary = binary
        self._ready_within = ready_within
        self._process: _Process | None = None
        self._restarts = 0
        self._stop = -1  # an eventfd while it is started
        self._supervisor = threading.Thread(target=self._supervise, name="embedded etcd", daemon=True)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def adopted(self) -> bool:
        """Whether the present one was started by an agent before this."""
        return self._process is not None and self._process.child is None

    @property
    def restarts(self) -> int:
        """How often it died and was started again."""
        return self._restarts

    def start(self) -> None:
        """Starts etcd or adopts the living one, and waits until it answers. An adopted one that does not is replaced.
        Raises NotFound without an etcd binary, Unavailable when it does not come up, with the end of its log."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        self._process = self._launch_or_adopt()
        if not self._wait_ready(self._process) and self._process.child is None:
            log.warning("adopted etcd does not answer, replacing it pid=%d", self._process.pid)
            self._process.end(signal.SIGKILL)
            self._process = self._launch_or_adopt()
            self._wait_ready(self._process)
        if not self._process.ready:
            self._process.end(signal.SIGTERM)
            self._process = None
            raise Unavailable(f"etcd in {self._directory} did not come up; its log ends with:\n{self._log_tail()}")
        self._stop = os.eventfd(0)
        self._supervisor.start()

    def stop(self) -> None:
        """Ends etcd, adopted or not, and removes its sockets. Does nothing when it was not started."""
        if self._supervisor.is_alive():
            os.eventfd_write(self._stop, 1)
            self._supervisor.join()
        if self._process is not None:
            self._process.end(signal.SIGTERM)
            self._process = None
            with contextlib.suppress(BlockingIOError), self._lock():
                self._remove_sockets()

    def _launch_or_adopt(self) -> "_Process":
        deadline = time.monotonic() + self._ready_within
        while True:
            with contextlib.suppress(BlockingIOError), self._lock() as lock:
                return self._launch(lock)
            if (process := self._adopt()) is not None:
                return process
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{self._directory}/lock is held by an etcd that does not listen, or runs in another PID "
                    "namespace: end it, then start the agent again"
                )
            time.sleep(0.05)

    def _launch(self, lock: int) -> "_Process":
        binary = shutil.which(self._binary)
        if binary is None:
            raise NotFound(
                f"there is no {self._binary} in PATH: install it (Debian: apt-get install etcd-server), "
                "or name a cluster with --etcd-endpoints"
            )
        self._remove_sockets()
        log_path = self._directory / "etcd.log"
        if log_path.exists() and log_path.stat().st_size > _LONGEST_LOG:
            log_path.replace(log_path.with_suffix(".log.1"))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        # To a file and not to our stderr: when that is a pipe and we die, etcd would die of the next line it writes.
        with open(log_path, "ab", opener=_private) as output:
            child = subprocess.Popen(
                [binary, *_arguments()],
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock,),
                start_new_session=True,
                umask=0o077,
            )
        log.info("etcd started pid=%d directory=%s", child.pid, self._directory)
        return _Process(child.pid, child)

    def _adopt(self) -> "_Process | None":
        """The etcd that listens. None while nobody does, or when it ended meanwhile."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(os.fspath(self._directory / _CLIENT))
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid = struct.unpack("3i", credentials)[0]
            if pid > 0:  # 0: of another PID namespace
                process = _Process(pid, None)
                log.info("etcd adopted pid=%d directory=%s", pid, self._directory)
                return process
        return None

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int]:
        """The descriptor, for etcd to inherit. Raises BlockingIOError while an etcd lives."""
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield lock
        finally:
            os.close(lock)

    def _remove_sockets(self) -> None:
        """Only with the lock: etcd does not bind over a stale socket, and would lose a living one."""
        for name in (_CLIENT, _PEER):
            (self._directory / name).unlink(missing_ok=True)

    def _wait_ready(self, process: "_Process") -> bool:
        store = EtcdStore([self.endpoint], timeout=0.5)
        deadline = time.monotonic() + self._ready_within
        while not process.ready and process.alive and time.monotonic() < deadline:
            with contextlib.suppress(Unavailable):
                store.get("health")
                process.ready = True
        store.close()
        return process.ready

    def _supervise(self) -> None:
        pause = next_pause = _FIRST_PAUSE
        while True:
            process = self._process
            watched = [self._stop] if process is None else [self._stop, process.pidfd]
            began = time.monotonic()
            readable, _, _ = select.select(watched, [], [], pause if process is None else None)
            if self._stop in readable:
                os.close(self._stop)
                return
            if process is not None:
                status = process.reap()
                log.error("etcd died pid=%d status=%s log=%s", process.pid, status, self._log_tail(3))
                self._process = None
                if time.monotonic() - began > _GOOD_WHILE:
                    next_pause = _FIRST_PAUSE
                pause, next_pause = next_pause, min(next_pause * 2, _LONGEST_PAUSE)
                continue
            try:
                self._process = self._launch_or_adopt()
                self._restarts += 1
            except (NotFound, Unavailable, OSError):
                log.exception("etcd could not be started again directory=%s", self._directory)
                pause, next_pause = next_pause, min(next_pause * 2, _LONGEST_PAUSE)

    def _log_tail(self, lines: int = 10) -> str:
        with contextlib.suppress(OSError):
            return "\n".join((self._directory / "etcd.log").read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"


class _Process:
    """An etcd, our child or not, held by a descriptor: no signal ever goes to another process of the same PID."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.child = child
        self.ready = False
        self.pidfd = os.pidfd_open(pid)

    @property
    def alive(self) -> bool:
        return not select.select([self.pidfd], [], [], 0)[0]

    def end(self, signum: int) -> None:
        """With SIGKILL for one that does not heed it."""
        for attempt in (signum, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, attempt)
            if select.select([self.pidfd], [], [], _STOP_WITHIN)[0]:
                break
        self.reap()

    def reap(self) -> int | None:
        """The exit status of a child that has ended; None for an adopted one."""
        os.close(self.pidfd)
        return None if self.child is None else self.child.wait()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _arguments() -> tuple[str, ...]:
    client, peer = f"unix://{_CLIENT}", f"unix://{_PEER}"
    return (
        *("--name", "homeport", "--data-dir", "data", "--initial-cluster", f"homeport={peer}"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        # Alone, a member elects itself after the election timeout: that is how long a restart takes.
        *("--heartbeat-interval", "20", "--election-timeout", "200"),
        *("--max-txn-ops", str(MAX_TXN_OPS), "--quota-backend-bytes", str(QUOTA_BYTES)),
        *("--auto-compaction-mode", "periodic", "--auto-compaction-retention", "10m", "--snapshot-count", "10000"),
        *("--logger", "zap", "--log-level", "warn"),
    )
