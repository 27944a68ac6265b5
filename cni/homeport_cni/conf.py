"""The network configuration: stdin's JSON as a typed value, with every error by its path.

Pure. Reference: CNI SPEC 1.1.0, section 1, and CONVENTIONS.md for runtimeConfig and args. `homeport` has its keys at
the top level; `homeport-ipam` has the same keys under `ipam`, beside keys that are its caller's.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from homeport_api.errors import BadInput, FieldError, Invalid
from homeport_cni.asked import NOTHING_ASKED, Asked, parse_asked
from homeport_cni.errors import IncompatibleVersion
from homeport_cni.grammar import name_error
from homeport_cni.result import PrevResult, decode_prev
from homeport_cni.versions import NEWEST, SUPPORTED

IPAM_EXECUTABLE = "homeport-ipam"
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
VALID_ATTACHMENTS = "cni.dev/valid-attachments"

_OUR_KEYS = frozenset(("type", "network", "interface", "runDir"))
_SPEC_KEYS = frozenset(
    (
        "cniVersion",
        "cniVersions",
        "name",
        "capabilities",
        "runtimeConfig",
        "args",
        "prevResult",
        "dns",
        "disableCheck",
        "disableGC",
        VALID_ATTACHMENTS,
        "cni.dev/attachments",
    )
)
_ARGS_KEYS = frozenset(("namespace", "vm", "interface", "ips", "mac"))
MAX_TEXT = 253
"""As long as the longest name of a Kubernetes object."""
MAX_NAMED = 16
"""Unknown keys of one object that are named."""


@dataclass(frozen=True, slots=True)
class CniArgs:
    """`args.cni`: whoever wrote the configuration, or under Multus the pod's author."""

    namespace: str | None = None
    vm: str | None = None
    interface: str | None = None
    asked: Asked = NOTHING_ASKED


@dataclass(frozen=True, slots=True)
class AttachmentRef:
    """An entry of `cni.dev/valid-attachments`."""

    container_id: str
    ifname: str


@dataclass(frozen=True, slots=True)
class NetConf:
    """`annotations` None: the runtime passes no pod annotations, which is as good as a pod without any.
    `valid_attachments` None: the key is missing, so that GC must free nothing."""

    cni_version: str
    name: str
    type: str
    network: str | None = None
    interface: str | None = None
    asked: Asked = NOTHING_ASKED
    annotations: Mapping[str, str] | None = None
    args: CniArgs = CniArgs()
    prev_result: PrevResult | None = None
    valid_attachments: tuple[AttachmentRef, ...] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def names_nothing(self) -> bool:
        """Neither a Network nor an Interface: for `homeport`, a chained call."""
        return self.network is None and self.interface is None


def parse_conf(stdin: bytes, executable: str, strict: bool = True) -> NetConf:
    """What cannot be decoded is BadInput; a cniVersion we do not speak IncompatibleVersion; everything else that is
    wrong one Invalid with all errors. With `strict` False (DEL, which must succeed for what ADD refused) only name,
    type and version are insisted on, and other errors become warnings."""
    try:
        document = json.loads(stdin.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the network configuration on stdin is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadInput("the network configuration on stdin is JSON, but not an object")
    version = document.get("cniVersion")
    if version not in SUPPORTED:
        given = "has no cniVersion" if version is None else f"has cniVersion {version!r}"
        raise IncompatibleVersion(f"the network configuration {given}; spoken are {', '.join(SUPPORTED)}")

    reader = _Reader(document)
    name, plugin_type = reader.text("name"), reader.text("type")
    if name is None:
        reader.error("name", "is missing")
    elif wrong := name_error(name):
        reader.error("name", wrong)
    if plugin_type is None:
        reader.error("type", "is missing")
    if name is None or plugin_type is None or reader.errors:
        raise Invalid(reader.errors)

    if executable == IPAM_EXECUTABLE:
        ours = reader.child("ipam")
        ours.warn_unknown(_OUR_KEYS)
    else:
        ours = reader
        ours.warn_unknown(_OUR_KEYS | _SPEC_KEYS)
    ours.text("runDir")  # the shim went there; here only its type is looked at
    runtime = reader.child("runtimeConfig")
    conf = NetConf(
        cni_version=version,
        name=name,
        type=plugin_type,
        network=ours.text("network"),
        interface=ours.text("interface"),
        asked=_asked(runtime, "runtimeConfig"),
        annotations=_annotations(runtime),
        args=_args(reader.child("args").child("cni")),
        prev_result=_prev_result(reader),
        valid_attachments=_valid_attachments(reader),
    )
    if reader.errors and strict:
        raise Invalid(reader.errors)
    return replace(conf, warnings=(*reader.warnings, *(f"ignored: {error}" for error in reader.errors)))


def declared_version(stdin: bytes) -> str:
    """The version an error is rendered in: the configuration's, or the newest where it has none that is spoken."""
    try:
        document = json.loads(stdin.decode())
    except (ValueError, RecursionError):
        return NEWEST
    version = document.get("cniVersion") if isinstance(document, dict) else None
    return version if version in SUPPORTED else NEWEST


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class _Reader:
    """One object of the document. Children share the lists, so that all errors come together."""

    def __init__(self, document: Mapping[str, Any], path: str = "", parent: "_Reader | None" = None) -> None:
        self.document = document
        self.path = path
        self.errors: list[FieldError] = [] if parent is None else parent.errors
        self.warnings: list[str] = [] if parent is None else parent.warnings

    def error(self, key: str, message: str) -> None:
        self.errors.append(FieldError(self.path + key, message))

    def child(self, key: str) -> "_Reader":
        """The object under `key`; an empty one when it is missing or something else."""
        value = self.document.get(key)
        if value is not None and not isinstance(value, dict):
            self.error(key, "must be an object")
            value = None
        return _Reader(value or {}, f"{self.path}{key}.", self)

    def text(self, key: str) -> str | None:
        """None where the key is missing, null or empty, as everywhere in CNI."""
        value = self.document.get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
            self.error(key, f"must be a string of at most {MAX_TEXT} printable characters")
            return None
        return value

    def entries(self, key: str) -> list[Any]:
        value = self.document.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.error(key, "must be a list")
            return []
        return value

    def warn_unknown(self, known: frozenset[str]) -> None:
        """A pod's author may have written the keys (`args.cni`), so neither time nor the log follows their number."""
        unknown = sorted(self.document.keys() - known)
        for key in unknown[:MAX_NAMED]:
            near = difflib.get_close_matches(key[:MAX_TEXT], known, 1)
            self.warnings.append(
                f"{self.path}{key[:MAX_TEXT]}: unknown key" + (f"; {near[0]!r} is meant?" if near else "")
            )
        if len(unknown) > MAX_NAMED:
            self.warnings.append(f"{self.path}*: {len(unknown) - MAX_NAMED} more unknown keys")


def _asked(reader: _Reader, source: str) -> Asked:
    """Each wrong address and a wrong MAC is an error of its own."""
    good: list[str] = []
    for index, entry in enumerate(reader.entries("ips")):
        try:
            if not isinstance(entry, str):
                raise ValueError("must be a string")
            parse_asked(source, (entry,))
            good.append(entry)
        except ValueError as error:
            reader.error(f"ips[{index}]", str(error))
    mac = reader.text("mac")
    try:
        return parse_asked(source, good, mac)
    except ValueError as error:
        reader.error("mac", str(error))
        return parse_asked(source, good)


def _args(reader: _Reader) -> CniArgs:
    reader.warn_unknown(_ARGS_KEYS)
    return CniArgs(reader.text("namespace"), reader.text("vm"), reader.text("interface"), _asked(reader, "args.cni"))


def _annotations(runtime: _Reader) -> Mapping[str, str] | None:
    if runtime.document.get(ANNOTATIONS) is None:
        return None
    annotations = runtime.child(ANNOTATIONS)
    for key, value in annotations.document.items():
        if not isinstance(value, str):
            annotations.error(key, "must be a string")
    return MappingProxyType({key: value for key, value in annotations.document.items() if isinstance(value, str)})


def _prev_result(reader: _Reader) -> PrevResult | None:
    if reader.document.get("prevResult") is None:
        return None
    try:
        return decode_prev(reader.child("prevResult").document)
    except Invalid as error:
        reader.errors.extend(error.fields)
        return None


def _valid_attachments(reader: _Reader) -> tuple[AttachmentRef, ...] | None:
    """An empty list is a statement (all of them are gone); a missing key is none."""
    if reader.document.get(VALID_ATTACHMENTS) is None:
        return None
    refs: list[AttachmentRef] = []
    for index, entry in enumerate(reader.entries(VALID_ATTACHMENTS)):
        match entry:
            case {"containerID": str(container_id), "ifname": str(ifname)}:
                refs.append(AttachmentRef(container_id, ifname))
            case _:
                reader.error(f"{VALID_ATTACHMENTS}[{index}]", "must be an object with containerID and ifname")
    return tuple(refs)
