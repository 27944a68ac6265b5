"""What the process does before there is an agent."""

import logging

from homeport_agent.__main__ import OneLine


def test_a_name_cannot_forge_a_line_of_the_log() -> None:
    record = logging.LogRecord(
        "agent", logging.INFO, "", 0, "container=%s", ("a\n2026 ERROR forged\x1b[2J\ud800",), None
    )
    assert OneLine("%(levelname)s %(message)s").format(record) == (r"INFO container=a\n2026 ERROR forged\x1b[2J\ud800")
