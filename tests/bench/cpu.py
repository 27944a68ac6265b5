"""What an agent and its embedded etcd use: seconds of CPU and resident memory, as the kernel counts them."""

import os
import re
from pathlib import Path

from homeport_netns_fixtures.topology import Node

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(node: Node) -> float:
    """Of the agent and its children so far."""
    return sum(_cpu(pid) for pid in (node.agent.pid, *children(node)))


def resident(pid: int, which: str = "VmRSS") -> float:
    """Bytes; `VmHWM` for the most it ever was."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found, f"process {pid} has no {which}"
    return int(found[1]) * 1024


def children(node: Node) -> list[int]:
    """The agent's child processes: its etcd."""
    tasks = Path(f"/proc/{node.agent.pid}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
