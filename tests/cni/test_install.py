"""install-cni: which shim is chosen, how it appears, and what it never touches."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homeport_api.errors import AlreadyExists, HomeportError, Invalid
from homeport_cni import install as module
from homeport_cni.build import build
from homeport_cni.install import CONF_FILE, MAX_RUN_DIR, Shim, install
from tests.cni.conftest import ENVIRON, compiler

RUN_DIR = Path("/run/homeport")
PACKAGE = Path(module.__file__).parent


def socket_asked_for(executable: Path) -> str:
    """Where an installed shim looks for its agent, from its own complaint."""
    done = subprocess.run([executable], env=ENVIRON, input=b'{"network": "blue"}', capture_output=True, timeout=30)
    return str(json.loads(done.stdout)["msg"]).split(" at ")[1].split(": ")[0]


@pytest.mark.parametrize("run_dir", ['/tmp/it\'s "quoted" ä', "/" + "x" * (MAX_RUN_DIR - 1)])
def test_both_executables_look_where_they_were_told(kind: Shim, tmp_path: Path, run_dir: str) -> None:
    bin_dir = tmp_path / "made" / "bin"
    installed = install(bin_dir, Path(run_dir), prefer=kind)
    assert installed.shim is kind
    assert installed.executables == (bin_dir / "homeport", bin_dir / "homeport-ipam")
    assert sorted(bin_dir.iterdir()) == sorted(installed.executables), "nothing else is left there"
    for executable in installed.executables:
        assert socket_asked_for(executable) == f"{run_dir}/agent.sock"
        assert executable.stat().st_mode & 0o7777 == 0o755


PT_INTERP = 3


def segment_types(program: bytes) -> list[int]:
    """The types of an ELF file's segments (elf(5), 64-bit): who needs a dynamic loader has one that names it."""
    start, size, count = (int.from_bytes(program[at:end], "little") for at, end in ((32, 40), (54, 56), (56, 58)))
    return [int.from_bytes(program[at : at + 4], "little") for at in range(start, start + size * count, size)]


def test_the_c_shim_is_static_and_says_who_built_it(tmp_path: Path) -> None:
    compiler()
    installed = install(tmp_path, RUN_DIR)
    assert (installed.shim, installed.how.split()[0]) == (Shim.C, "built")
    program = installed.executables[0].read_bytes()
    assert program[:4] == b"\x7fELF"
    assert PT_INTERP not in segment_types(program), "it needs a dynamic loader"
    assert b"ld-musl" not in program


def test_the_python_shim_names_its_interpreter_absolutely(tmp_path: Path) -> None:
    first_line = install(tmp_path, RUN_DIR, prefer=Shim.PYTHON).executables[0].read_bytes().split(b"\n")[0]
    assert first_line == f"#!{os.path.realpath(sys.executable)} -IS".encode()


def test_a_repeat_replaces_and_a_running_executable_goes_on(tmp_path: Path) -> None:
    compiler()
    (executable, _) = install(tmp_path, Path("/tmp/hp-old")).executables
    with subprocess.Popen([executable], env=ENVIRON, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        install(tmp_path, Path("/tmp/hp-new"))
        stdout, _stderr = running.communicate(b'{"network": "blue"}', timeout=30)
    assert b"/tmp/hp-old/agent.sock" in stdout
    assert socket_asked_for(executable) == "/tmp/hp-new/agent.sock"
    install(tmp_path, Path("/tmp/hp-python"), prefer=Shim.PYTHON)
    assert socket_asked_for(executable) == "/tmp/hp-python/agent.sock"


@pytest.mark.parametrize(
    ("compilers", "said"),
    [
        pytest.param({}, "no C compiler is installed", id="none there"),
        pytest.param({"cc": "echo 'shim.c: no libc.a' >&2; exit 1"}, "cc: shim.c: no libc.a", id="one that fails"),
        pytest.param(
            {"cc": 'while [ "$1" != -o ]; do shift; done; : > "$2"'}, "cc: has no place for", id="one that builds junk"
        ),
    ],
)
def test_without_a_compiler_the_python_shim_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilers: dict[str, str], said: str
) -> None:
    path = tmp_path / "path"
    path.mkdir()
    for name, script in compilers.items():
        (path / name).write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n")
        (path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(path))
    installed = install(tmp_path / "bin", RUN_DIR)
    assert installed.shim is Shim.PYTHON
    assert said in installed.how


def shipped(tmp_path: Path, content: bytes, path: str) -> tuple[str, Path]:
    """What `install` says in an installation that came with this built shim."""
    shutil.copytree(PACKAGE, tmp_path / "site" / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "shim"))
    (tmp_path / "site" / PACKAGE.name / "shim").write_bytes(content)
    api = Path(sys.modules["homeport_api"].__file__ or "").parent.parent
    code = (
        "import sys, pathlib; from homeport_cni.install import install; "
        "print(install(pathlib.Path(sys.argv[1]), pathlib.Path('/r')).how)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "bin"],
        env={"PATH": path, "PYTHONPATH": f"{tmp_path / 'site'}:{api}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, tmp_path / "bin"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    compiler()
    program = tmp_path_factory.mktemp("built") / "shim"
    build(program)
    return program.read_bytes()


def test_a_shipped_shim_needs_no_compiler(tmp_path: Path, built: bytes) -> None:
    how, bin_dir = shipped(tmp_path, built, path="/nonexistent")
    assert how.startswith(f"the shipped {tmp_path}/site")
    assert socket_asked_for(bin_dir / "homeport") == "/r/agent.sock"


def test_a_shipped_shim_of_another_machine_is_not_installed(tmp_path: Path, built: bytes) -> None:
    other_machine = built[:18] + b"\xf3\x00" + built[20:]  # e_machine of the ELF header: RISC-V
    how, bin_dir = shipped(tmp_path, other_machine, path=os.environ["PATH"])
    assert how.startswith("built with")
    assert "does not run here: " in how
    assert "Exec format error" in how
    assert sorted(path.name for path in bin_dir.iterdir()) == ["homeport", "homeport-ipam"]


@pytest.mark.parametrize("name", ["homeport", "homeport-ipam"])
def test_a_foreign_executable_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("#!/usr/bin/python3\nthe command line\n")
    with pytest.raises(AlreadyExists, match="is not an executable of ours"):
        install(tmp_path, RUN_DIR, prefer=Shim.PYTHON)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_configuration_is_written_for_one_network(tmp_path: Path) -> None:
    conf = install(tmp_path, Path("/tmp/r"), tmp_path / "net.d", "blue", Shim.PYTHON).conf
    assert conf == tmp_path / "net.d" / CONF_FILE
    document = json.loads(conf.read_bytes())
    assert (document["cniVersion"], document["name"]) == ("1.0.0", "blue")
    (plugin,) = document["plugins"]
    assert (plugin["type"], plugin["network"], plugin["runDir"]) == ("homeport", "blue", "/tmp/r")
    assert plugin["capabilities"] == {"ips": True, "mac": True, "io.kubernetes.cri.pod-annotations": True}
    assert conf.stat().st_mode & 0o7777 == 0o644

    install(tmp_path, Path("/tmp/r"), tmp_path / "net.d", "red", Shim.PYTHON)
    assert json.loads(conf.read_bytes())["name"] == "red"
    assert [path.name for path in (tmp_path / "net.d").iterdir()] == [CONF_FILE]


@pytest.mark.parametrize(
    "content",
    [
        "not JSON",
        '{"plugins": []}',
        '{"plugins": [{"type": "bridge"}]}',
        '{"plugins": [{"type": "homeport", "network": "b", "runDir": "/r", "capabilities": {}}, {"type": "portmap"}]}',
        '{"plugins": [{"type": "homeport", "network": "b", "runDir": "/r", "capabilities": {}, "mtu": 1}]}',
        '{"plugins": 5}',
        "[]",
    ],
)
def test_a_configuration_somebody_made_or_changed_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / CONF_FILE).write_text(content)
    with pytest.raises(AlreadyExists, match=CONF_FILE):
        install(tmp_path / "bin", RUN_DIR, tmp_path, "blue", Shim.PYTHON)
    assert (tmp_path / CONF_FILE).read_text() == content
    assert not (tmp_path / "bin").exists(), "refused before anything was written"


@pytest.mark.parametrize("run_dir", ["run/homeport", "/" + "x" * MAX_RUN_DIR, "/a\nb"])
def test_a_run_dir_that_cannot_be(tmp_path: Path, run_dir: str) -> None:
    with pytest.raises(Invalid, match="absolute path of at most 96 bytes"):
        install(tmp_path, Path(run_dir))


def test_a_configuration_needs_a_directory_and_a_network(tmp_path: Path) -> None:
    for conf_dir, network in ((tmp_path, None), (None, "blue")):
        with pytest.raises(Invalid, match="needs both"):
            install(tmp_path, RUN_DIR, conf_dir, network)


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeportError, match=f"{tmp_path}/file"):
        install(tmp_path / "file", RUN_DIR, prefer=Shim.PYTHON)
