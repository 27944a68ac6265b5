"""Programs and kernels are found on the machine, and else where `make setup` unpacked them."""

from pathlib import Path

import pytest

from homeport_netns_fixtures import programs
from homeport_netns_fixtures.programs import Flavour


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", f"{tmp_path}")
    return tmp_path / "homeport"


def test_a_built_program_is_found_behind_those_of_the_machine(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory in (cache / "bin", cache / "machine"):
        directory.mkdir(parents=True)
        (directory / "tool").touch(0o755)
    monkeypatch.setenv("PATH", f"{cache}/machine")
    assert programs.find_program("tool") == f"{cache}/machine/tool"
    monkeypatch.setenv("PATH", "/nowhere")
    assert programs.find_program("tool") == f"{cache}/bin/tool"


def test_what_is_missing_is_named_with_the_remedy(cache: Path) -> None:
    assert programs.missing_programs("sh") is None
    reason = programs.missing_programs("sh", "no-such-tool")
    assert reason == "no no-such-tool: `make setup` as root installs what is missing"


def test_the_newest_kernel_of_a_flavour_that_has_modules_is_taken(cache: Path) -> None:
    # Beyond any version that the machine itself may have.
    for release, modules in (("999.1.0-9-amd64", True), ("999.1.0-10-amd64", True), ("999.2.0-1-amd64", False)):
        (cache / "debian/boot").mkdir(parents=True, exist_ok=True)
        (cache / f"debian/boot/vmlinuz-{release}").touch()
        if modules:
            (cache / f"debian/lib/modules/{release}").mkdir(parents=True)
    found = programs.find_kernel(Flavour.STOCK)
    assert found is not None
    assert (found.release, found.modules) == ("999.1.0-10-amd64", cache / "debian/lib/modules/999.1.0-10-amd64")
    cloud = programs.find_kernel(Flavour.CLOUD)
    assert cloud is None or "cloud" in cloud.release


@pytest.mark.parametrize(
    ("content", "static"),
    [pytest.param(b"\x7fELF", True, id="static"), pytest.param(b"\x7fELF/lib64/ld-linux", False, id="dynamic")],
)
def test_only_a_static_busybox_is_taken(cache: Path, content: bytes, static: bool) -> None:
    busybox = cache / "debian/bin/busybox"
    busybox.parent.mkdir(parents=True)
    busybox.write_bytes(content)
    assert (programs.find_busybox() == busybox) == static
