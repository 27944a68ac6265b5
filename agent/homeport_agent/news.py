"""What of a batch of the store's changes is news. A resync sends everything again, of which mostly nothing is."""

from collections.abc import Iterable, Iterator

from homeport_store.protocol import Change


class News:
    """Remembers of each key what was let through last, in a few bytes. For one thread."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}

    def of(self, changes: Iterable[Change]) -> Iterator[Change]:
        """All but what a resync repeats. The revision alone does not tell: where the store was put back to an older
        copy and went on from there, it has the same ones for something else."""
        for change in changes:
            if change.value is None:
                known = self._last.pop(change.key, None)
                if known is not None or not change.resync:
                    yield change
                continue
            now = (change.mod_revision, hash(change.value))
            if not change.resync or self._last.get(change.key) != now:
                self._last[change.key] = now
                yield change
