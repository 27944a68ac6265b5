"""Builds the C shim: at installation where a compiler is at hand, and into the wheel. The standard library alone, since
the wheel's build hook loads it before anything is installed."""

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
SHIPPED = Path(__file__).with_name("shim")
"""Where a wheel carries the built one."""
COMPILERS = ("musl-gcc", "cc", "gcc", "clang")
"""musl first: its static programs start in a third of the time of glibc's."""
FLAGS = ("-std=c11", "-static", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")


class CannotBuild(Exception):
    """No compiler here builds it; the text has what each of them said."""


def build(target: Path) -> str:
    """Builds the shim as `target`, with the first compiler that can; returns which. A static program, so that it runs
    on whatever node it is copied to."""
    said: list[str] = []
    for name in COMPILERS:
        compiler = shutil.which(name)
        if compiler is None:
            continue
        done = subprocess.run(
            [compiler, *FLAGS, "-o", os.fspath(target), os.fspath(SOURCE)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode == 0:
            return compiler
        said.append(f"{compiler}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    raise CannotBuild("; ".join(said) or f"no C compiler is installed (looked for {', '.join(COMPILERS)})")
