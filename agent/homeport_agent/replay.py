"""After a restore: this node tells the store what it has attached, before any new address is given.

    the store is another one than was seen ──► new addresses withheld ──► replay of the journal ──► told in the node's
    record ──► every node that is known has told too, or `restore_wait` has passed ──► new addresses again

What was seen (generation and revision) is kept on this node's disk, so a store that was replaced while the agent was
down is noticed as well. Existing Interfaces attach, detach and run on through all of this.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from homeport_agent.heartbeat import Heartbeat
from homeport_agent.journal import Journal
from homeport_agent.locks import KeyedLocks
from homeport_agent.worker import Worker
from homeport_api import wire
from homeport_api.errors import BadInput, HomeportError
from homeport_ipam.allocator import Allocator
from homeport_store import generation, keys
from homeport_store.generation import Seen
from homeport_store.protocol import Record, Store

log = logging.getLogger(__name__)

POLL = 0.2
LONGEST = 2.0
"""Seconds between two looks at a store that does not answer."""
REMEMBER = 30.0
SETTLE = 5.0
"""Seconds that nodes the snapshot never heard of have to come forward, at the least."""


class Replayer(Worker):
    """`judge` before the first request decides what it is given; `wake` after every sign that the store may be
    another."""

    def __init__(
        self,
        store: Store,
        directory: Path,
        journal: Journal,
        locks: KeyedLocks,
        allocator: Allocator,
        heartbeat: Heartbeat,
        restore_wait: float,
        healed: Callable[[], None],
    ) -> None:
        super().__init__("replay", begin=0.0, first=POLL, longest=LONGEST)
        self._store = store
        self._path = directory / "generation.json"
        self._journal = journal
        self._locks = locks
        self._allocator = allocator
        self._heartbeat = heartbeat
        self._restore_wait = restore_wait
        self._healed = healed
        self._waiting: tuple[str, float] | None = None

    def judge(self, *, store_up: bool) -> None:
        """Withholds new addresses at once where the store is not the one that was seen, or cannot be asked."""
        try:
            reason = self._why_replaced() if store_up else "the store has not answered since the start"
        except HomeportError as error:
            reason = f"the store has not been compared yet ({error})"
        self._allocator.withhold_new(reason)

    def work(self) -> float:
        self._look()
        return REMEMBER

    def _look(self) -> None:
        reason = self._why_replaced()
        if reason is None:
            self._allocator.withhold_new(None)
            self._remember()
            return
        log.warning("the store is not the one that was seen: %s", reason)
        self._allocator.withhold_new(reason)
        seen = self._wait_finished()
        if seen is None:
            return
        if self._waiting is None or self._waiting[0] != seen.generation:
            self._waiting = seen.generation, time.monotonic()
        contradictions = self.replay()
        self._heartbeat.tell_generation(seen.generation)
        self._wait_for_others(*self._waiting)
        self._remember()
        self._waiting = None
        self._allocator.withhold_new(None)
        self._healed()
        log.warning("replayed attachments=%d contradictions=%d", len(self._journal.live()), contradictions)

    def replay(self) -> int:
        """The number of contradictions, each of which is in the log. Safe beside ADD and DEL."""
        contradictions = 0
        for entry in self._journal.live():
            with self._locks.hold(entry.attachment.key):
                now = self._journal.find(entry.attachment.key)
                if now is None or now.ended is not None:
                    continue
                for text in self._allocator.replay(now.attachment):
                    contradictions += 1
                    log.error("the restored store contradicts what runs here: %s", text)
        return contradictions

    def _why_replaced(self) -> str | None:
        """None for the store that was seen, and for the first one ever: its generation begins here."""
        seen = self._seen()
        generation.ensure(self._store)
        return None if seen is None else generation.replaced(self._store, seen)

    def _wait_finished(self) -> Seen | None:
        while not self.closing:
            try:
                return generation.look(self._store)
            except HomeportError as error:
                log.info("waiting for the restore to finish: %s", error)
                self.wait(POLL)
        return None

    def _wait_for_others(self, current: str, began: float) -> None:
        """Every node that has attachments in the store, or a heartbeat, has told what it has; at most `restore_wait`
        since the first time that this generation was waited for."""
        patience = min(SETTLE, self._restore_wait)
        while not self.wait(POLL):
            waited = time.monotonic() - began
            if waited >= self._restore_wait:
                log.warning("not every node has replayed within %.0f s; going on", self._restore_wait)
                return
            if waited < patience:
                continue
            nodes = self._store.list(keys.NODES).records
            told = {keys.split(record.key, keys.NODES)[0] for record in nodes if _generation(record) == current}
            known = {keys.split(record.key, keys.NODES)[0] for record in nodes} | {
                keys.split(record.key, keys.ATTACHMENTS)[0] for record in self._store.list(keys.ATTACHMENTS).records
            }
            if known <= told:
                return

    def _seen(self) -> Seen | None:
        try:
            fields = json.loads(self._path.read_bytes())
            return Seen(str(fields["generation"]), int(fields["revision"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            log.warning("forgot what was seen of the store path=%s error=%s", self._path, error)
            return None

    def _remember(self) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(asdict(generation.look(self._store))))
            os.chmod(fresh, 0o600)  # noqa: PTH101  beside the journal, as closed as that
            fresh.replace(self._path)
        except OSError as error:
            log.warning("cannot remember the store's generation path=%s error=%s", self._path, error)


def _generation(node: Record) -> str | None:
    """The generation that a node has told; None where its record cannot be read: then it is waited for in vain."""
    try:
        return wire.NODE.loads(node.value).generation
    except BadInput as error:
        log.info("counted as not having replayed key=%s error=%s", node.key, error)
        return None
