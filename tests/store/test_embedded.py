"""etcd as a child that outlives its agent: started, adopted, restarted, and never twice."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from homeport_api.errors import Invalid, NotFound, Unavailable
from homeport_store import embedded
from homeport_store.connect import StoreOptions, connect
from homeport_store.embedded import EmbeddedEtcd
from homeport_store.protocol import Put, Unchanged
from tests.store.watching import wait_until

AGENT = """
import sys, time
from pathlib import Path
from homeport_store.embedded import EmbeddedEtcd
etcd = EmbeddedEtcd(Path(sys.argv[1]))
etcd.start()
print(etcd.pid, flush=True)
time.sleep(600)
"""

Start = Callable[..., EmbeddedEtcd]


@pytest.fixture
def start(short_dir: Path) -> Iterator[Start]:
    started: list[EmbeddedEtcd] = []

    def start(**options: float) -> EmbeddedEtcd:
        started.append(EmbeddedEtcd(short_dir, **options))  # type: ignore[arg-type]
        started[-1].start()
        return started[-1]

    yield start
    for etcd in started:
        etcd.stop()


def write(data_dir: Path, key: str, value: bytes = b"1") -> None:
    store = connect(StoreOptions(data_dir))
    store.txn([], [Put(key, value)])
    store.close()


def read(data_dir: Path, key: str) -> bytes | None:
    store = connect(StoreOptions(data_dir), timeout=30)
    record = store.get(key)
    store.close()
    return record.value if record else None


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def listening_tcp(pid: int) -> list[str]:
    """The process's sockets among the TCP sockets of its namespace."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = str(descriptor.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    return [line for line in lines if line.split()[9] in inodes]


@pytest.mark.host
class TestLife:
    def test_private_and_without_a_tcp_port(self, start: Start, short_dir: Path) -> None:
        etcd = start()
        assert etcd.pid is not None and not etcd.adopted
        directory = short_dir / "etcd"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert etcd.endpoint == f"unix://{directory}/client:0"
        assert {path.name for path in directory.iterdir() if path.is_socket()} == {"client:0", "peer:0"}
        assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in directory.rglob("*"))
        assert listening_tcp(etcd.pid) == []

    def test_it_takes_larger_transactions(self, start: Start, short_dir: Path) -> None:
        start()
        store = connect(StoreOptions(short_dir))
        limit = embedded.MAX_TXN_OPS
        assert store.txn(
            [Unchanged(f"/{n}", 0) for n in range(limit)], [Put(f"/{n}", b"") for n in range(limit)]
        ).applied
        with pytest.raises(Invalid, match=str(limit + 1)):
            store.txn([], [Put(f"/{n}", b"") for n in range(limit + 1)])
        store.close()

    def test_stopped_it_leaves_nothing_but_its_data(self, start: Start, short_dir: Path) -> None:
        etcd = start()
        pid = etcd.pid
        assert pid is not None
        write(short_dir, "/a")
        etcd.stop()
        etcd.stop()
        assert not is_alive(pid) and etcd.pid is None
        assert {path.name for path in (short_dir / "etcd").iterdir()} == {"data", "etcd.log", "lock"}
        start()
        assert read(short_dir, "/a") == b"1"

    def test_dead_it_is_started_again(self, start: Start, short_dir: Path) -> None:
        etcd = start()
        for number in range(3):
            write(short_dir, "/a", b"%d" % number)
            pid = etcd.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            assert read(short_dir, "/a") == b"%d" % number
            wait_until(lambda pid=pid: etcd.pid not in (None, pid))  # type: ignore[misc]
        assert etcd.restarts == 3

    def test_the_environment_does_not_change_it(
        self, start: Start, short_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ETCD_MAX_TXN_OPS", "1")
        monkeypatch.setenv("ETCD_DATA_DIR", "/nowhere")
        start()
        write(short_dir, "/a")
        assert (short_dir / "etcd/data").is_dir()


@pytest.mark.host
class TestAdoption:
    @pytest.fixture
    def orphan(self, short_dir: Path) -> Iterator[int]:
        """The PID of an etcd whose agent was killed."""
        agent = subprocess.Popen([sys.executable, "-c", AGENT, short_dir], stdout=subprocess.PIPE, text=True)
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        agent.kill()
        agent.wait()
        agent.stdout.close()
        yield pid
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)

    def test_the_next_agent_adopts_it(self, orphan: int, start: Start, short_dir: Path) -> None:
        assert is_alive(orphan)
        write(short_dir, "/a")
        etcd = start()
        assert (etcd.pid, etcd.adopted, etcd.restarts) == (orphan, True, 0)
        assert read(short_dir, "/a") == b"1"

    def test_it_is_stopped_like_one_s_own(self, orphan: int, start: Start) -> None:
        start().stop()
        assert not is_alive(orphan)

    def test_dead_it_is_started_again(self, orphan: int, start: Start, short_dir: Path) -> None:
        etcd = start()
        write(short_dir, "/a")
        os.kill(orphan, signal.SIGKILL)
        assert read(short_dir, "/a") == b"1"
        assert etcd.pid != orphan and not etcd.adopted

    def test_one_that_hangs_is_replaced(self, orphan: int, start: Start, short_dir: Path) -> None:
        write(short_dir, "/a")
        os.kill(orphan, signal.SIGSTOP)
        etcd = start(ready_within=3)
        assert not is_alive(orphan) and etcd.pid != orphan
        assert read(short_dir, "/a") == b"1"

    def test_one_that_died_before_left_its_sockets(self, orphan: int, start: Start, short_dir: Path) -> None:
        os.kill(orphan, signal.SIGKILL)
        wait_until(lambda: not is_alive(orphan))
        assert (short_dir / "etcd/client:0").is_socket()
        assert not start().adopted

    def test_of_many_agents_one_starts_it(self, short_dir: Path) -> None:
        agents = [EmbeddedEtcd(short_dir) for _ in range(8)]
        with ThreadPoolExecutor(len(agents)) as pool:
            list(pool.map(EmbeddedEtcd.start, agents))
        assert len({agent.pid for agent in agents}) == 1
        assert [agent.adopted for agent in agents].count(False) == 1
        pid = agents[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: len({agent.pid for agent in agents} - {None, pid}) == 1 and None not in {a.pid for a in agents}
        )
        for agent in reversed(agents):
            agent.stop()


class TestRefusals:
    def test_a_path_too_long_for_a_socket(self) -> None:
        fitting = embedded.LONGEST_SOCKET_PATH - len("/etcd/client:0")
        longest = Path("/" + "x" * (fitting - 1))
        assert embedded.endpoint_of(longest) == f"unix://{longest}/etcd/client:0"
        with pytest.raises(Invalid, match=rf"takes 107; use a directory of at most {fitting} bytes"):
            EmbeddedEtcd(Path(f"{longest}x"))
        with pytest.raises(Invalid, match="at most"):
            EmbeddedEtcd(Path("/" + "ä" * (fitting // 2 + 1)))

    def test_without_etcd(self, short_dir: Path) -> None:
        with pytest.raises(NotFound, match="apt-get install etcd-server"):
            EmbeddedEtcd(short_dir, binary="no-such-etcd").start()

    @pytest.mark.host
    def test_one_that_cannot_come_up_says_why(self, short_dir: Path) -> None:
        (short_dir / "etcd").mkdir()
        (short_dir / "etcd/data").write_text("not a directory")
        etcd = EmbeddedEtcd(short_dir)
        with pytest.raises(Unavailable, match=r"(?s)did not come up.*data"):
            etcd.start()
        assert etcd.pid is None
        etcd.stop()
