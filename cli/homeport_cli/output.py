"""How things are printed: tables on a terminal, plain columns in a pipe, JSON and YAML. The one file that knows."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import click
import yaml


class Form(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Table:
    """`wide` columns are shown with `-o wide` only. Cells are text; an empty one is shown as `-`."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wide: frozenset[str] = frozenset()

    def narrowed(self) -> "Table":
        kept = [at for at, name in enumerate(self.columns) if name not in self.wide]
        rows = tuple(tuple(row[at] for at in kept) for row in self.rows)
        return Table(tuple(self.columns[at] for at in kept), rows)


def print_table(table: Table, form: Form, *, terminal: bool) -> None:
    shown = table if form is Form.WIDE else table.narrowed()
    rows = [tuple(cell or "-" for cell in row) for row in shown.rows]
    if terminal:
        _print_rich(shown.columns, rows)
    else:
        for line in plain(shown.columns, rows):
            click.echo(line)


def plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns that line up, three spaces apart, for `awk` and for eyes."""
    lines = [tuple(columns), *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def print_data(data: Any, form: Form) -> None:
    if form is Form.JSON:
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)


def as_list(items: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """The way kubectl prints several objects; `apply` reads it back."""
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


def age(seconds: float) -> str:
    """How long ago, in the two units that matter, as kubectl has it: 3d4h, 5m, 40s."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            break
    return "".join(parts) or "0s"


def count(number: int) -> str:
    """A number, or the power of two next to it when it is too long to be read: an IPv6 pool's capacity."""
    return str(number) if number < 10**9 else f"~2^{round(math.log2(number))}"


def counted(number: int, word: str) -> str:
    """1 flow, 2 flows; of words that take an s."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # takes long to import, and a pipe needs none of it
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in columns:
        grid.add_column(column, no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in row))
    Console().print(grid)


_STYLES = {
    "True": "green",
    "False": "red",
    "Active": "green",
    "yes": "green",
    "no": "red",
    "ok": "green",
    "broken": "red",
}
