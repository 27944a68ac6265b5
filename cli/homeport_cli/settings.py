"""What the command line is told, and by whom: option over environment over configuration file over default.

Every setting has one name: `--run-dir`, `HOMEPORT_RUN_DIR`, `run-dir` in the file. The layers are put together here and
not by the option parser, because a common option may stand before or after the verb, and the environment must lose to
both.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homeport_api.durations import parse_duration
from homeport_api.errors import FieldError, Invalid

CONFIG_PATH = Path("/etc/homeport/config.toml")


@dataclass(frozen=True, slots=True)
class Setting:
    """`meta` is what `--help` shows for the value. `agent` marks those that only the agent uses."""

    name: str
    meta: str
    default: str
    help: str
    agent: bool = False

    @property
    def variable(self) -> str:
        return "HOMEPORT_" + self.name.upper().replace("-", "_")


SETTINGS = (
    Setting("run-dir", "DIR", "/run/homeport", "The agent's sockets."),
    Setting("data-dir", "DIR", "/var/lib/homeport", "What the agent keeps on disk, the embedded etcd included."),
    Setting("node", "NAME", "", "Name of this node; the host's name by default."),
    Setting("cluster-name", "NAME", "homeport", "Goes into every MAC that is chosen; never change it later."),
    Setting("etcd-endpoints", "URLS", "", "External etcd: https://HOST:PORT,…; the embedded one by default."),
    Setting("cacert", "FILE", "", "CA of the external etcd."),
    Setting("cert", "FILE", "", "Client certificate for the external etcd."),
    Setting("key", "FILE", "", "Its key."),
    Setting("namespace", "NAME", "default", "Namespace of Interfaces and VirtualMachines."),
    Setting("rest", "DURATION", "10m", "How long a released address rests before it is given to another."),
    Setting("store-grace", "DURATION", "5m", "How long the store may be away before STATUS fails.", agent=True),
    Setting("heartbeat", "DURATION", "90s", "How long a node may be silent before it counts as gone.", agent=True),
    Setting(
        "learned-idle",
        "DURATION",
        "5m",
        "How long a learned address must be unused to give way to another.",
        agent=True,
    ),
    Setting("restore-wait", "DURATION", "2m", "How long to wait for all nodes after a restore.", agent=True),
    Setting("max-requests", "N", "32", "Requests at work at once; the rest queue.", agent=True),
    Setting("queue-deadline", "DURATION", "60s", "How long a request may queue.", agent=True),
    Setting("http-address", "HOST:PORT", "", "Metrics and health on TCP too.", agent=True),
    Setting("boot-id", "ID", "", "In place of the kernel's.", agent=True),
    Setting("machine-id", "ID", "", "In place of /etc/machine-id.", agent=True),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(slots=True)
class Given:
    """What was said on the command line, gathered while it is parsed; the verb's options come after the group's."""

    options: dict[str, str] = field(default_factory=dict)
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The outcome. `explicit` are the settings that somebody set, with the text they were set to."""

    explicit: Mapping[str, str]

    def text(self, name: str) -> str:
        return self.explicit.get(name, BY_NAME[name].default)

    def path(self, name: str) -> Path | None:
        return Path(text) if (text := self.text(name)) else None

    def seconds(self, name: str) -> float:
        """Raises Invalid for what is no duration."""
        try:
            return parse_duration(self.text(name))
        except ValueError as error:
            raise Invalid([FieldError(f"--{name}", str(error))]) from error

    @property
    def run_dir(self) -> Path:
        return Path(self.text("run-dir"))

    @property
    def data_dir(self) -> Path:
        return Path(self.text("data-dir"))

    @property
    def node(self) -> str:
        return self.text("node") or os.uname().nodename

    @property
    def namespace(self) -> str:
        return self.text("namespace")

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Empty: the embedded etcd."""
        return tuple(part.strip() for part in self.text("etcd-endpoints").split(",") if part.strip())


def resolve(given: Given, environ: Mapping[str, str]) -> Settings:
    """Puts the layers together. Raises Invalid for a configuration file that cannot be read or has unknown keys; a
    missing one is no error unless it was named."""
    named = given.config or (Path(environ["HOMEPORT_CONFIG"]) if environ.get("HOMEPORT_CONFIG") else None)
    explicit = dict(_from_file(named or CONFIG_PATH, required=named is not None))
    explicit |= {
        setting.name: environ[setting.variable] for setting in SETTINGS if environ.get(setting.variable) is not None
    }
    return Settings(explicit | given.options)


def _from_file(path: Path, *, required: bool) -> Iterator[tuple[str, str]]:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text())
    except FileNotFoundError:
        if required:
            raise Invalid(f"{path}: there is no such configuration file") from None
        return
    except (OSError, ValueError) as error:
        raise Invalid(f"{path}: {error}") from error
    errors = [FieldError(f"{path}: {name}", _unknown(name)) for name in content if name not in BY_NAME]
    for name, value in content.items():
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            content[name] = ",".join(value)
        elif isinstance(value, bool) or not isinstance(value, str | int):
            errors.append(FieldError(f"{path}: {name}", f"must be text in quotes, not {value!r}"))
    if errors:
        raise Invalid(errors)
    for name, value in content.items():
        yield name, str(value)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, BY_NAME, n=1)
    return f"unknown setting; did you mean {near[0]}?" if near else f"unknown setting; known are {', '.join(BY_NAME)}"
