"""A long transfer under a thousand changes of policy, of which none forbids it; then one that does."""

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from homeport_dataplane.netns import Namespace
from homeport_dataplane.nft import Nft
from homeport_policy import guards

from .lan import Guest, Lan, wait_until
from .policies import PORT, Policies, allow, connect, denied, policy, server

UPDATES = 1000
SUBNET = "192.0.2.0/24"
CHUNK, PAUSE = 4096, 0.005
_TCP_INFO = 11
_TOTAL_RETRANS, _DSACK_DUPS = 100, 216  # include/uapi/linux/tcp.h, struct tcp_info


@pytest.fixture
def policies(lan: Lan) -> Iterator[Policies]:
    made = Policies(lan)
    yield made
    made.clear()


@dataclass(frozen=True, slots=True)
class Leads:
    """Where the ports of the two ends lead in node a's table; read without starting a program."""

    nft: Nft
    client: str
    host: str

    def read(self) -> tuple[object, ...]:
        return self.nft.map_of("egress").get(self.client), self.nft.map_of("ingress").get(self.host)


@contextlib.contextmanager
def leads(lan: Lan) -> Iterator[Leads]:
    with Namespace.open_named(lan.a.switch.name) as switch, contextlib.closing(Nft(switch)) as nft:
        yield Leads(nft, lan["blue1"].port, lan["blue2"].port)


@dataclass(slots=True)
class Transfer:
    """Bytes from one guest to another in a steady stream, and back their count, so that both directions are in use."""

    sending: socket.socket
    receiving: socket.socket
    sent: int = 0
    received: int = 0
    last: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Transfer":
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in (self.sending, self.receiving):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while not self._ended.wait(PAUSE):
            with contextlib.suppress(TimeoutError, OSError):
                self.sent += self.sending.send(b"x" * CHUNK)
                self.sending.recv(4096, socket.MSG_DONTWAIT)

    def _receive(self) -> None:
        self.receiving.settimeout(0.2)
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                if data := self.receiving.recv(1 << 16):
                    self.last = time.monotonic()
                    self.received += len(data)
                    self.receiving.send(b".")

    @property
    def lost(self) -> int:
        """Segments that had to be sent again, but for those that had arrived and were only late (RFC 3708)."""
        found = 0
        for each in (self.sending, self.receiving):
            info = each.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
            again, needless = (struct.unpack_from("=I", info, at)[0] for at in (_TOTAL_RETRANS, _DSACK_DUPS))
            print(f"TCP sent {again} segments again, {needless} of them needlessly")
            found += max(again - needless, 0)
        return found


@contextlib.contextmanager
def patient(*guests: Guest) -> Iterator[None]:
    """Their TCP waits long before it takes a segment for lost: in this kernel an answer may be late for no reason of
    the network's."""
    for guest in guests:
        guest.namespace.set_sysctl("ipv4/tcp_early_retrans", 0)
        guest.namespace.ip(f"route change {SUBNET} dev eth0 scope link src {guest.address} rto_min 20s")
    yield
    for guest in guests:
        guest.namespace.ip(f"route change {SUBNET} dev eth0 proto kernel scope link src {guest.address}")
        guest.namespace.set_sysctl("ipv4/tcp_early_retrans", 3)


@contextlib.contextmanager
def transfer(lan: Lan, policies: Policies) -> Iterator[Transfer]:
    client, host = lan["blue1"], lan["blue2"]
    policies.put(policy("db", allow("blue2", "blue1", port=PORT)), host)
    with patient(client, host), server(host) as listening:
        opened = connect(client, host.address)
        assert opened is not None
        with opened, listening.accept()[0] as accepted, Transfer(opened, accepted) as made:
            wait_until(lambda: made.received > 10 * CHUNK, "the transfer runs")
            yield made


def drops(lan: Lan) -> dict[str, int]:
    """Packets that node a's table dropped, by counter, but for those from and to ports that are closed."""
    base = set(guards.base(tracking=True).counters) - {"muted"}
    return {name: count for name, count in lan.drops(lan.a).items() if name in base} | {"denied": denied(lan.a)}


def test_a_thousand_changes_do_not_disturb_a_transfer_that_stays_allowed(lan: Lan, policies: Policies) -> None:
    """Peers, ports and whole policies come and go around the one rule that lets it pass, so that each change is one of
    the chains and sets that its packets go through, and half of them allow less than before."""
    changes = itertools.cycle(
        [
            lambda: policies.put(policy("db", allow("blue2", "blue1", "blue3", port=PORT))),
            lambda: policies.put(policy("more", allow("blue2", "blue1"))),
            lambda: policies.put(policy("db", allow("blue2", "blue1", port=PORT))),
            lambda: policies.drop("more"),
            lambda: policies.put(policy("db", allow("blue2", "blue1", "office1"))),
            lambda: policies.put(policy("out", {**allow("blue1"), "policyTypes": ["Egress"], "egress": [{}]})),
            lambda: policies.put(policy("db", allow("blue2", "blue1", port=PORT))),
            lambda: policies.drop("out"),
        ]
    )
    with transfer(lan, policies) as stream, leads(lan) as leading:
        before, received, began = drops(lan), stream.received, time.monotonic()
        for change in itertools.islice(changes, UPDATES):
            was = leading.read()
            change()
            wait_until(lambda was=was: leading.read() != was, "the change is in the kernel", say=False)
        took = time.monotonic() - began
        print(f"{UPDATES} changes in {took:.0f} s, {stream.received - received} bytes meanwhile")
        received = stream.received
        wait_until(lambda: stream.received > received + CHUNK, "the transfer goes on")
        assert drops(lan) == before
        assert stream.lost == 0


def test_a_transfer_that_is_allowed_no_longer_stops_at_the_change(lan: Lan, policies: Policies) -> None:
    """How soon is printed; in this kernel everything takes many times as long as on a node."""
    with transfer(lan, policies) as stream:
        policies.put(policy("db", allow("blue2", port=PORT)))
        changed = time.monotonic()
        wait_until(lambda: time.monotonic() > stream.last + 2, "nothing arrives any more")
        print(f"the last bytes came {1000 * (stream.last - changed):.0f} ms after the change was stored")
        received, sent = stream.received, stream.sent
        time.sleep(1)
        assert stream.received == received
        assert stream.sent >= sent
        assert denied(lan.a) > 0
