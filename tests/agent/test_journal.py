"""The node's own memory: what survives a crash, a torn line, a full disk."""

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from homeport_agent.journal import COMPACT_AFTER, Journal, JournalUnwritable
from homeport_api.addresses import MacAddress
from homeport_api.attachment import Attachment, AttachmentKey, Nic, Source
from homeport_api.interface import InterfaceKey

NIC = Nic(InterfaceKey("shop", "web-eth0"), "uid-1", 3, "blue", "eth0", "hp1", mac=MacAddress("02:00:00:00:00:01"))


def attachment(container: str) -> Attachment:
    key = AttachmentKey("node-1", "homeport", "blue", container, "eth0")
    return Attachment(key, Source.CNI, "boot-1", (NIC,), "/run/netns/x", 100.0)


def lines(path: Path) -> list[bytes]:
    return (path / "attachments.jsonl").read_bytes().splitlines()


def test_entries_survive_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.attached(attachment("a"), 7)
    journal.attached(attachment("b"), 8)
    journal.ended(attachment("b"), 200.0, "DEL")
    journal.attached(attachment("c"), 9)
    journal.ended(attachment("c"), 150.0, "DEL")
    journal.settled(attachment("c").key)
    again = Journal(tmp_path)
    assert [(entry.attachment, entry.netns_inode) for entry in again.live()] == [(attachment("a"), 7)]
    assert [(entry.attachment.key.container_id, entry.ended, entry.reason) for entry in again.pending()] == [
        ("b", 200.0, "DEL")
    ]


def test_pending_is_oldest_first_and_the_first_end_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.ended(attachment("late"), 300.0, "DEL")
    journal.ended(attachment("early"), 200.0, "DEL")
    journal.ended(attachment("early"), 999.0, "GC")
    assert [(e.attachment.key.container_id, e.ended, e.reason) for e in journal.pending()] == [
        ("early", 200.0, "DEL"),
        ("late", 300.0, "DEL"),
    ]


def test_an_add_after_an_end_lives_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.ended(attachment("a"), 200.0, "DEL")
    journal.attached(attachment("a"), 1)
    assert [entry.ended for entry in Journal(tmp_path).live()] == [None]


@pytest.mark.parametrize("torn", [b'{"op": "attached", "attac', b"\x00\x00\x00", b"[]", b'{"op": "attached"}'])
def test_a_torn_last_line_costs_only_itself(tmp_path: Path, torn: bytes) -> None:
    Journal(tmp_path).attached(attachment("a"), 1)
    with (tmp_path / "attachments.jsonl").open("ab") as file:
        file.write(torn)
    assert [entry.attachment for entry in Journal(tmp_path).live()] == [attachment("a")]


def test_history_is_dropped_when_it_outweighs_what_lives(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.attached(attachment("kept"), 1)
    for _ in range(COMPACT_AFTER):
        journal.attached(attachment("x"), 2)
        journal.settled(attachment("x").key)
    assert len(lines(tmp_path)) < 2 * COMPACT_AFTER
    assert [entry.attachment for entry in Journal(tmp_path).live()] == [attachment("kept")]


def test_settling_the_unknown_writes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    before = lines(tmp_path)
    journal.settled(attachment("never").key)
    assert lines(tmp_path) == before


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """As on a full disk, a write takes what fits, and the next one is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_rewrite_without_room_for_its_last_line_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for container in ("a", "b"):
        journal.attached(attachment(container), 1)
    path = tmp_path / "attachments.jsonl"
    before = path.read_bytes()
    with no_file_over(len(before) - 10), pytest.raises(JournalUnwritable, match="No space left"):
        Journal(tmp_path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    Journal(tmp_path).attached(attachment("c"), 1)
    assert [entry.attachment.key.container_id for entry in Journal(tmp_path).live()] == ["a", "b", "c"]


def test_only_root_may_read_it(tmp_path: Path) -> None:
    Journal(tmp_path / "made")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "made" / "attachments.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_directory_that_cannot_be_made_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalUnwritable, match="must be writable"):
        Journal(tmp_path / "file" / "data")


def test_a_closed_journal_refuses_to_lose_an_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    with pytest.raises(JournalUnwritable):
        journal.ended(attachment("a"), 1.0, "DEL")
    assert journal.pending() == ()


def test_an_end_that_is_on_disk_outlives_a_rewrite_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rewrite waits for the disk with everybody else, and comes before the one who wrote goes on."""
    journal = Journal(tmp_path)
    journal.attached(attachment("a"), 1)
    for _ in range(COMPACT_AFTER + 1):
        journal.attached(attachment("b"), 1)
    at_disk, go_on, sync = threading.Event(), threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        at_disk.set()
        go_on.wait(10)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    ending = threading.Thread(target=journal.ended, args=(attachment("a"), 200.0, "DEL"))
    rewriting = threading.Thread(target=lambda: [journal.attached(attachment("b"), 1) for _ in range(9)])
    ending.start()
    at_disk.wait(10)
    rewriting.start()
    rewriting.join(0.2)
    go_on.set()
    ending.join()
    rewriting.join()
    assert len(lines(tmp_path)) < 20
    assert [entry.attachment.key.container_id for entry in Journal(tmp_path).pending()] == ["a"]


@pytest.mark.parametrize("attached", [True, False])
def test_an_end_that_the_disk_refused_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attached: bool
) -> None:
    journal = Journal(tmp_path)
    if attached:
        journal.attached(attachment("a"), 1)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        for _ in range(2):
            with pytest.raises(JournalUnwritable, match="Input/output error"):
                journal.ended(attachment("a"), 200.0, "DEL")
        assert (len(journal.live()), journal.pending()) == (int(attached), ())
    assert journal.ended(attachment("a"), 200.0, "DEL").ended == 200.0


def test_a_lost_or_emptied_journal_says_so_until_it_is_complete(tmp_path: Path) -> None:
    assert Journal(tmp_path).begun
    journal = Journal(tmp_path)
    assert journal.begun, "nobody has looked yet"
    journal.attached(attachment("a"), 1)
    journal.complete()
    assert not journal.begun
    again = Journal(tmp_path)
    assert not again.begun
    assert [entry.attachment for entry in again.live()] == [attachment("a")]
    (tmp_path / "attachments.jsonl").write_bytes(b"")
    assert Journal(tmp_path).begun


def test_a_journal_that_is_not_complete_stays_so_through_a_rewrite(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(COMPACT_AFTER + 3):
        journal.attached(attachment("a"), 1)
    assert len(lines(tmp_path)) < 9
    assert Journal(tmp_path).begun
