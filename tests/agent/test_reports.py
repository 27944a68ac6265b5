"""What a node reports of each Network, over restarts: of those that are there, and written only when it differs."""

from homeport_api import wire
from homeport_api.node import NodeReport
from homeport_store import keys
from homeport_store.protocol import Delete

from .lab import Lab, wait_until


def test_a_restart_takes_back_what_is_true_no_more_and_writes_nothing_else(lab: Lab) -> None:
    node, store = lab.node.name, lab.store
    wait_until(lambda: store.get(keys.report(node, "lab")) is not None, "the Network is reported")
    quiet = store.get(keys.report(node, "lab"))
    lab.kill()
    gone, broken = keys.report(node, "gone"), keys.report(node, "broken")
    others = keys.report(f"{node}0", "gone")
    for key in (gone, others):
        store.put_if(key, wire.REPORT.dumps(NodeReport(node, "gone", ready=True)), 0)
    store.put_if(broken, b"junk", 0)
    lab.start()
    wait_until(lambda: store.get(gone) is None, "the report of a Network that went meanwhile is gone")
    wait_until(lambda: store.get(broken) is None, "so is what cannot be read")
    assert store.get(others) is not None, "it is another node's"
    assert store.get(keys.report(node, "lab")) == quiet
    store.txn((), [Delete(others)])


def test_a_report_that_cannot_be_read_is_written_anew(lab: Lab) -> None:
    key = keys.report(lab.node.name, "lab")
    wait_until(lambda: lab.store.get(key) is not None, "the Network is reported")
    quiet = lab.store.get(key)
    assert quiet is not None
    lab.kill()
    lab.store.put_if(key, b"junk", quiet.mod_revision)
    lab.start()
    wait_until(lambda: (found := lab.store.get(key)) is not None and found.value == quiet.value, "it is there again")
