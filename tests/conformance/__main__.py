"""`python -m tests.conformance DIR [--packets none|some|all] [--only PREFIX]`: holds cases of NetworkPolicy against
oracle and compiler in memory, and against the real table with real packets in the Debian kernel.

Exit codes: 0 all verdicts are what the cases say, 1 some are not, 2 the cases cannot be read,
3 the kernel for the packets cannot be had.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.conformance import packets, report
from tests.conformance.kernel import NotPlayed
from tests.conformance.memory import Judgement, judge_scenes
from tests.conformance.reader import Malformed, read_folder
from tests.conformance.scene import Stage
from tests.conformance.tally import COMPILER, ORACLE, Tally


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.conformance", description="Plays NetworkPolicy conformance cases."
    )
    parser.add_argument("folder", type=Path, help="the directory with the cases, as *.jsonl.gz")
    parser.add_argument("--packets", choices=("none", "some", "all"), default="some", help="default: %(default)s")
    parser.add_argument("--only", default="", metavar="PREFIX", help="the cases whose id begins so")
    options = parser.parse_args(argv)
    tally = Tally()
    try:
        judgements = judge_folder(options.folder, options.only, tally)
    except Malformed as malformed:
        print(f"conformance: {malformed}", file=sys.stderr)
        return 2
    columns = [ORACLE, COMPILER]
    if options.packets != "none":
        columns += packets.COLUMNS
        began = time.monotonic()
        try:
            packets.play_packets(judgements, options.packets == "all", tally)
        except NotPlayed as reason:
            print(f"conformance: {reason}", file=sys.stderr)
            return 3
        print(f"packets: {time.monotonic() - began:.0f} s with the boot of the kernel", flush=True)
    print(report.as_text(tally, columns))
    return 1 if tally.mismatches else 0


def judge_folder(folder: Path, only: str, tally: Tally) -> list[Judgement]:
    """The memory part, counted. Raises Malformed."""
    began = time.monotonic()
    cases = read_folder(folder, only)
    for case in cases:
        tally.count_case(case)
    stage = Stage()
    judgements = []
    for judgement in judge_scenes([stage.scene(case) for case in cases if case.refused is None]):
        tally.count_memory(judgement)
        judgements.append(judgement)
    disputed = sum(case.disputed for case in cases)
    if disputed:
        print(f"{disputed} cases have expectations that other engines see otherwise; the documented side is taken")
    print(f"{len(cases)} cases judged in memory in {time.monotonic() - began:.1f} s", flush=True)
    return judgements


if __name__ == "__main__":
    sys.exit(main())
