"""Runs, played in the Debian kernel: they go in as one file, what was seen comes back as another."""

import pickle
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from homeport_netns_fixtures import debian_kernel
from tests.conformance.volley import Record, Run

LIMIT_SECONDS = 2400
RUNS, RECORDS = "runs", "records"


class NotPlayed(Exception):
    """The kernel cannot be booted here, or it ended before the runs did."""


def play(runs: Sequence[Run]) -> list[Record]:
    """One boot for all of them. What happens inside is printed as it goes."""
    if (reason := debian_kernel.lacks()) is not None:
        raise NotPlayed(f"no packets without the Debian kernel: {reason}")
    with tempfile.TemporaryDirectory(prefix="hpt-conformance-") as name:
        folder = Path(name)
        (folder / RUNS).write_bytes(pickle.dumps(list(runs)))
        command = [sys.executable, "-m", "tests.conformance.inside", name]
        code = debian_kernel.run(command, writable=folder, limit=LIMIT_SECONDS)
        records = folder / RECORDS
        if code != 0 or not records.exists():
            raise NotPlayed(f"the Debian kernel gave no answer: exit code {code}")
        played: list[Record] = pickle.loads(records.read_bytes())
        return played
