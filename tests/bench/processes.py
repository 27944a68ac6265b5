"""Whole processes on the clock: from before the spawn until the end was seen, alone or many at once.

Started by `posix_spawn`, which costs the same little for every executable, in the network namespace where the calling
thread stands. Input and output are files in memory, made before the clock starts.
"""

import os
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """What to execute."""

    executable: str
    environ: Mapping[str, str]
    stdin: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """`seconds` on the wall's clock; `began` and `ended` are readings of `time.perf_counter`."""

    began: float
    ended: float
    exit_code: int
    stdout: bytes

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def succeeded(self) -> "Finished":
        """Itself. AssertionError, with what was printed, when it failed: a failure has no time worth reporting."""
        assert self.exit_code == 0, self.stdout.decode(errors="replace")
        return self


def run(process: Process) -> Finished:
    """One, to its end."""
    return run_at_once([process])[0]


def run_at_once(processes: Sequence[Process]) -> list[Finished]:
    """All started as fast as they can be started, then waited for; results in the order of `processes`."""
    files = [(_memory(process.stdin), _memory(b"")) for process in processes]
    began: list[float] = []
    waiting: dict[int, int] = {}
    ends: dict[int, tuple[float, int]] = {}
    pids: list[int] = []
    poll = select.poll()
    for process, (stdin, stdout) in zip(processes, files, strict=True):
        actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stdout, 2)]
        began.append(time.perf_counter())
        pids.append(os.posix_spawn(process.executable, [process.executable], process.environ, file_actions=actions))
    if len(pids) == 1:
        _, status = os.waitpid(pids[0], 0)
        ends[0] = (time.perf_counter(), os.waitstatus_to_exitcode(status))
    else:
        for number, pid in enumerate(pids):
            descriptor = os.pidfd_open(pid)
            waiting[descriptor] = number
            poll.register(descriptor, select.POLLIN)
    while waiting:
        for descriptor, _ in poll.poll():
            ended = time.perf_counter()
            poll.unregister(descriptor)
            os.close(descriptor)
            number = waiting.pop(descriptor)
            _, status = os.waitpid(pids[number], 0)
            ends[number] = (ended, os.waitstatus_to_exitcode(status))
    finished = []
    for number, (stdin, stdout) in enumerate(files):
        output = os.pread(stdout, 1 << 20, 0)
        os.close(stdin)
        os.close(stdout)
        finished.append(Finished(began[number], *ends[number], output))
    return finished


def _memory(content: bytes) -> int:
    descriptor = os.memfd_create("bench")
    os.pwrite(descriptor, content, 0)
    return descriptor
