"""Frames over real unix sockets, with descriptors, cut short, and silent."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport_api.errors import BadInput, Unavailable
from homeport_cni.frames import MAX_PAYLOAD, Frame, Kind, encode
from homeport_cni.sockets import MAX_DESCRIPTORS, connect, read_frame, send_frame

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir() if entry.exists()}


def test_a_large_frame_arrives_whole_with_its_descriptor(pair: Pair) -> None:
    frame = Frame(Kind.CNI_REQUEST, os.urandom(3_000_000))
    with Path("/proc/self/ns/net").open() as namespace:
        sender = threading.Thread(target=send_frame, args=(pair[0], frame, (namespace.fileno(),)))
        sender.start()
        received = read_frame(pair[1])
        sender.join()
        assert received is not None
        with received:
            assert received.frame == frame
            assert os.fstat(received.descriptors[0]).st_ino == os.fstat(namespace.fileno()).st_ino
            assert not os.get_inheritable(received.descriptors[0])


def test_descriptors_not_taken_are_closed(pair: Pair) -> None:
    before = open_descriptors()
    with Path(os.devnull).open() as null:
        send_frame(pair[0], Frame(Kind.JSON, b"{}"), (null.fileno(), null.fileno()))
    received = read_frame(pair[1])
    assert received is not None
    with received:
        kept = received.take()
        assert kept is not None
    assert open_descriptors() - before == {str(kept)}
    os.close(kept)
    assert received.take() is None


def test_too_many_descriptors_are_refused_and_closed(pair: Pair) -> None:
    before = open_descriptors()
    with Path(os.devnull).open() as null:
        send_frame(pair[0], Frame(Kind.JSON, b"{}"), (null.fileno(),) * (MAX_DESCRIPTORS + 1))
    with pytest.raises(BadInput, match="descriptors"):
        read_frame(pair[1])
    assert open_descriptors() == before


def test_a_connection_closed_before_a_frame_is_no_error(pair: Pair) -> None:
    pair[0].close()
    assert read_frame(pair[1]) is None


@pytest.mark.parametrize("length", [1, 4, 5, 9])
def test_a_frame_cut_short_is_refused(pair: Pair, length: int) -> None:
    pair[0].sendall(encode(Frame(Kind.JSON, b"{    }"))[:length])
    pair[0].close()
    with pytest.raises(BadInput, match="the connection ended"):
        read_frame(pair[1])


def test_a_frame_too_long_is_refused_at_its_header(pair: Pair) -> None:
    pair[0].sendall((MAX_PAYLOAD + 2).to_bytes(4, "big") + b"J")
    with pytest.raises(BadInput, match="announces"):
        read_frame(pair[1])


def test_a_peer_that_dribbles_is_given_up_at_the_deadline(pair: Pair) -> None:
    stop = threading.Event()

    def dribble() -> None:
        for byte in encode(Frame(Kind.JSON, bytes(50))):
            pair[0].send(bytes((byte,)))
            if stop.wait(0.02):
                return

    peer = threading.Thread(target=dribble)
    peer.start()
    with pytest.raises(Unavailable, match="timed out"):
        read_frame(pair[1], timeout=0.2)
    stop.set()
    peer.join()


def test_a_peer_that_does_not_read_is_given_up(pair: Pair) -> None:
    with pytest.raises(Unavailable, match="does not read"):
        send_frame(pair[0], Frame(Kind.JSON, bytes(4_000_000)), timeout=0.2)


def test_a_peer_that_is_gone_is_unavailable_and_no_signal(pair: Pair) -> None:
    pair[1].close()
    with pytest.raises(Unavailable, match="Broken pipe"):
        send_frame(pair[0], Frame(Kind.JSON, b"{}"))


def test_nobody_listening_is_unavailable(run_dir: Path) -> None:
    with pytest.raises(Unavailable, match=r"agent\.sock: No such file"):
        connect(str(run_dir / "agent.sock"))
