"""Durations and points in time as text: `24h`, `1h30m`, `250ms`; RFC 3339."""

import re
from datetime import UTC, datetime

_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = r"[0-9]+(?:\.[0-9]+)?(?:ms|d|h|m|s)"
_WHOLE = re.compile(rf"(?:{_PART})+")
_EACH = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|d|h|m|s)")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError for anything but numbers with units."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a duration: write numbers with the units d, h, m, s or ms, like 24h or 1h30m"
        )
    return sum(float(number) * _UNITS[unit] for number, unit in _EACH.findall(text))


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back, in hours, minutes and seconds."""
    whole = int(seconds)
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s")]
    text = "".join(f"{number}{unit}" for number, unit in parts if number)
    if rest := round((seconds - whole) * 1000, 6):
        text += f"{rest:.6f}".rstrip("0").rstrip(".") + "ms"
    return text or "0s"


def parse_time(text: str) -> float:
    """Seconds since the epoch."""
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a time, like 2025-06-01T12:00:00Z")
    whole = datetime.fromisoformat(found[1] + found[3])
    return float(f"{int(whole.timestamp())}{found[2] or ''}")


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC, with as many digits as it takes to read back the same float."""
    whole, _, fraction = f"{seconds:.9f}".partition(".")
    fraction = fraction.rstrip("0")
    text = datetime.fromtimestamp(int(whole), UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"
