"""Where the store and this node's journal differ at the start of an agent: attachments that nobody was answered.

An ADD is whole when it is in the node's journal. One that is in the store only was never answered, so its holder ends
and nothing of it remains; the runtime's retry begins anew. After a reboot nothing of before can be on the wire: what
the journal and the store still call attached ends too. VM identities keep what they own through all of this.

A journal that was lost says nothing. Then an attachment whose ports the kernel still has is whole, and is taken into
the new journal: running guests must not pay for a deleted file. Until that was done, no port is a stray (`healer`).
The other way round, an attachment whose record the store lost, and which still holds its Interfaces there, is recorded
again.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from homeport_agent.journal import Journal
from homeport_agent.locks import KeyedLocks
from homeport_api import wire
from homeport_api.attachment import Attachment, AttachmentKey, PortKind
from homeport_api.errors import BadInput
from homeport_dataplane.marks import port_name
from homeport_store import keys
from homeport_store.protocol import Store

log = logging.getLogger(__name__)


class Remains:
    """For the start of an agent, or for when its store answers at last."""

    def __init__(
        self,
        node: str,
        boot_id: str,
        store: Store,
        journal: Journal,
        locks: KeyedLocks,
        has_port: Callable[[str], bool],
        looked: Callable[[], None],
        put_back: Callable[[Attachment], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        self._boot_id = boot_id
        self._store = store
        self._journal = journal
        self._locks = locks
        self._has_port = has_port
        self._tell_looked = looked
        self._put_back = put_back
        self._clock = clock
        self._looked = False

    def end_of_before(self) -> None:
        """What the journal still has of an earlier boot. Needs no store."""
        for entry in self._journal.live():
            if entry.attachment.boot_id != self._boot_id:
                self._journal.ended(entry.attachment, self._clock(), "the node restarted")

    def end_unanswered(self) -> None:
        """What the store has and the journal has not, and the reverse. Does its work once, then says that it is done;
        raises Unavailable until the store answers. Safe beside ADD and DEL: an ADD that is under way holds its lock."""
        if self._looked:
            return
        stored = self._stored()
        for attachment in stored:
            with self._locks.hold(attachment.key):
                if not attachment.nics or self._journal.find(attachment.key) is not None:
                    continue
                if self._journal.begun and self._runs(attachment):
                    log.warning("taken into the new journal key=%s: its ports are there", attachment.key)
                    self._journal.attached(attachment, _inode(attachment.netns))
                else:
                    reason = "its ADD never answered" if attachment.boot_id == self._boot_id else "the node restarted"
                    log.warning("ended a remain key=%s reason=%s", attachment.key, reason)
                    self._journal.ended(attachment, self._clock(), reason)
        self._journal.complete()
        self._record_again({attachment.key: attachment for attachment in stored})
        self._looked = True
        self._tell_looked()

    def _record_again(self, stored: Mapping[AttachmentKey, Attachment]) -> None:
        for entry in self._journal.live():
            key = entry.attachment.key
            known = stored.get(key)
            if known is not None and set(entry.attachment.nics) <= set(known.nics):
                continue
            with self._locks.hold(key):
                now = self._journal.find(key)
                if now is not None and now.ended is None and self._put_back(now.attachment):
                    log.warning("recorded again key=%s: the store had lost its attachment", key)

    def _runs(self, attachment: Attachment) -> bool:
        """Whether all of it is there. What `homeport-ipam` gave has no port of ours to look for."""
        return attachment.boot_id == self._boot_id and all(
            nic.kind is PortKind.NONE or self._has_port(port_name(nic.uid, nic.epoch)) for nic in attachment.nics
        )

    def _stored(self) -> list[Attachment]:
        found: list[Attachment] = []
        for record in self._store.list(keys.attachments_on(self._node)).records:
            try:
                found.append(wire.ATTACHMENT.loads(record.value, record.mod_revision))
            except BadInput as error:
                log.warning("left alone key=%s error=%s: `homeport ipam fsck` explains it", record.key, error)
        return found


def _inode(netns: str) -> int:
    """Of the namespace at that path now; 0, which no namespace has, where there is none."""
    try:
        return Path(netns).stat().st_ino if netns else 0
    except OSError:
        return 0
