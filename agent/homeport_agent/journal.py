"""The node's own memory of its attachments: what a DEL needs when the store is away, and what a restored store lacks.

An append-only file of JSON lines in the data directory. Three kinds of entries:

    attached   the ADD is whole and about to be answered        not synced: a crash of the machine takes the links too
    ended      the port is gone; the store does not know it     synced before the DEL is answered
    settled    the store knows; the attachment is history       not synced: a repeat settles again, changing nothing

An ADD without its `attached` entry never answered, so at start its remains are taken down and its holder ended. The
file is rewritten at start, and when history outweighs what lives. A torn last line (power loss) is dropped: it never
was answered. Not here: who owns an address. That is the store's word alone.
"""

import errno
import json
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from homeport_api import wire
from homeport_api.attachment import Attachment, AttachmentKey
from homeport_api.errors import HomeportError, Invalid, Unavailable

log = logging.getLogger(__name__)

COMPACT_AFTER = 2048
HEADER = b'{"op": "begin"}\n'
"""A file without this line is not empty for want of attachments: it was emptied, or begun anew and never completed."""


class JournalUnwritable(Unavailable):
    """The node's journal cannot be written (disk full, read-only): the one reason for a DEL to fail."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One attachment as this node knows it. `ended` is the time its DEL was accepted (seconds since the epoch), None
    while it lives. `netns_inode` tells whether the path still names the namespace that was attached, `default_route`
    whether its first NIC is its way out: what it takes to make a lost port again."""

    attachment: Attachment
    netns_inode: int = 0
    ended: float | None = None
    reason: str = ""
    default_route: bool = True


class Journal:
    """Thread-safe. Opening creates the file 0600 in `directory`; the entries that live are in memory from then on.
    `begun` is True when there was no journal yet, or it was lost, and until `complete`: it then says nothing about what
    is attached, in this process and the next."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "attachments.jsonl"
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()  # taken inside _lock, never around it
        self._written = 0
        self._synced = 0
        self._entries: dict[AttachmentKey, Entry] = {}
        self._history = 0
        self.begun = True
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._load()
            self._file = self._rewrite()
        except OSError as error:
            raise JournalUnwritable(
                f"{self._path}: {error.strerror}: the data directory must be writable to its agent"
            ) from error

    def live(self) -> tuple[Entry, ...]:
        """What is attached here now."""
        with self._lock:
            return tuple(entry for entry in self._entries.values() if entry.ended is None)

    def pending(self) -> tuple[Entry, ...]:
        """What ended here and the store does not know yet, oldest first."""
        with self._lock:
            ended = [entry for entry in self._entries.values() if entry.ended is not None]
        return tuple(sorted(ended, key=lambda entry: entry.ended or 0.0))

    def find(self, key: AttachmentKey) -> Entry | None:
        with self._lock:
            return self._entries.get(key)

    def attached(self, attachment: Attachment, netns_inode: int, *, default_route: bool = True) -> None:
        """A repeat replaces the entry."""
        self._append(Entry(attachment, netns_inode, default_route=default_route), sync=False)

    def ended(self, attachment: Attachment, now: float, reason: str) -> Entry:
        """On disk when this returns. A repeat keeps the first time and reason."""
        known = self.find(attachment.key)
        if known is not None and known.ended is not None:
            return known
        entry = Entry(attachment, known.netns_inode if known else 0, now, reason)
        self._append(entry, sync=True)
        return entry

    def settled(self, key: AttachmentKey) -> None:
        """Forgets the attachment. Nothing happens where it is unknown."""
        entry = self.find(key)
        if entry is not None:
            self._write(_line("settled", entry), key, None)

    def complete(self) -> None:
        """What it lacked, if it was begun, is in it. A repeat changes nothing."""
        if not self.begun:
            return
        try:
            with self._lock:
                self._put(HEADER)
                self.begun = False
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from error

    def disown(self, node: str, boot_id: str) -> tuple[AttachmentKey, ...]:
        """Forgets what another node attached: the data directory was copied from it, or this node was renamed. Its
        records in the store are that node's to end. Raises Invalid when those links can still be here."""
        with self._lock:
            foreign = [entry for key, entry in self._entries.items() if key.node != node]
        for entry in foreign:
            if entry.ended is None and entry.attachment.boot_id == boot_id:
                raise Invalid(
                    f"{self._path}: has {entry.attachment.key} attached in this boot, and this agent is node {node}: "
                    f"start it with --node {entry.attachment.key.node} and detach its guests before the node is renamed"
                )
        for entry in foreign:
            self.settled(entry.attachment.key)
        return tuple(entry.attachment.key for entry in foreign)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _append(self, entry: Entry, *, sync: bool) -> None:
        key, known = entry.attachment.key, self.find(entry.attachment.key)
        mine = self._write(_line("attached" if entry.ended is None else "ended", entry), key, entry)
        if not sync:
            return
        try:
            self._sync(mine)
        except (OSError, ValueError) as error:
            with self._lock:
                if self._entries.get(key) is entry:  # the repeat must write and sync again
                    self._entries.pop(key)
                    self._entries |= {} if known is None else {key: known}
            raise self._unwritable(error) from error

    def _write(self, data: bytes, key: AttachmentKey, entry: Entry | None) -> int:
        """The line's number. Line and memory change together, or a rewrite beside it would lose the line."""
        try:
            with self._lock:
                self._history += 1
                if self._history > COMPACT_AFTER + 2 * len(self._entries):
                    with self._sync_lock:
                        fresh = self._rewrite()
                        self._file.close()
                        self._file = fresh
                self._put(data)
                if entry is None:
                    self._entries.pop(key, None)
                else:
                    self._entries[key] = entry
                self._written += 1
                return self._written
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> JournalUnwritable:
        return JournalUnwritable(f"{self._path}: {error}: free some space, or make it writable")

    def _put(self, data: bytes) -> None:
        """All of it or nothing: half a line, left by a full disk, would swallow the next one."""
        size = self._file.tell()
        try:
            _write_whole(self._file, data)
        except OSError:
            os.ftruncate(self._file.fileno(), size)
            self._file.seek(size)
            raise

    def _sync(self, mine: int) -> None:
        """One fdatasync serves every line written before it, so that many DELs at once share the disk's latency."""
        with self._sync_lock:
            if self._synced >= mine:
                return
            upto = self._written
            os.fdatasync(self._file.fileno())
            self._synced = upto

    def _load(self) -> None:
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for number, data in enumerate(lines, start=1):
            if not data:
                continue
            if data == HEADER.strip():
                self.begun = False
                continue
            try:
                line = json.loads(data)
                operation = line["op"]
                attachment = wire.ATTACHMENT.loads(json.dumps(line["attachment"]).encode())
            except (ValueError, KeyError, TypeError, HomeportError):
                log.warning("journal line dropped path=%s line=%d torn_or_foreign=%r", self._path, number, data[:80])
                continue
            if operation == "settled":
                self._entries.pop(attachment.key, None)
            else:
                ended = line.get("time", 0.0) if operation == "ended" else None
                self._entries[attachment.key] = Entry(
                    attachment,
                    line.get("netnsInode", 0),
                    ended,
                    line.get("reason", ""),
                    line.get("defaultRoute", True),
                )

    def _rewrite(self) -> BinaryIO:
        """A fresh file with what lives, renamed over the old one; the handle to append to. Where the fresh one cannot
        be written whole, the old one stays."""
        entries = self._entries.values()
        data = b"" if self.begun else HEADER
        data += b"".join(_line("attached" if e.ended is None else "ended", e) for e in entries)
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        file: BinaryIO = os.fdopen(descriptor, "wb", buffering=0)
        try:
            _write_whole(file, data)
            os.fsync(file.fileno())
            fresh.rename(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError:
            file.close()
            fresh.unlink(missing_ok=True)
            raise
        self._history = 0
        return file


def _write_whole(file: BinaryIO, data: bytes) -> None:
    """A full disk takes a part and says so in the count alone."""
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _line(operation: str, entry: Entry) -> bytes:
    head: dict[str, object] = {"op": operation, "netnsInode": entry.netns_inode, "defaultRoute": entry.default_route}
    if entry.ended is not None:
        head |= {"time": entry.ended, "reason": entry.reason}
    return json.dumps(head).encode()[:-1] + b', "attachment": ' + wire.ATTACHMENT.dumps(entry.attachment) + b"}\n"
