"""The results as rows, as plain text and as the page docs/benchmarks.md.

Of that page only what stands between the two marks is written anew by a run; the words around it, why a row is not
reached among them, are for people to write.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from homeport_netns_fixtures.programs import find_program
from tests.bench.contenders import build_newest
from tests.bench.figures import Ratio

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN = "<!-- figures: begin, written by make bench -->"
END = "<!-- figures: end -->"
HEADER = ("work", "here", "against", "there", "ratio (95 %)", "to reach", "reached")


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `reached` None: a figure that has no goal of its own."""

    work: str
    here: str
    against: str = ""
    there: str = ""
    ratio: str = ""
    goal: str = ""
    reached: bool | None = None

    def cells(self) -> tuple[str, ...]:
        verdict = {True: "yes", False: "NO", None: ""}[self.reached]
        return (self.work, self.here, self.against, self.there, self.ratio, self.goal, verdict)


@dataclass(frozen=True, slots=True)
class Section:
    """One measurement's rows, with what must be known to read them."""

    title: str
    note: str
    rows: tuple[Row, ...]


def at_most(work: str, here: str, against: str, there: str, ratio: Ratio, limit: float | None) -> Row:
    """A row whose ratio should not exceed `limit`."""
    goal = "" if limit is None else f"≤ {limit:.1f}×"
    return Row(work, here, against, there, str(ratio), goal, None if limit is None else ratio.value <= limit)


def at_least(work: str, here: str, against: str, there: str, ratio: Ratio, limit: float | None) -> Row:
    """A row whose ratio should not fall below `limit`."""
    goal = "" if limit is None else f"≥ {limit:.1f}×"
    return Row(work, here, against, there, str(ratio), goal, None if limit is None else ratio.value >= limit)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def as_text(section: Section) -> str:
    lines = _aligned([HEADER, *(row.cells() for row in section.rows)])
    return "\n".join([section.title, f"  {section.note}", *(f"  {line}" for line in lines), ""])


def as_markdown(sections: Sequence[Section], quick: bool) -> str:
    parts = [*_circumstances(quick)]
    for section in sections:
        parts += [f"### {section.title}", "", section.note, "", "| " + " | ".join(HEADER) + " |", "|---" * 7 + "|"]
        parts += ["| " + " | ".join(row.cells()) + " |" for row in section.rows]
        parts.append("")
    return "\n".join(parts)


def write(sections: Sequence[Section], quick: bool) -> None:
    """Puts the figures into the page, between its marks."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{PAGE} has no marks to write between: {BEGIN} and {END}"
    PAGE.write_text(f"{before}{BEGIN}\n{as_markdown(sections, quick)}{END}{after}")


def load() -> str:
    """How busy the machine was lately, as the share of its processors."""
    return f"{os.getloadavg()[0] / (os.cpu_count() or 1):.1f}"


def _circumstances(quick: bool) -> list[str]:
    kind = "a short run (`--quick`)" if quick else "a full run"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {kind}, commit {_commit()}.",
        "",
        f"- machine: {_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}; "
        f"load at the end {load()} a core",
        f"- Python {platform.python_version()}, grpcio {version('grpcio')}, {_first_line('etcd', '--version')}, "
        f"{_first_line('nft', '--version')}, stock plugins 1.1.1{' and 1.9.1' if build_newest() else ''}",
        "",
    ]


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    used = [column for column in range(len(table[0])) if any(row[column] for row in table[1:])]
    widths = {column: max(len(row[column]) for row in table) for column in used}
    return ["  ".join(row[column].ljust(widths[column]) for column in used).rstrip() for row in table]


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _commit() -> str:
    head = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return head.stdout.strip() or "unknown"


def _first_line(program: str, *arguments: str) -> str:
    found = find_program(program)
    if found is None:
        return f"{program} absent"
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]


def warn_when_busy() -> None:
    if os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1):
        print(f"bench: this machine is busy ({load()} a core): trust the ratios, not the times", file=sys.stderr)
