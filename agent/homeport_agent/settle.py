"""Telling the store what ended on this node: at once when it answers, from the journal when it did not.

An entry is settled under the lock of its attachment, so that an ADD under the same key either waits for it or settles
it first; an end can therefore never hit an attachment that came after it.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial

from homeport_agent.journal import Entry, Journal
from homeport_agent.locks import KeyedLocks
from homeport_agent.steps import Delete, Hook
from homeport_agent.worker import Worker
from homeport_api.attachment import AttachmentKey
from homeport_api.errors import HomeportError
from homeport_api.interface import InterfaceKey

log = logging.getLogger(__name__)

RETRY = 1.0

Epochs = Mapping[InterfaceKey, int]
End = Callable[[AttachmentKey, str, Epochs | None], object]
"""Ends the holders of exactly this attachment, as of these epochs, in the store; repeatable. Raises Unavailable."""
StoreUp = Callable[[], bool]
Prepare = Callable[[], None]
"""Finds what else has to be told, and puts it into the journal; repeatable. Raises Unavailable."""


class Settler(Worker):
    """`start` begins to work off what the journal holds; entries come by `settle`. `wake` when the store answers
    again."""

    def __init__(
        self, journal: Journal, locks: KeyedLocks, end: End, store_up: StoreUp, prepare: Prepare, hook: Hook
    ) -> None:
        super().__init__("settle")
        self._journal = journal
        self._locks = locks
        self._end = end
        self._store_up = store_up
        self._prepare = prepare
        self._hook = hook

    def settle(self, entry: Entry) -> None:
        """Tells the store now when it is believed to answer, so that another node can have the Interface at once;
        leaves it to the thread otherwise. The caller holds the attachment's lock. Never raises for the store's sake."""
        if not self._store_up():
            self.wake()
            return
        try:
            self._settle(entry)
        except HomeportError as error:
            log.info("end left to the journal key=%s error=%s", entry.attachment.key, error)
            self.wake()

    def settle_before(self, key: AttachmentKey) -> None:
        """For an ADD: an end under the same key comes first. The caller holds the lock. Raises Unavailable when the
        store does not take it, for then it would not take the ADD either."""
        entry = self._journal.find(key)
        if entry is not None and entry.ended is not None:
            self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        attachment = entry.attachment
        epochs = {nic.interface: nic.epoch for nic in attachment.nics} or None
        self._end(attachment.key, entry.reason, epochs)
        self._journal.settled(attachment.key)
        self._hook(Delete.SETTLED)

    def work(self) -> float | None:
        return None if self._work_off() else RETRY

    def _work_off(self) -> bool:
        """True when nothing is pending any more. An end that the store will not take keeps no other from it; with the
        store away, none is tried."""
        if not self._tried(self._prepare):
            return False
        done = True
        for entry in self._journal.pending():
            if not self._tried(partial(self._settle_pending, entry.attachment.key)):
                done = False
                if not self._store_up():
                    break
        return done

    def _tried(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except HomeportError as error:
            log.info("ends not settled yet error=%s", error)
            return False
        except Exception:
            log.exception("ends not settled yet, for a reason nobody foresaw")
            return False
        return True

    def _settle_pending(self, key: AttachmentKey) -> None:
        with self._locks.hold(key):
            now = self._journal.find(key)
            if now is not None and now.ended is not None:
                self._settle(now)
