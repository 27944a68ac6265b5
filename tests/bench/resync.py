"""What an ADD costs while the agent takes in all policies and Interfaces anew, in the Debian kernel, which can enforce
them."""

import json
import sys
import tempfile
from pathlib import Path

from homeport_netns_fixtures import debian_kernel
from tests.bench.figures import median, p99, ratio
from tests.bench.report import Row, Section, at_most, milliseconds

TIMES = "times"
REST, RESYNC = "at rest", "during a resync"
LIMIT = 1.5
TITLE = "ADD while policies are read anew"


def section(quick: bool) -> Section:
    if (reason := debian_kernel.lacks()) is not None:
        return Section(TITLE, f"Not measured: {reason}", ())
    rounds, each = (2, 5) if quick else (10, 20)
    with tempfile.TemporaryDirectory(prefix="hpt-bench-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "tests.bench.resync_inside", name, str(rounds), str(each)]
        code = debian_kernel.run(command, writable=folder)
        if code != 0:
            return Section(TITLE, f"Not measured: exit code {code} in there", ())
        times: dict[str, list[float]] = json.loads((folder / TIMES).read_text())
    rest, resync = times[REST], times[RESYNC]
    rows = [
        at_most(
            f"ADD {label}, {RESYNC}",
            milliseconds(figure(resync)),
            REST,
            milliseconds(figure(rest)),
            ratio(resync, rest, figure),
            LIMIT if label == "p99" else None,
        )
        for label, figure in (("p50", median), ("p99", p99))
    ]
    rows.append(Row("a resync, until all of it is known", f"{median(times['resyncs']):.1f} s"))
    return Section(
        TITLE,
        f"{rounds} resyncs of 1,000 policies and 10,000 Interfaces: the watch is cut and what it missed compacted; "
        f"{each} ADDs right after each, as many at rest, one after the other, by the agent's socket. "
        "Debian's kernel, emulated where the machine has no KVM: the ratio counts.",
        tuple(rows),
    )
