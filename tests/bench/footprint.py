"""The agent itself: memory with 250 attachments, and the time from its start to being ready, with and without them."""

from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.topology import Node
from tests.bench.contenders import Contender
from tests.bench.cpu import children, resident
from tests.bench.figures import median, ratio
from tests.bench.processes import run, run_at_once
from tests.bench.report import Row, Section, at_most, milliseconds
from tests.bench.sandboxes import sandboxes, wait_empty

ATTACHMENTS = 250
MOST_MEMORY = 150e6
LONGEST_START = 1.0


def section(node: Node, ours: Contender, starts: int, pairs: int) -> Section:
    """The agent is stopped and started, with the etcd it embeds, `starts` times. `pairs` of ADD and
    DEL, one at a time, are made beside nothing and beside all attachments: what one costs should not grow."""
    empty = _starts(node, starts)
    with sandboxes(ATTACHMENTS + 1, "many") as (spare, *guests):
        alone = _pairs(node, ours, spare, "alone", pairs)
        with node.namespace.entered():
            done = run_at_once([ours.call("ADD", f"many-{at}", guest) for at, guest in enumerate(guests)])
        memory, most = resident(node.agent.pid), resident(node.agent.pid, "VmHWM")
        etcd = sum(resident(pid) for pid in children(node))
        beside = _pairs(node, ours, spare, "beside", pairs)
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
        *(
            at_most(
                f"{command} p50 with {ATTACHMENTS} attached",
                milliseconds(median(beside[command])),
                "none attached",
                milliseconds(median(alone[command])),
                ratio(beside[command], alone[command]),
                None,
            )
            for command in alone
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


def _pairs(node: Node, ours: Contender, guest: Namespace, label: str, count: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"ADD": [], "DEL": []}
    with node.namespace.entered():
        for number in range(count):
            for command, took in times.items():
                took.append(run(ours.call(command, f"{label}-{number}", guest)).succeeded().seconds)
            wait_empty([guest])
    return times


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
