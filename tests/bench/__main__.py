"""`python -m tests.bench [--quick] [--rows add,burst,...]`: measures, prints tables, writes docs/benchmarks.md.

Everything is made and removed by the run: namespaces, agents, etcd, plugins' bridges. Needs root.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator

from homeport_netns_fixtures import capability, leftovers, programs
from homeport_netns_fixtures.topology import NodeSpec, build
from tests.bench import burst, contenders, footprint, ordinary, packets, policies, report, resync, serial, transactions
from tests.bench.report import Section

ROWS = ("add", "burst", "addresses", "ordinary", "agent", "policies", "packets", "resync")


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.bench", description="Measures Homeport against the stock plugins."
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a result")
    parser.add_argument("--rows", default=",".join(ROWS), help="some of: %(default)s (add has DEL with it)")
    parser.add_argument("--print-only", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args()
    rows = options.rows.split(",")
    if unknown := set(rows) - set(ROWS):
        parser.error(f"unknown rows {', '.join(sorted(unknown))}: choose from {', '.join(ROWS)}")
    lacking = capability.host_lacks() or programs.missing_programs("etcd", "etcdctl")
    if lacking:
        print(f"bench: {lacking}", file=sys.stderr)
        return 1
    os.environ["PATH"] = programs.search_path()
    os.environ[leftovers.SESSION] = str(os.getpid())
    report.warn_when_busy()
    before = leftovers.take_inventory()
    sections: list[Section] = []
    for section in _measure(rows, options.quick):
        print(report.as_text(section), flush=True)
        sections.append(section)
    if not options.print_only:
        if set(rows) == set(ROWS):
            report.write(sections, options.quick)
            print(f"written to {report.PAGE.relative_to(report.ROOT)}")
        else:
            print("some rows only: docs/benchmarks.md is left as it is")
    left = leftovers.take_inventory().since(before, everything=False)
    for each in left:
        print(f"bench: left behind: {each}", file=sys.stderr)
    return 1 if left else 0


def _measure(rows: list[str], quick: bool) -> Iterator[Section]:
    if "addresses" in rows:
        yield transactions.section(quick)
    if "policies" in rows:
        yield policies.section(quick)
    if "packets" in rows:
        yield packets.section(quick)
    if "resync" in rows:
        yield resync.section(quick)
    if not {"add", "burst", "ordinary", "agent"} & set(rows):
        return
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(build(NodeSpec("bench")))
        node, directory = world.node("bench"), world.directory
        contenders.prepare(node)
        ours = contenders.ours(directory, node.run_dir)
        stock = contenders.stock(directory)
        if "add" in rows:
            yield serial.section(node, [*ours, *stock], 40 if quick else 300)
        if "burst" in rows:
            yield burst.section(node, [*ours, *stock], 3 if quick else 10)
        if "ordinary" in rows:
            absent = ordinary.absent_run_dir(directory)
            (directory / "chained").mkdir()
            shims = contenders.ours(directory / "chained", absent, chained=True)
            yield ordinary.section(node, stock[-1], shims, 30 if quick else 150)
        if "agent" in rows:
            yield footprint.section(node, ours[0], 1 if quick else 5, 20 if quick else 100)


if __name__ == "__main__":
    sys.exit(main())
