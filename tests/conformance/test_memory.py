"""The runner's part in memory, on cases written here."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.__main__ import main
from tests.conformance.literal import ONLY_WEB, SHUT, WEB, case, expect, pod, policy, write


def test_cases_that_are_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        tmp_path,
        case("none", [], expect("shop/other", "shop/db", True)),
        case(
            "peer",
            [ONLY_WEB],
            expect("shop/web", "shop/db", True),
            expect("shop/other", "shop/db", False),
            expect("ip:203.0.113.7", "shop/db", False),
            expect("shop/db", "ip:203.0.113.7", True),
        ),
    )
    assert main([str(tmp_path), "--packets", "none"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("own.jsonl.gz"))
    assert line.split() == ["own.jsonl.gz", "2", "5", "10", "0"]


def test_an_expectation_that_is_not_met_is_told_with_its_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        tmp_path, case("wrong", [ONLY_WEB], expect("shop/web", "shop/db", True), expect("shop/other", "shop/db", True))
    )
    assert main([str(tmp_path), "--packets", "none"]) == 1
    told = capsys.readouterr().out
    assert "MISMATCH wrong [oracle and compiler]: shop/other -> shop/db 5432/TCP must be allowed" in told
    assert "ingress denied by NetworkPolicy shop/only-web" in told
    assert "rules (access): drop, counted by in_" in told
    assert told.count("MISMATCH") == 1


def test_steps_continue_the_case_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_for = {"expect": [expect("shop/web", "shop/db", True), expect("shop/other", "shop/db", False)]}
    fourth = [*case("", [])["pods"], pod("late", WEB, "192.0.2.14")]
    write(
        tmp_path,
        case("change-step1", [SHUT], expect("shop/web", "shop/db", False)),
        case("change-step2", [ONLY_WEB], **open_for),
        case("change-step3", [ONLY_WEB], expect("shop/late", "shop/db", True), pods=fourth),
        case("change-step4", [], expect("shop/other", "shop/db", True)),
    )
    assert main([str(tmp_path), "--packets", "none"]) == 0, capsys.readouterr().out


def test_a_policy_speaks_of_the_network_that_a_pod_is_attached_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def attached(name: str, last: int) -> dict[str, Any]:
        networks = [
            {"name": f"shop/{nad}", "interface": f"net{number}", "ips": [f"192.0.2.{last + 100 * number}"]}
            for number, nad in enumerate(("blue", "green"))
        ]
        return {"ns": "shop", "name": name, "labels": {}, "containerPorts": [], "networks": networks}

    multi = SHUT | {"kind": "MultiNetworkPolicy", "apiVersion": "k8s.cni.cncf.io/v1beta1"}
    multi["metadata"] = multi["metadata"] | {"annotations": {"k8s.v1.cni.cncf.io/policy-for": "blue"}}
    write(
        tmp_path,
        case(
            "multi",
            [multi],
            expect("shop/web", "shop/db", False, network="shop/blue"),
            expect("shop/web", "shop/db", True, network="shop/green"),
            expect("shop/web", "shop/db", False, network="shop/green", fromNetwork="shop/blue"),
            pods=[attached("web", 11), attached("db", 12)],
        ),
    )
    assert main([str(tmp_path), "--packets", "none"]) == 0, capsys.readouterr().out


def test_a_refused_policy_is_a_mismatch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, case("refused", [policy("odd", podSelectr={})], expect("shop/web", "shop/db", True)))
    assert main([str(tmp_path), "--packets", "none"]) == 1
    assert "MISMATCH refused [parser]: policies are refused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("{", "own.jsonl.gz:1: not JSON", id="not JSON"),
        pytest.param("[]", "own.jsonl.gz:1: must be an object", id="no object"),
        pytest.param(json.dumps({"id": "a"}), "policies must be list", id="a field is missing"),
        pytest.param(
            json.dumps(case("a", [], expect("shop/web", "shop/nobody", True))), "shop/nobody", id="an unknown pod"
        ),
        pytest.param(
            json.dumps(case("a", [], expect("shop/web", "shop/web", True))), "never crosses the switch", id="to itself"
        ),
        pytest.param(json.dumps(case("a", [], expect("shop/web", "ip:nowhere", True))), "nowhere", id="no address"),
    ],
)
def test_what_cannot_be_read_is_said(line: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gzip.open(tmp_path / "own.jsonl.gz", "wt") as lines:
        lines.write(line)
    assert main([str(tmp_path), "--packets", "none"]) == 2
    assert told in capsys.readouterr().err


def test_no_folder_no_files_and_no_gzip_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        assert main([str(folder), "--packets", "none"]) == 2
        assert str(folder) in capsys.readouterr().err
    (tmp_path / "own.jsonl.gz").write_text("plain")
    assert main([str(tmp_path), "--packets", "none"]) == 2
    assert "own.jsonl.gz" in capsys.readouterr().err
