"""Fixtures put a test in its tier, and what is missing skips it or, under CI=true, fails it."""

import pytest

pytest_plugins = ("pytester",)

TESTS = """
import pytest

@pytest.fixture
def world(topology): pass

def test_pure(): pass
def test_host(netns): pass
def test_host_by_way_of_another(world): pass
def test_kernel(netns, vlan_kernel): pass
def test_runtime(netns, qemu): pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    markers = "\n    ".join(f"{name}: a tier" for name in ("host", "kernel", "runtime"))
    pytester.makeini(
        f"[pytest]\naddopts = -p homeport_netns_fixtures.plugin --strict-markers\nmarkers =\n    {markers}\n"
    )
    return pytester


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        pytest.param("not host and not kernel and not runtime", ["test_pure"], id="pure"),
        pytest.param("host", ["test_host", "test_host_by_way_of_another"], id="host"),
        pytest.param("kernel", ["test_kernel"], id="kernel, though it asks for a namespace too"),
        pytest.param("runtime", ["test_runtime"], id="runtime, though it asks for a namespace too"),
    ],
)
def test_a_test_is_in_the_most_demanding_tier_of_its_fixtures(
    project: pytest.Pytester, selection: str, selected: list[str]
) -> None:
    project.makepyfile(test_tiers=TESTS)
    listed = project.runpytest("--collect-only", "-q", "-m", selection).outlines
    assert [line.split("::")[1] for line in listed if "::" in line] == selected


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [
        pytest.param("", {"passed": 1, "skipped": 2}, id="laptop"),
        pytest.param("true", {"passed": 1, "failed": 2}, id="CI"),
    ],
)
def test_what_is_missing_skips_on_a_laptop_and_fails_in_ci(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, outcome: dict[str, int]
) -> None:
    monkeypatch.setenv("CI", ci)
    project.makepyfile(
        """
        import pytest
        from homeport_netns_fixtures.capability import require

        def test_missing(): require("no flux capacitor: install one")
        def test_skipping_by_itself(): pytest.skip("not today")
        def test_here(): require(None)
        """
    )
    result = project.runpytest("-rsf")
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(["*no flux capacitor: install one*"])
