"""`python -m tests.conformance.inside FOLDER`, in the Debian kernel: plays the runs that are there."""

import pickle
import sys
import time
from pathlib import Path

from tests.conformance.fabric import Fabric, build
from tests.conformance.kernel import RECORDS, RUNS
from tests.conformance.volley import Record, Run

_EVERY_SECONDS = 15.0


def main() -> int:
    folder = Path(sys.argv[1])
    runs: list[Run] = pickle.loads((folder / RUNS).read_bytes())
    began = time.monotonic()
    with build(sorted({port for run in runs for port in run.ports})) as fabric:
        print(f"a switch with {len(fabric.guests)} guests is there after {time.monotonic() - began:.1f} s", flush=True)
        records = [_play(fabric, run) for run in runs]
    (folder / RECORDS).write_bytes(pickle.dumps(records))
    return 0


def _play(fabric: Fabric, run: Run) -> Record:
    said = time.monotonic()
    verdicts = 0
    for played, each in enumerate(fabric.play(run)):
        if isinstance(each, Record):
            rate = verdicts / (each.seconds or 1)
            print(f"{run.name}: {verdicts} verdicts on packets in {each.seconds:.1f} s, {rate:.0f}/s", flush=True)
            for protocol in sorted({protocol for heard in each.heard for protocol in heard.mute}):
                print(f"{run.name}: this kernel's stack has no {protocol}", flush=True)
            return each
        verdicts += len(run.volleys[played].numbers if run.volleys else run.sessions[played].talks)
        if time.monotonic() > said + _EVERY_SECONDS:
            said = time.monotonic()
            print(
                f"{run.name}: {played + 1} of {len(run.volleys or run.sessions)} scenes, {verdicts} verdicts",
                flush=True,
            )
    raise AssertionError("no record")


if __name__ == "__main__":
    sys.exit(main())
