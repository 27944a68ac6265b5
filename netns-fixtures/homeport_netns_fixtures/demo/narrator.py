"""What the demonstration prints: steps, sentences, the commands that it runs, and what they answered."""

import os
import shlex
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import TextIO

WIDTH = 100


class Narrator:
    """Remembers the step that is being told, so that a failure can name it."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self.title = "the preparations"
        self._out = out
        self._next = 1
        self._colours = out.isatty() and "NO_COLOR" not in os.environ
        self._began = time.monotonic()

    def step(self, title: str) -> None:
        self.title = f"step {self._next} ({title})"
        elapsed = f"{time.monotonic() - self._began:.0f} s"
        self._print("")
        self._print(self._styled("1", f"{self._next}. {title}") + self._styled("2", f"   [{elapsed}]"))
        self._next += 1

    def say(self, text: str) -> None:
        self._print(textwrap.fill(" ".join(text.split()), WIDTH, break_on_hyphens=False, break_long_words=False))

    def command(self, *argv: str) -> None:
        self._print(self._styled("36", f"    $ {shlex.join(argv)}"))

    def output(self, text: str) -> None:
        for line in text.splitlines():
            self._print(f"    {line}".rstrip())

    def fact(self, text: str) -> None:
        """Something that was looked at and is so."""
        self._print(f"    {self._styled('32', 'ok')}  {text}")

    def table(self, rows: Sequence[tuple[str, ...]]) -> None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            self.output("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))

    def _styled(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)
