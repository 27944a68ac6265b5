"""The linters are tests: the one place that says how each is called. `make lint` runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from homeport_netns_fixtures.capability import require
from homeport_netns_fixtures.programs import missing_programs, search_path

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
SHELL_SCRIPTS = [
    os.fspath(path) for path in (*ROOT.glob("scripts/*"), ROOT / ".ci/run", *ROOT.glob("*/homeport_*/*.sh"))
]


@pytest.mark.lint
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "format", "--check", "."], id="ruff format"),
        pytest.param(["ruff", "check", "."], id="ruff check"),
        pytest.param(["mypy"], id="mypy"),
        pytest.param(["pyright"], id="pyright"),
        pytest.param(["lint-imports"], id="lint-imports"),
        pytest.param(["shellcheck", *SHELL_SCRIPTS], id="shellcheck"),
    ],
)
def test_finds_nothing(command: list[str]) -> None:
    environment = os.environ | {"PATH": os.pathsep.join([os.fspath(BIN), search_path()])}
    if not (BIN / command[0]).exists():
        require(missing_programs(command[0]))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)
