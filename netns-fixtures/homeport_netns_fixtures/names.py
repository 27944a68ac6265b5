"""Names for what a test makes, so that many test runs share one machine and each knows its own.

A name starts with `hpt-<pid>-`: the pid is the test process's, the rest counts up. Whoever finds such a name and no
such process may remove it. Links inside namespaces of ours need none of this and keep readable names.
"""

import itertools
import os
import re

PREFIX = "hpt-"
_PATTERN = re.compile(r"hpt-(\d+)-\d+")
_counter = itertools.count(1)


def unique(label: str) -> str:
    """`hpt-<pid>-<n>-<label>`, never given twice in this process."""
    return f"{PREFIX}{os.getpid()}-{next(_counter)}-{label}"


def owner(name: str) -> int | None:
    """The pid of the test process that made `name`; None when no test process did."""
    found = _PATTERN.match(name)
    return int(found[1]) if found else None


def is_ours(name: str) -> bool:
    return owner(name) == os.getpid()
