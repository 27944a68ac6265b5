"""What the installers write, and that others can call it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from .harness import Cli


def test_the_unit_runs_the_agent_with_what_was_given(cli: Cli, tmp_path: Path) -> None:
    cli.environ["HOMEPORT_NODE"] = "from-env"
    result = cli("install-service", "--unit-dir", str(tmp_path), "--run-dir", "/run/a b%", "--heartbeat", "5s")
    assert result.exit_code == 0, result.stderr
    unit = (tmp_path / "homeport.service").read_text()
    (start,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert start == f'ExecStart={sys.executable} -m homeport_cli agent --run-dir "/run/a b%%" --heartbeat 5s'
    assert "KillMode=process" in unit
    assert cli("install-service", "--unit-dir", str(tmp_path)).exit_code == 0


@pytest.mark.parametrize("verb", [["install-service", "--unit-dir"], ["install-qemu-ifup"]])
def test_what_somebody_else_wrote_stays(cli: Cli, tmp_path: Path, verb: list[str]) -> None:
    for name in ("homeport.service", "homeport-ifup"):
        (tmp_path / name).write_text("mine")
    result = cli(*verb, str(tmp_path))
    assert result.exit_code == 5
    assert "move it away first" in result.stderr


def test_the_cni_executables_are_installed_with_a_configuration(cli: Cli, tmp_path: Path) -> None:
    bin_dir, conf_dir = tmp_path / "bin", tmp_path / "conf"
    result = cli(
        *("install-cni", "--bin-dir", str(bin_dir), "--conf-dir", str(conf_dir), "--network", "blue"),
        *("--shim", "python", "--run-dir", "/run/other"),
    )
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in bin_dir.iterdir()) == ["homeport", "homeport-ipam"]
    assert "/run/other" in next(conf_dir.iterdir()).read_text()
    assert len(result.stdout.splitlines()) == 3


def scripts(cli: Cli, tmp_path: Path) -> Path:
    """The scripts, and in place of the interpreter a program that prints how it was called."""
    directory = tmp_path / "scripts"
    result = cli("install-qemu-ifup", str(directory), "--run-dir", "/run/x y")
    assert result.exit_code == 0, result.stderr
    printer = tmp_path / "printer"
    printer.write_text('#!/bin/sh\nprintf "%s\\n" "ns=${HOMEPORT_NAMESPACE:-}" "$@"\n')
    printer.chmod(0o755)
    for script in directory.iterdir():
        assert stat.S_IMODE(script.stat().st_mode) == 0o755
        script.write_text(script.read_text().replace(f"{sys.executable} ", f"{printer} "))
    return directory


def call(script: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run([script, "tap7"], capture_output=True, text=True, check=False, env=clean)


def test_a_hypervisor_says_whose_tap_it_is_by_its_environment(cli: Cli, tmp_path: Path) -> None:
    directory = scripts(cli, tmp_path)
    done = call(directory / "homeport-ifup", HOMEPORT_VM="web", HOMEPORT_NETWORK="lab")
    common = ["-m", "homeport_cli"]
    assert done.stderr.splitlines() == [
        "ns=",
        *common,
        *("attach", "--run-dir", "/run/x y", "web", "--interface", "eth0", "--tap", "tap7", "--network", "lab"),
    ]
    done = call(directory / "homeport-ifdown", HOMEPORT_VM="web", HOMEPORT_INTERFACE="eth1")
    assert done.stderr.splitlines() == [
        "ns=",
        *common,
        *("detach", "--run-dir", "/run/x y", "web", "--interface", "eth1"),
    ]


@pytest.mark.parametrize(("code", "answer"), [(0, 0), (3, 0), (4, 1)])
def test_a_tap_that_is_gone_already_is_no_failure(cli: Cli, tmp_path: Path, code: int, answer: int) -> None:
    directory = scripts(cli, tmp_path)
    (tmp_path / "printer").write_text(f"#!/bin/sh\nexit {code}\n")
    assert call(directory / "homeport-ifdown", HOMEPORT_VM="web").returncode == answer


def test_or_a_file_beside_the_script_says_it(cli: Cli, tmp_path: Path) -> None:
    directory = scripts(cli, tmp_path)
    (directory / "tap7.conf").write_text(
        "# for web\nHOMEPORT_VM=web; rm -rf /\nHOMEPORT_INTERFACE_OBJECT=web-eth0\nHOMEPORT_NAMESPACE=shop\n"
    )
    called = call(directory / "homeport-ifup").stderr.splitlines()
    assert called[0] == "ns=shop"
    assert "web; rm -rf /" in called
    assert called[-2:] == ["--interface-object", "web-eth0"]


def test_an_unknown_tap_or_name_is_refused(cli: Cli, tmp_path: Path) -> None:
    directory = scripts(cli, tmp_path)
    done = call(directory / "homeport-ifup")
    assert done.returncode == 2
    assert (
        f"whose tap is tap7? Set HOMEPORT_VM and HOMEPORT_NETWORK for the hypervisor, or write {directory}"
        in done.stderr
    )
    (directory / "tap7.conf").write_text("VM=web\n")
    done = call(directory / "homeport-ifup")
    assert done.returncode == 2
    assert "unknown name VM" in done.stderr
