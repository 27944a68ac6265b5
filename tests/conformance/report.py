"""The table at a run's end: a line for each file, a column for each kind of verdict."""

from collections.abc import Iterator, Sequence

from tests.conformance.tally import Tally


def as_text(tally: Tally, columns: Sequence[str]) -> str:
    """The mismatches, then the table, then the sums in words."""
    rows = [["file", "cases", *columns, "mismatches"]]
    rows += [_row(tally, file, (file,), columns) for file in sorted(tally.cases)]
    if len(tally.cases) > 1:
        rows.append(_row(tally, "all", sorted(tally.cases), columns))
    verdicts = sum(counts[column] for counts in tally.verdicts.values() for column in columns)
    sums = f"{verdicts} verdicts, {len(tally.mismatches)} mismatches"
    return "\n".join([*map(str, tally.mismatches), *_aligned(rows), sums])


def _row(tally: Tally, title: str, files: Sequence[str], columns: Sequence[str]) -> list[str]:
    counts = [sum(tally.verdicts[file][column] for file in files) for column in columns]
    wrong = sum(each.file in files for each in tally.mismatches)
    return [title, str(sum(tally.cases[file] for file in files)), *map(str, counts), str(wrong)]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = (
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *others))
