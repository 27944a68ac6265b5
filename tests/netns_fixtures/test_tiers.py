"""The tier runner counts what pytest reports, and a tier that did not run is a failure."""

from pathlib import Path

import pytest

from homeport_netns_fixtures import tiers

REPORT = """<testsuites><testsuite>
  <testcase name="a"/>
  <testcase name="b"><failure message="no"/></testcase>
  <testcase name="c"><failure message="no"/><error message="and its teardown"/></testcase>
  <testcase name="d"><skipped message="no etcd"/></testcase>
  <testcase name="e"><error message="set-up"/></testcase>
</testsuite></testsuites>"""


def test_a_report_is_counted_by_test(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    assert tiers.read(tmp_path / "report.xml") == (1, 3, ("no etcd",))


def test_a_missing_report_counts_nothing(tmp_path: Path) -> None:
    assert tiers.read(tmp_path / "report.xml") == (0, 0, ())


@pytest.mark.parametrize(
    ("outcomes", "code", "closing"),
    [
        pytest.param([tiers.Outcome("pure", 5, 0, (), 1.0)], 0, "5 passed, 0 failed, 0 skipped in 1 s", id="passed"),
        pytest.param([tiers.Outcome("pure", 5, 2, (), 1.0)], 1, "5 passed, 2 failed, 0 skipped in 1 s", id="failed"),
        pytest.param(
            [tiers.Outcome("pure", 5, 0, (), 1.0), tiers.Outcome("host", 0, 0, (), 2.0, "no tests")],
            1,
            "5 passed, 1 failed, 0 skipped in 3 s",
            id="a tier that did not run",
        ),
        pytest.param(
            [tiers.Outcome("host", 1, 0, ("no etcd",), 1.0)], 0, "1 passed, 0 failed, 1 skipped in 1 s", id="skip"
        ),
    ],
)
def test_the_last_line_has_the_sums(
    capsys: pytest.CaptureFixture[str], outcomes: list[tiers.Outcome], code: int, closing: str
) -> None:
    assert tiers.summarise(outcomes) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == closing
    assert all(any(line.startswith(outcome.tier) for line in lines) for outcome in outcomes)


def test_an_unknown_tier_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert tiers.main(["pure", "nightly"]) == 2
    assert "no such tier: nightly; there are lint, pure, host, kernel, runtime" in capsys.readouterr().err
