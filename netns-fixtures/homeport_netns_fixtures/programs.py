"""Where the programs and kernels are that tests start, installed on the machine or unpacked by `make setup`.

`make setup` installs no daemon and no boot kernel on a machine that has none: it unpacks their Debian packages below
the cache directory, so that nothing starts by itself and no boot menu changes. What the machine has itself comes first.
"""

import os
import re
import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


def cache_dir() -> Path:
    """Downloads and builds that outlive a checkout: `$XDG_CACHE_HOME/homeport`, by default `~/.cache/homeport`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "homeport"


def unpacked_root() -> Path:
    """The root of the Debian packages that `make setup` unpacked rather than installed."""
    return cache_dir() / "debian"


def search_path() -> str:
    """PATH, then what an unprivileged PATH lacks, then what `make setup` built and unpacked."""
    root = unpacked_root()
    ours = (cache_dir() / "bin", root / "usr/bin", root / "usr/sbin", root / "bin")
    path = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin", "/sbin", *map(os.fspath, ours)]
    return os.pathsep.join(dict.fromkeys(path))


def find_program(name: str) -> str | None:
    return shutil.which(name, path=search_path())


def find_busybox() -> Path | None:
    """A statically linked busybox; the dynamic one would need its libraries in a guest's file system."""
    for path in (unpacked_root() / "bin/busybox", Path("/bin/busybox")):
        # A dynamic executable names its loader (PT_INTERP) right behind the program headers.
        if path.exists() and b"/ld-" not in path.read_bytes()[:4096]:
            return path
    return None


def missing_programs(*names: str) -> str | None:
    """Why a test that starts these cannot run here, with the remedy; None when all are there."""
    absent = [name for name in names if find_program(name) is None]
    return f"no {', '.join(absent)}: `make setup` as root installs what is missing" if absent else None


def find_cni_plugins() -> Path | None:
    """The directory of the stock CNI plugins (bridge, macvlan, host-local, ...)."""
    candidates = [Path("/usr/lib/cni"), Path("/opt/cni/bin"), unpacked_root() / "usr/lib/cni"]
    return next((path for path in candidates if (path / "bridge").exists()), None)


def find_new_cni_plugins() -> Path | None:
    """The directory of the newer ones that `make setup` built, which pass STATUS on."""
    built = cache_dir() / "cni-plugins"
    return built if (built / "bridge").exists() else None


class Flavour(Enum):
    """Debian's two kernels: STOCK has 9p, VLANs and bridge conntrack; CLOUD is small and boots in two seconds."""

    STOCK = re.compile(r"vmlinuz-(\d+\.\d+\.\d+-\d+-(?:amd64|arm64))")
    CLOUD = re.compile(r"vmlinuz-(\d+\.\d+\.\d+-\d+-cloud-(?:amd64|arm64))")


@dataclass(frozen=True, slots=True)
class Kernel:
    release: str
    image: Path
    modules: Path


def find_kernel(flavour: Flavour) -> Kernel | None:
    """The newest Debian kernel of that flavour that has its modules beside it."""
    found: list[tuple[tuple[int, ...], Kernel]] = []
    for root in (Path("/"), unpacked_root()):
        for image in (root / "boot").glob("vmlinuz-*"):
            match = flavour.value.fullmatch(image.name)
            modules = root / "lib/modules" / match[1] if match else None
            if match and modules and modules.is_dir():
                version = tuple(int(number) for number in re.findall(r"\d+", match[1]))
                found.append((version, Kernel(match[1], image, modules)))
    return max(found, key=lambda item: item[0])[1] if found else None
