"""The CNI protocol, once: environment and stdin in, exit code and stdout out.

Pure. What a command does is the caller's `Commands`; every misuse of the protocol ends here, as a row of `COMMANDS`
or a rule of `grammar`. Reference: CNI SPEC 1.1.0, section 2 "Execution Protocol". VERSION never comes this far: the
shims answer it, so that it needs no agent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from homeport_api.errors import BadEnvironment, Exhausted, HomeportError, Invalid, Unavailable
from homeport_cni import errors
from homeport_cni.conf import IPAM_EXECUTABLE, VALID_ATTACHMENTS, NetConf, declared_version, parse_conf
from homeport_cni.errors import IncompatibleVersion, NotReady
from homeport_cni.grammar import ifname_error, name_error, parse_args
from homeport_cni.result import Result, encode
from homeport_cni.versions import is_at_least

EXECUTABLES = ("homeport", IPAM_EXECUTABLE)


@dataclass(frozen=True, slots=True)
class CniRequest:
    """One call, well-formed. `container_id`, `ifname` and `netns` are empty where the command has none."""

    executable: str
    command: str
    conf: NetConf
    container_id: str = ""
    ifname: str = ""
    netns: str = ""
    args: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def ipam(self) -> bool:
        """Called for addresses alone, by a plugin that makes the link."""
        return self.executable == IPAM_EXECUTABLE

    @property
    def chained(self) -> bool:
        return not self.ipam and self.conf.names_nothing


class Commands(Protocol):
    """What the executables do. Each raises HomeportError to refuse; `crashed` is told of anything else, for the log."""

    def add(self, request: CniRequest) -> Result: ...
    def check(self, request: CniRequest) -> None: ...
    def delete(self, request: CniRequest) -> None: ...
    def gc(self, request: CniRequest) -> None: ...
    def status(self, request: CniRequest) -> None: ...
    def crashed(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True)
class Command:
    """`needs`: variables without which the call is refused. `since`: the first version of the specification that has
    the command. `strict`: errors in the rest of the configuration and in CNI_ARGS refuse the call. DEL is not: what ADD
    refused for them must still be deletable."""

    needs: tuple[str, ...]
    since: str
    strict: bool = True


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "ADD": Command(needs=("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"), since="0.3.1"),
        "CHECK": Command(needs=("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"), since="0.4.0"),
        "DEL": Command(needs=("CNI_CONTAINERID", "CNI_IFNAME"), since="0.3.1", strict=False),
        "GC": Command(needs=("CNI_PATH",), since="1.1.0"),
        "STATUS": Command(needs=(), since="1.1.0"),
    }
)
_GRAMMAR = {"CNI_CONTAINERID": name_error, "CNI_IFNAME": ifname_error}


def dispatch(executable: str, environ: Mapping[str, str], stdin: bytes, commands: Commands) -> tuple[int, bytes]:
    """Exit code and stdout of one call. Never raises: whatever goes wrong is an error JSON with its code."""
    try:
        request = parse_request(executable, environ, stdin)
        return 0, _run(request, commands)
    except HomeportError as error:
        return 1, errors.render(error, declared_version(stdin))
    except Exception as error:  # noqa: BLE001  the rim: a traceback belongs into the log, never onto stdout
        commands.crashed(error)
        return 1, errors.render(error, declared_version(stdin))


def parse_request(executable: str, environ: Mapping[str, str], stdin: bytes) -> CniRequest:
    """The call as a value. Environment first (code 4), then decoding (6), version (1) and configuration (7)."""
    if executable not in EXECUTABLES:
        raise BadEnvironment(f"the executable is called {executable!r}; it must be one of {', '.join(EXECUTABLES)}")
    name = environ.get("CNI_COMMAND", "")
    command = COMMANDS.get(name)
    if command is None:
        given = f"is {name!r}" if name else "is not set"
        raise BadEnvironment(f"CNI_COMMAND {given}; it must be one of {', '.join(COMMANDS)} or VERSION")
    missing = [variable for variable in command.needs if not environ.get(variable)]
    if missing:
        raise BadEnvironment(f"{name} needs {', '.join(missing)}, not set here")
    wrong = [
        f"{variable} {problem}"
        for variable, check in _GRAMMAR.items()
        if variable in command.needs and (problem := check(environ[variable]))
    ]
    if wrong:
        raise BadEnvironment("; ".join(wrong))
    args = parse_args(environ.get("CNI_ARGS", "")) if command.strict else {}

    conf = parse_conf(stdin, executable, command.strict)
    if not is_at_least(conf.cni_version, command.since):
        raise IncompatibleVersion(
            f"{name} exists since CNI {command.since}; the network configuration has cniVersion {conf.cni_version}"
        )
    return CniRequest(
        executable,
        name,
        conf,
        environ.get("CNI_CONTAINERID", ""),
        environ.get("CNI_IFNAME", ""),
        environ.get("CNI_NETNS", ""),
        MappingProxyType(args),
    )


def _run(request: CniRequest, commands: Commands) -> bytes:
    match request.command:
        case "ADD":
            return encode(commands.add(request), request.conf.cni_version)
        case "CHECK":
            commands.check(request)
        case "DEL":
            commands.delete(request)
        case "GC":
            if request.conf.valid_attachments is None:
                raise Invalid(f"GC needs {VALID_ATTACHMENTS}; without it everything or nothing could be meant")
            commands.gc(request)
        case _:
            _status(request, commands)
    return b""


def _status(request: CniRequest, commands: Commands) -> None:
    """A chained configuration serves ordinary pods, which need nothing of us: a failing STATUS would make kubelet drain
    the node for them. What keeps an unchained one from working is code 50, whatever it is to an ADD."""
    if request.chained:
        return
    try:
        commands.status(request)
    except (Unavailable, Exhausted) as error:
        raise NotReady(str(error)) from error
