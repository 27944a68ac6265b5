"""When work is done, and that nothing that it raises ends it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from homeport_agent.worker import TryAgain, Worker
from homeport_api.errors import Unavailable

from .lab import wait_until

NEVER = 3600.0


class Counting(Worker):
    """Does what it is told to, and remembers when."""

    def __init__(self, does: Callable[[], float | None], **pauses: float) -> None:
        super().__init__("counting", **pauses)
        self.does = does
        self.times: list[float] = []
        self.errors: list[Exception] = []

    def work(self) -> float | None:
        self.times.append(time.monotonic())
        return self.does()

    def failed(self, error: Exception) -> None:
        self.errors.append(error)


@contextmanager
def running(worker: Counting) -> Iterator[Counting]:
    worker.start()
    with closing(worker):
        yield worker
    assert not worker._thread.is_alive()


def nothing() -> None:
    return None


def test_nothing_is_done_before_a_wake_and_wakes_together_are_one() -> None:
    worker = Counting(nothing, together=0.05)
    for _ in range(10):
        worker.wake()
    with running(worker):
        for _ in range(10):
            worker.wake()
        wait_until(lambda: worker.times, "it is done")
        time.sleep(0.2)
        assert len(worker.times) == 1
        worker.wake()
        wait_until(lambda: len(worker.times) == 2, "it is done again")


def test_a_wake_while_work_is_done_is_work_afterwards() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def long() -> None:
        begun.set()
        go_on.wait(10)

    with running(Counting(long, begin=0.0)) as worker:
        assert begun.wait(10)
        worker.wake()
        go_on.set()
        wait_until(lambda: len(worker.times) == 2, "it is done again")
        time.sleep(0.1)
        assert len(worker.times) == 2


def test_work_says_when_it_is_done_again_and_a_wake_is_sooner() -> None:
    pauses = iter([0.05, NEVER, NEVER])
    with running(Counting(lambda: next(pauses), begin=0.0)) as worker:
        wait_until(lambda: len(worker.times) == 2, "it is done again by itself")
        assert worker.times[1] - worker.times[0] >= 0.05
        worker.wake()
        wait_until(lambda: len(worker.times) == 3, "it is woken")


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("nobody foresaw"), TryAgain()])
def test_what_failed_is_tried_again_after_pauses_that_grow(error: Exception) -> None:
    wrong = True

    def fails() -> None:
        if wrong:
            raise error

    with running(Counting(fails, begin=0.0, first=0.02, longest=0.08)) as worker:
        wait_until(lambda: len(worker.times) >= 6, "it is tried again")
        gaps = [after - before for before, after in zip(worker.times, worker.times[1:], strict=False)]
        for gap, least in zip(gaps, (0.02, 0.04, 0.08, 0.08, 0.08), strict=False):
            assert gap >= least
        wrong = False
        done = len(worker.times)
        wait_until(lambda: len(worker.times) > done, "it is done")
        time.sleep(0.3)
        assert len(worker.times) <= done + 2, "and not again"
    assert bool(worker.errors) != isinstance(error, TryAgain), "what told of itself is not told of again"


def test_a_wake_begins_the_pauses_anew() -> None:
    def fails() -> None:
        raise Unavailable("away")

    with running(Counting(fails, begin=0.0, first=0.01, longest=NEVER)) as worker:
        wait_until(lambda: len(worker.times) >= 7, "the pauses have grown")
        done = len(worker.times)
        worker.wake()
        wait_until(lambda: len(worker.times) >= done + 4, "they are short again", within=2.0)


def test_work_that_waits_is_told_to_end() -> None:
    begun = threading.Event()

    def waits() -> None:
        begun.set()
        assert worker.wait(NEVER)
        assert worker.closing

    worker = Counting(waits, begin=0.0)
    with running(worker):
        assert begun.wait(10)
    assert worker.errors == []


def test_one_that_was_never_started_is_closed_too() -> None:
    Counting(nothing).close()


def test_what_nobody_else_hears_of_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Plain(Worker):
        def work(self) -> None:
            raise errors.pop(0) if errors else TryAgain

    errors: list[Exception] = [Unavailable("away"), ValueError("surprise")]
    worker = Plain("plain", begin=0.0, first=0.01)
    with caplog.at_level("INFO"):
        worker.start()
        wait_until(lambda: "surprise" in caplog.text, "it is told")
        worker.close()
    assert "plain put off error=away" in caplog.text
    assert "plain put off for a reason nobody foresaw" in caplog.text
