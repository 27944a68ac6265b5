"""A thread that does one piece of work over and over: when it is woken, and by itself where the work says so.

    wake ──► together ──► work ──┬──► None: until it is woken
                ▲                ├──► seconds: for as long, or until it is woken
                │                └──► it raised: for a pause that grows each time, or until it is woken
                └─────────────────────────────────────────────────────────────────────────────────────┘

Wakes that come together are one. One that comes while work is done is work afterwards. Whatever work raises, the thread
goes on: what it keeps right must not end with the first error that nobody foresaw.
"""

import logging
import threading
from abc import ABC, abstractmethod

from homeport_api.errors import HomeportError

log = logging.getLogger(__name__)

JOIN = 5.0
"""Seconds that a close waits for work to come to its end."""


class TryAgain(Exception):
    """Raised by work that is not done, to be tried again as after any error."""


class Worker(ABC):
    """`start` once, `wake` and `close` at any time, `wake` from any thread. The first work is `begin` seconds after the
    start (None: not before a wake). `first` and `longest` are the pauses after errors, `together` what is waited after
    a wake for more of them."""

    def __init__(
        self,
        name: str,
        *,
        begin: float | None = None,
        first: float = 0.5,
        longest: float = 30.0,
        together: float = 0.0,
    ) -> None:
        self._name = name
        self._begin = begin
        self._pauses = first, longest
        self._together = together
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def work(self) -> float | None:
        """Done by the thread alone. Returns the seconds after which it is to be done again; None: when it is woken."""

    def failed(self, error: Exception) -> None:
        """Told of what `work` raised: into the log, where nothing else is to be done about it."""
        if isinstance(error, HomeportError):
            log.info("%s put off error=%s", self._name, error)
        else:
            log.error("%s put off for a reason nobody foresaw", self._name, exc_info=error)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Work is done soon, also one that came before the start."""
        self._wake.set()

    def close(self) -> None:
        """Waits for work that is being done. A worker that was never started is closed too."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(JOIN)

    @property
    def closing(self) -> bool:
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """For work that takes long: True, at once, when it is to end."""
        return self._stop.wait(seconds)

    def _run(self) -> None:
        first, longest = self._pauses
        pause = self._begin
        retry = first
        while True:
            woken = self._wake.wait(pause)
            if self._stop.wait(self._together):
                return
            self._wake.clear()
            if woken:
                retry = first
            try:
                pause, retry = self.work(), first
            except Exception as error:  # noqa: BLE001  whatever it was: it is told, and the thread goes on
                if not isinstance(error, TryAgain):
                    self.failed(error)
                pause, retry = retry, min(2 * retry, longest)
