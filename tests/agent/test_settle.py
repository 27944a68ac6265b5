"""Ends that the store does not take: they wait, and keep nobody else waiting."""

import threading
from pathlib import Path

from homeport_agent.journal import Journal
from homeport_agent.locks import KeyedLocks
from homeport_agent.settle import Epochs, Settler
from homeport_agent.steps import no_hook
from homeport_api.attachment import Attachment, AttachmentKey, Source
from homeport_api.errors import BadInput


def attachment(container: str) -> Attachment:
    return Attachment(AttachmentKey("n1", "homeport", "blue", container, "eth0"), Source.CNI, "b1", ())


def test_a_record_that_cannot_be_read_fails_no_del_and_stops_no_other(tmp_path: Path) -> None:
    journal, settled = Journal(tmp_path), threading.Event()
    tried: list[str] = []

    def end(key: AttachmentKey, _reason: str, _epochs: Epochs | None) -> None:
        tried.append(key.container_id)
        if key.container_id == "unreadable":
            raise BadInput("a stored Interface cannot be read")
        settled.set()

    settler = Settler(journal, KeyedLocks(), end, lambda: True, lambda: None, no_hook)
    settler.settle(journal.ended(attachment("unreadable"), 1.0, "DEL"))
    assert tried == ["unreadable"]
    journal.ended(attachment("later"), 2.0, "DEL")
    settler.start()
    settler.wake()
    assert settled.wait(10)
    settler.close()
    assert [entry.attachment.key.container_id for entry in journal.pending()] == ["unreadable"]
