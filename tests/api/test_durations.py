"""Durations and times as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.durations import format_duration, format_time, parse_duration, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("30m", 1800), ("1h30m", 5400), ("250ms", 0.25), ("1.5h", 5400), ("2d", 172800), ("0s", 0)],
)
def test_durations_are_numbers_with_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "24 h", "-1h", "1y", "1h 30m", "never", "٣h"])
def test_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.integers(0, 10**10))
def test_a_duration_is_read_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.floats(0, 4e9))
def test_a_time_is_read_back_to_the_nanosecond(seconds: float) -> None:
    assert abs(parse_time(format_time(seconds)) - seconds) < 1e-9


@given(st.floats(1e9, 4e9))
def test_a_present_day_time_is_read_back_the_same(seconds: float) -> None:
    assert parse_time(format_time(seconds)) == seconds


def test_times_are_rfc_3339() -> None:
    assert format_time(1748779200.5) == "2025-06-01T12:00:00.5Z"
    assert parse_time("2025-06-01T14:00:00+02:00") == 1748779200
    with pytest.raises(ValueError, match="is not a time"):
        parse_time("yesterday")
