"""A reader for watches in tests: a thread that collects, and waits with a limit."""

import threading
import time
from collections.abc import Callable

from homeport_store.protocol import Change, Watch

WITHIN = 30.0


class Reader:
    """Collects every batch of a watch until it is closed."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.batches: list[tuple[Change, ...]] = []
        self.empty_batches = 0
        self._news = threading.Condition(threading.RLock())
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def changes(self) -> list[Change]:
        with self._news:
            return [change for batch in self.batches for change in batch]

    def wait(self, condition: Callable[[list[Change]], bool], within: float = WITHIN) -> list[Change]:
        with self._news:
            done = self._news.wait_for(lambda: condition(self.changes), within)
        assert done, f"not seen within {within} s: {self.changes[-20:]}"
        return self.changes

    def wait_key(self, key: str) -> list[Change]:
        return self.wait(lambda changes: any(change.key == key for change in changes))

    def close(self) -> None:
        self.watch.close()
        self._thread.join(WITHIN)
        assert not self._thread.is_alive(), "the watch did not end"

    def _read(self) -> None:
        for batch in self.watch:
            with self._news:
                if batch:
                    self.batches.append(batch)
                else:
                    self.empty_batches += 1
                self._news.notify_all()


def wait_until(condition: Callable[[], bool], within: float = WITHIN) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not so within {within} s"
        time.sleep(0.01)
