"""Tables, ages and counts as text."""

import pytest

from homeport_cli.output import Form, Table, age, count, plain, print_table

TABLE = Table(("NAME", "MORE"), (("a", ""), ("long name", "x")), frozenset({"MORE"}))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (3_700, "1h1m"), (86_400, "1d"), (90_000, "1d1h")],
)
def test_ages_have_two_units(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (254, "254"), (2**64 - 1, "~2^64"), (2**24, "16777216")])
def test_counts_can_be_read(number: int, text: str) -> None:
    assert count(number) == text


def test_columns_line_up_without_trailing_space() -> None:
    assert plain(("NAME", "MORE"), [("a", "b"), ("longer", "")]) == ["NAME     MORE", "a        b", "longer"]


def test_wide_columns_are_left_out_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(TABLE, Form.TABLE, terminal=False)
    assert capsys.readouterr().out == "NAME\na\nlong name\n"
    print_table(TABLE, Form.WIDE, terminal=False)
    assert capsys.readouterr().out == "NAME        MORE\na           -\nlong name   x\n"


def test_a_terminal_gets_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(TABLE, Form.WIDE, terminal=True)
    assert capsys.readouterr().out.split() == ["NAME", "MORE", "a", "-", "long", "name", "x"]
