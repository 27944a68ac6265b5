"""CNI specification versions: which are spoken, since when each command exists, and what a result looks like in each.

Pure. Reference: CNI SPEC 1.1.0 "Version", and the change lists of 0.4.0, 1.0.0 and 1.1.0. Homeport's typed result is
that of the newest version; `result` asks here what an older one must carry or leave out.
"""

from dataclasses import dataclass

SUPPORTED = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Oldest first. The shims answer VERSION by themselves and carry the same list; a test holds the three together."""
NEWEST = SUPPORTED[-1]


@dataclass(frozen=True, slots=True)
class ResultForm:
    """`ip_version`: each entry of `ips` says "4" or "6". `mtu`: interfaces and routes may carry one."""

    ip_version: bool
    mtu: bool


FORMS = {
    "0.3.1": ResultForm(ip_version=True, mtu=False),
    "0.4.0": ResultForm(ip_version=True, mtu=False),
    "1.0.0": ResultForm(ip_version=False, mtu=False),
    "1.1.0": ResultForm(ip_version=False, mtu=True),
}


def is_at_least(version: str, since: str) -> bool:
    """Both must be SUPPORTED."""
    return SUPPORTED.index(version) >= SUPPORTED.index(since)
