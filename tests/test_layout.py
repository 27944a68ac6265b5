"""The folders, and everything that lists them, agree."""

import ast
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDERS = {path.parent.name: path.name for path in ROOT.glob("*/homeport_*") if path.is_dir()}
FIXTURES = "netns-fixtures"


def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


def test_each_folder_holds_the_package_of_its_name() -> None:
    assert {folder: f"homeport_{folder.replace('-', '_')}" for folder in FOLDERS} == FOLDERS
    assert FIXTURES in FOLDERS


def test_every_tool_knows_every_folder() -> None:
    tool = settings()
    assert set(tool["hatch"]["build"]["dev-mode-dirs"]) == set(FOLDERS)
    assert set(tool["ruff"]["src"]) == set(FOLDERS)
    assert set(tool["pyright"]["include"]) == set(FOLDERS)
    assert set(tool["mypy"]["packages"]) == set(FOLDERS.values())
    assert set(tool["importlinter"]["root_packages"]) == set(FOLDERS.values())
    assert {Path(path).name for path in tool["mypy"]["mypy_path"].split(":")} == set(FOLDERS)


def test_the_wheel_has_every_package_but_the_fixtures() -> None:
    shipped = set(settings()["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert shipped == {f"{folder}/{package}" for folder, package in FOLDERS.items() if folder != FIXTURES}


def test_a_package_opens_with_a_docstring_and_nothing_else() -> None:
    for folder, package in FOLDERS.items():
        body = ast.parse((ROOT / folder / package / "__init__.py").read_text()).body
        assert len(body) == 1, package
        assert isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant), package


def test_each_folder_of_tests_is_a_package_and_mirrors_one_of_ours() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders - {"bench", "conformance", "kernel", "runtime"} <= {
        package.removeprefix("homeport_") for package in FOLDERS.values()
    }
    assert all((ROOT / "tests" / folder / "__init__.py").exists() for folder in folders)


def test_every_dependency_is_locked_with_hashes_and_from_no_named_place() -> None:
    for name in ("requirements.lock", "requirements-go.lock"):
        text = (ROOT / name).read_text()
        pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert pinned and all("==" in line for line in pinned)
        assert text.count("--hash=sha256:") >= len(pinned)
        assert "://" not in text
