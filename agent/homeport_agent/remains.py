"""What an agent that ended in the middle left in the store: attachments of this node that nobody was answered.

An ADD is whole when it is in the node's journal. One that is in the store only was never answered, so its holder ends
and nothing of it remains; the runtime's retry begins anew. After a reboot nothing of before can be on the wire: what
the journal and the store still call attached ends too. VM identities keep what they own through all of this.
"""

import logging
import time
from collections.abc import Callable

from homeport_agent.journal import Journal
from homeport_agent.locks import KeyedLocks
from homeport_api import wire
from homeport_api.attachment import Attachment
from homeport_api.errors import HomeportError
from homeport_ipam.allocator import Allocator
from homeport_ipam.view import View
from homeport_store import keys
from homeport_store.protocol import Store

log = logging.getLogger(__name__)


class Remains:
    """For the start of an agent, when no request is served yet."""

    def __init__(
        self,
        node: str,
        boot_id: str,
        store: Store,
        view: View,
        journal: Journal,
        allocator: Allocator,
        locks: KeyedLocks,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        self._boot_id = boot_id
        self._store = store
        self._view = view
        self._journal = journal
        self._allocator = allocator
        self._locks = locks
        self._clock = clock

    def end_unanswered(self) -> None:
        """The store being away leaves this to the next start; nothing waits for it."""
        for entry in self._journal.live():
            if entry.attachment.boot_id != self._boot_id:
                self._journal.ended(entry.attachment, self._clock(), "the node restarted")
        try:
            attachments = self._stored()
        except HomeportError as error:
            log.warning("remains not looked for error=%s", error)
            return
        for attachment in attachments:
            if self._journal.find(attachment.key) is None:
                reason = "its ADD never answered" if attachment.boot_id == self._boot_id else "the node restarted"
                log.warning("ended a remain key=%s reason=%s", attachment.key, reason)
                self._journal.ended(attachment, self._clock(), reason)

    def _stored(self) -> list[Attachment]:
        prefix = keys.attachments_on(self._node)
        return [wire.ATTACHMENT.loads(record.value, record.mod_revision) for record in self._store.list(prefix).records]
