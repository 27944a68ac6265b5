"""Puts the executables `homeport` and `homeport-ipam` into a runtime's plugin directory, and a configuration into its
configuration directory.

The C shim where one was shipped or can be built, the Python one elsewhere. Each file appears by a rename, so a runtime
never executes half of one, and one that is executing at the moment goes on with the file it has.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from homeport_api.errors import AlreadyExists, HomeportError, Invalid
from homeport_cni.build import SHIPPED, CannotBuild, build
from homeport_cni.conf import ANNOTATIONS
from homeport_cni.skel import EXECUTABLES
from homeport_cni.versions import SUPPORTED

MARK = b"homeport-run-dir="
"""In both shims; in the C one the slot for the run directory follows it."""
MAX_RUN_DIR = 96
"""unix(7): 107 bytes for the socket's path, of which `/agent.sock` takes 11."""
MAX_SHEBANG = 127
CONF_FILE = "10-homeport.conflist"
_DEFAULT_RUN_DIR = "/run/homeport"


class Shim(StrEnum):
    C = "c"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class Installed:
    """What is there now. `how` says where the shim comes from, and why it is not the preferred one."""

    shim: Shim
    how: str
    executables: tuple[Path, ...]
    conf: Path | None = None


def install(
    bin_dir: Path,
    run_dir: Path,
    conf_dir: Path | None = None,
    network: str | None = None,
    prefer: Shim = Shim.C,
) -> Installed:
    """Installs both executables, and with `conf_dir` a configuration for `network`. A repeat replaces what an earlier
    one installed. A file that is not ours is never replaced (AlreadyExists): neither in `bin_dir`, where the command
    line is called `homeport` too, nor in `conf_dir`. The directories are made where they are missing."""
    _check(run_dir, conf_dir, network)
    conf = None if conf_dir is None or network is None else (conf_dir / CONF_FILE, _conf(network, run_dir))
    targets = tuple(bin_dir / name for name in EXECUTABLES)
    for target in targets:
        if target.exists() and MARK not in _read(target):
            raise AlreadyExists(
                f"{target} is not an executable of ours to replace; --bin-dir is the runtime's plugin directory, "
                "like /opt/cni/bin"
            )
    if conf is not None:
        _check_conf(conf[0])

    shim, how, content = _choose(bin_dir, run_dir, prefer)
    for target in targets:
        with _replacing(target, content, 0o755):
            pass
    if conf is not None:
        with _replacing(conf[0], conf[1], 0o644):
            pass
    return Installed(shim, how, targets, None if conf is None else conf[0])


def _check(run_dir: Path, conf_dir: Path | None, network: str | None) -> None:
    if not run_dir.is_absolute() or len(os.fsencode(run_dir)) > MAX_RUN_DIR or "\n" in str(run_dir):
        raise Invalid(f"run directory {run_dir}: must be an absolute path of at most {MAX_RUN_DIR} bytes")
    if (conf_dir is None) != (network is None):
        raise Invalid("a configuration needs both: the directory to write it to, and the Network it is for")


def _choose(bin_dir: Path, run_dir: Path, prefer: Shim) -> tuple[Shim, str, bytes]:
    """The first shim that runs here. Each candidate is tried where it will live: that directory may forbid execution,
    and a shipped one may be another machine's."""
    reasons: list[str] = []
    for shim, how, content in _candidates(run_dir, prefer, reasons):
        with _replacing(bin_dir / EXECUTABLES[0], content, 0o755, keep=False) as trial:
            problem = _try(trial)
        if problem is None:
            return shim, "; ".join((how, *reasons)), content
        reasons.append(f"{how} does not run here: {problem}")
    raise HomeportError(f"no shim can be installed in {bin_dir}: {'; '.join(reasons)}")


def _candidates(run_dir: Path, prefer: Shim, reasons: list[str]) -> Iterator[tuple[Shim, str, bytes]]:
    """Best first; why one is missing goes into `reasons`."""
    if prefer is Shim.C:
        for how, program in _programs(reasons):
            try:
                yield Shim.C, how, patch_run_dir(program, run_dir)
            except ValueError as error:
                reasons.append(f"{how}: {error}")
    interpreter = os.path.realpath(sys.executable)
    shebang = f"#!{interpreter} -IS\n".encode()
    if len(shebang) > MAX_SHEBANG or len(interpreter.split()) != 1:
        reasons.append(f"the interpreter's path {interpreter!r} is too long or has spaces: a kernel would not start it")
        return
    source = Path(__file__).with_name("shim.py").read_text()
    line = f'RUN_DIR = "{_DEFAULT_RUN_DIR}"'
    if source.count(line) != 1:
        raise HomeportError("shim.py has no place for the run directory; the installation of homeport is damaged")
    yield Shim.PYTHON, f"run by {interpreter}", shebang + source.replace(line, f"RUN_DIR = {str(run_dir)!r}").encode()


def _programs(reasons: list[str]) -> Iterator[tuple[str, bytes]]:
    """C shims to be had, and where from."""
    if SHIPPED.exists():
        yield f"the shipped {SHIPPED}", _read(SHIPPED)
    with tempfile.TemporaryDirectory(prefix="homeport-shim-") as directory:
        built = Path(directory) / "shim"
        try:
            yield f"built with {build(built)}", _read(built)
        except (CannotBuild, subprocess.TimeoutExpired) as error:
            reasons.append(f"the C shim cannot be built: {error}")


def patch_run_dir(program: bytes, run_dir: Path) -> bytes:
    """The built C shim with `run_dir` in its slot, of the same size. Raises ValueError when it has no slot."""
    start = program.find(MARK) + len(MARK)
    if program.count(MARK) != 1:
        raise ValueError("has no place for the run directory")
    slot = os.fsencode(run_dir).ljust(MAX_RUN_DIR + 1, b"\0")
    return program[:start] + slot + program[start + len(slot) :]


def _try(executable: Path) -> str | None:
    """Why it does not run, or None: it must answer VERSION as itself."""
    try:
        done = subprocess.run(
            [executable], env={"CNI_COMMAND": "VERSION"}, input=b"", capture_output=True, timeout=30, check=False
        )
        if json.loads(done.stdout)["supportedVersions"] == list(SUPPORTED):
            return None
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    except (ValueError, LookupError, TypeError):
        pass
    return "it does not answer VERSION"


def _conf(network: str, run_dir: Path) -> bytes:
    """`cniVersion` for runtimes that know one version, `cniVersions` for those that choose (CNI SPEC 1.1.0)."""
    document: dict[str, Any] = {
        "cniVersion": "1.0.0",
        "cniVersions": list(SUPPORTED),
        "name": network,
        "plugins": [
            {
                "type": EXECUTABLES[0],
                "network": network,
                "runDir": str(run_dir),
                "capabilities": {"ips": True, "mac": True, ANNOTATIONS: True},
            }
        ],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _check_conf(path: Path) -> None:
    """Ours is what `_conf` writes, whatever its Network: one plugin with just these keys. Anything else was made or
    changed by somebody."""
    if not path.exists():
        return
    try:
        plugins = json.loads(_read(path))["plugins"]
        if len(plugins) == 1 and plugins[0].keys() == {"type", "network", "runDir", "capabilities"}:
            return
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    raise AlreadyExists(f"{path} was not written by install-cni, or changed since; move it away or edit it yourself")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HomeportError(f"{path}: {error.strerror}") from error


@contextmanager
def _replacing(target: Path, content: bytes, mode: int, keep: bool = True) -> Iterator[Path]:
    """A finished file beside `target`, for the block to look at; then renamed to it, or with `keep` False removed.
    Nothing of it is left when the block or the writing fails."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            yield temporary
            if keep:
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise HomeportError(f"cannot write {target}: {error.strerror or error}") from error
