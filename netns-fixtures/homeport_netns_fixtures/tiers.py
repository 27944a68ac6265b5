"""Runs the tiers of the tests one after the other and says of each what it ran, what it skipped, and how long it took.

    python -m homeport_netns_fixtures.tiers lint pure host kernel runtime [-- ARGUMENTS FOR PYTEST]

A tier is a selection by marker; the kernel tier is the same pytest inside Debian's own kernel. Every tier runs, also
after one that failed. The last line has the sums, and the exit code is 1 when anything failed.
"""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from homeport_netns_fixtures import debian_kernel, programs
from homeport_netns_fixtures.capability import is_ci

SELECTION = {
    "lint": "lint",
    "pure": "not lint and not host and not kernel and not runtime",
    "host": "host",
    "kernel": "kernel",
    "runtime": "runtime",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one tier. `problem` is what kept it from running to its end."""

    tier: str
    passed: int
    failed: int
    skipped: tuple[str, ...]
    seconds: float
    problem: str = ""

    def line(self) -> str:
        text = f"{self.tier:<8} {self.passed:5} passed {self.failed:4} failed {len(self.skipped):4} skipped"
        return f"{text} {self.seconds:7.1f} s" + (f"  {self.problem}" if self.problem else "")


def run(tier: str, arguments: Sequence[str]) -> Outcome:
    """One tier to its end, its output passed on as it comes."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hpt-tier-") as directory:
        report = Path(directory) / "report.xml"
        pytest = [sys.executable, "-m", "pytest", "-q", "-m", SELECTION[tier], f"--junitxml={report}", *arguments]
        environment = os.environ | {"PATH": programs.search_path()}
        if tier == "kernel" and (reason := debian_kernel.lacks()) is not None:
            # As with any capability: skipped on a laptop, a failure where nothing may be skipped.
            return Outcome(tier, 0, 0, () if is_ci() else (reason,), 0.0, reason if is_ci() else "")
        if tier == "kernel":
            code, problem = _in_debian_kernel(pytest, Path(directory))
        else:
            code, problem = subprocess.run(pytest, env=environment, check=False).returncode, ""
        passed, failed, skipped = read(report)
    seconds = time.monotonic() - started
    if not problem and code != 0 and failed == 0:
        problem = "no tests" if code == 5 else f"pytest ended with {code}"
    return Outcome(tier, passed, failed, skipped, seconds, problem)


def _in_debian_kernel(pytest: Sequence[str], directory: Path) -> tuple[int, str]:
    """Python is many times slower there, so the files that have such tests are found out here, and only they go in."""
    # Bytecode that is not there cannot be written in there: the checkout is mounted read-only.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-m", "compileall", "-q", *map(str, Path().glob("*/homeport_*"))], env=environment)
    listing = [argument for argument in pytest if not argument.startswith("--junitxml")]
    collected = subprocess.run([*listing, "--collect-only"], capture_output=True, text=True, env=environment)
    files = sorted({line.split("::")[0] for line in collected.stdout.splitlines() if "::" in line})
    if collected.returncode not in (0, 5):
        print(collected.stdout, collected.stderr)
        return collected.returncode, "collection failed"
    if not files:
        return 5, ""
    return debian_kernel.run([*pytest, "-p", "no:cacheprovider", *files], writable=directory), ""


def read(report: Path) -> tuple[int, int, tuple[str, ...]]:
    """(passed, failed, why skipped) of a JUnit report; a test that fails and errs counts once."""
    if not report.exists():
        return 0, 0, ()
    passed = failed = 0
    skipped = []
    for case in ElementTree.parse(report).iter("testcase"):
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            failed += 1
        elif "skipped" in outcomes:
            skip = case.find("skipped")
            skipped.append((skip.get("message") or "") if skip is not None else "")
        else:
            passed += 1
    return passed, failed, tuple(skipped)


def summarise(outcomes: Sequence[Outcome]) -> int:
    """Prints a line for each tier, what it skipped and why, and the sums; the exit code."""
    for outcome in outcomes:
        print(outcome.line())
        for reason in sorted(set(outcome.skipped)):
            print(f"         skipped {outcome.skipped.count(reason)}: {reason}")
    passed = sum(outcome.passed for outcome in outcomes)
    skipped = sum(len(outcome.skipped) for outcome in outcomes)
    # A tier that could not run to its end has failed at least once, whatever its tests say.
    failed = sum(max(outcome.failed, bool(outcome.problem)) for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    print(f"{passed} passed, {failed} failed, {skipped} skipped in {seconds:.0f} s")
    return 1 if failed else 0


def main(argv: Sequence[str]) -> int:
    at = argv.index("--") if "--" in argv else len(argv)
    tiers, arguments = argv[:at], argv[at + 1 :]
    unknown = [tier for tier in tiers if tier not in SELECTION]
    if unknown or not tiers:
        print(f"no such tier: {', '.join(unknown) or 'none given'}; there are {', '.join(SELECTION)}", file=sys.stderr)
        return 2
    outcomes = []
    for tier in tiers:
        print(f"\n--- {tier}", flush=True)
        outcomes.append(run(tier, arguments))
    print()
    return summarise(outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
