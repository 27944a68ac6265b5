"""The agent itself: memory with 250 attachments, and the time from its start to being ready, with and without them."""

from homeport_netns_fixtures.topology import Node
from tests.bench.contenders import Contender
from tests.bench.cpu import children, resident
from tests.bench.figures import median
from tests.bench.processes import run_at_once
from tests.bench.report import Row, Section
from tests.bench.sandboxes import sandboxes, wait_empty

ATTACHMENTS = 250
MOST_MEMORY = 150e6
LONGEST_START = 1.0


def section(node: Node, ours: Contender, starts: int) -> Section:
    """The agent is stopped and started, with the etcd it embeds, `starts` times."""
    empty = _starts(node, starts)
    with sandboxes(ATTACHMENTS, "many") as guests:
        with node.namespace.entered():
            done = run_at_once([ours.call("ADD", f"many-{at}", guest) for at, guest in enumerate(guests)])
        memory, most = resident(node.agent.pid), resident(node.agent.pid, "VmHWM")
        etcd = sum(resident(pid) for pid in children(node))
        full = _starts(node, starts)
        again = resident(node.agent.pid)
        with node.namespace.entered():
            ended = run_at_once([ours.call("DEL", f"many-{at}", guest) for at, guest in enumerate(guests)])
        failed = [one.stdout.decode(errors="replace").strip() for one in (*done, *ended) if one.exit_code]
        wait_empty(guests)
    rows = [
        _memory(f"memory with {ATTACHMENTS} attachments, all made at once", memory),
        _memory("the most it ever was", most),
        _memory("after a restart", again),
        Row("its embedded etcd, for comparison", _megabytes(etcd)),
        Row(
            f"failures of {ATTACHMENTS} ADDs at once and {ATTACHMENTS} DELs",
            f"{len(failed)}, first: {failed[0]}" if failed else "0",
            goal="0",
            reached=not failed,
        ),
        _start("start to ready, nothing attached", empty),
        _start(f"start to ready, {ATTACHMENTS} attached", full),
    ]
    return Section(
        "The agent",
        f"Resident memory as the kernel counts it. Starts: median of {starts}, etcd's own start included, until "
        "/readyz answers 200.",
        tuple(rows),
    )


def _starts(node: Node, times: int) -> list[float]:
    took = []
    for _ in range(times):
        node.agent.stop()
        node.agent.start()
        took.append(node.agent.wait_ready())
    return took


def _memory(work: str, measured: float) -> Row:
    return Row(work, _megabytes(measured), goal=f"< {MOST_MEMORY / 1e6:.0f} MB", reached=measured < MOST_MEMORY)


def _start(work: str, took: list[float]) -> Row:
    middle = median(took)
    spread = f"{middle:.2f} s ({min(took):.2f} to {max(took):.2f})"
    return Row(work, spread, goal=f"< {LONGEST_START:.0f} s", reached=middle < LONGEST_START)


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB"
