"""Cases from files: each line of a `*.jsonl.gz` is one. Policies and namespaces go through the parser of manifests."""

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from homeport_api.addresses import IpAddress
from homeport_api.errors import Invalid
from homeport_api.manifest import Document, read_manifest
from homeport_api.networkpolicy import Namespace, NetworkPolicy
from homeport_api.workload import NamedPort, Protocol
from tests.conformance.case import OUTSIDE, Case, Expectation, Nic, Pod

T = TypeVar("T")
_STEP = re.compile(r"-step\d+\Z")


class Malformed(ValueError):
    """A folder or file that cannot be read as cases; the text says where and why."""


def read_folder(folder: Path, only: str = "") -> list[Case]:
    """All cases whose id begins with `only`, file by file in the order in which they stand there."""
    if not folder.is_dir():
        raise Malformed(f"{folder} is not a directory: CASES=DIR names the one with the *.jsonl.gz files")
    files = sorted(folder.glob("*.jsonl.gz"))
    if not files:
        raise Malformed(f"{folder} has no *.jsonl.gz files")
    cases = [case for file in files for case in read_file(file) if case.id.startswith(only)]
    if not cases:
        raise Malformed(f"{folder} has no case" + (f" whose id begins with {only!r}" if only else ""))
    return cases


def read_file(file: Path) -> Iterator[Case]:
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _read_line(file.name, number, line)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise Malformed(f"{file}: {error}") from error


def chain_of(case_id: str) -> str:
    """What the steps of one case have in common."""
    return _STEP.sub("", case_id)


def _read_line(file: str, number: int, line: str) -> Case:
    where = f"{file}:{number}"
    try:
        body = json.loads(line)
    except ValueError as error:
        raise Malformed(f"{where}: not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Malformed(f"{where}: must be an object, not {type(body).__name__}")
    try:
        return _case(file, body)
    except Malformed as error:
        raise Malformed(f"{where}: {error}") from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Malformed(f"{where}: {type(error).__name__}: {error}") from error


def _case(file: str, body: Mapping[str, Any]) -> Case:
    name = _need(body, "id", str)
    policies: tuple[NetworkPolicy, ...] = ()
    refused = None
    try:
        policies = _policies(name, _need(body, "policies", list))
    except Invalid as invalid:
        refused = "; ".join(f"{each.path}: {each.message}" for each in invalid.fields)
    pods = tuple(map(_pod, _need(body, "pods", list)))
    known = {f"{pod.namespace}/{pod.name}" for pod in pods}
    expectations = tuple(map(_expectation, _need(body, "expect", list)))
    for each in expectations:
        for end in (each.source, each.target):
            if end not in known and not end.startswith(OUTSIDE):
                raise Malformed(f"case {name} expects something of {end}, which is not among its pods")
            if end.startswith(OUTSIDE):
                ip_address(end.removeprefix(OUTSIDE))
    # Where its two engines disagree, `allowed` is the second's, which follows the documentation.
    agreement = body.get("agreement") or {}
    disputed = any(each not in ("same", None) for each in agreement.values())
    namespaces = _namespaces(_need(body, "namespaces", dict))
    return Case(name, file, namespaces, pods, policies, expectations, disputed, refused)


def _policies(name: str, bodies: Sequence[object]) -> tuple[NetworkPolicy, ...]:
    objects = read_manifest(Document(name, body) for body in bodies).objects
    return tuple(each for each in objects if isinstance(each, NetworkPolicy))


def _namespaces(bodies: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    manifests = [
        Document(
            "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}}
        )
        for name, labels in bodies.items()
    ]
    try:
        objects = read_manifest(manifests).objects
    except Invalid as invalid:
        raise Malformed(str(invalid)) from invalid
    return {each.name: each.meta.labels for each in objects if isinstance(each, Namespace)}


def _pod(body: Mapping[str, Any]) -> Pod:
    ports = tuple(
        NamedPort(port["name"], int(port["containerPort"]), Protocol(port.get("protocol") or "TCP"))
        for port in body.get("containerPorts") or ()
        if port.get("name")
    )
    if "networks" in body:
        nics = tuple(Nic(_addresses(each["ips"]), _definition(each["name"])) for each in body["networks"])
    else:
        nics = (Nic(_addresses(_need(body, "ips", list))),)
    return Pod(_need(body, "ns", str), _need(body, "name", str), dict(body.get("labels") or {}), ports, nics)


def _expectation(body: Mapping[str, Any]) -> Expectation:
    target_network = _definition(body.get("network"))
    return Expectation(
        _need(body, "from", str),
        _need(body, "to", str),
        _need(body, "port", int),
        Protocol(_need(body, "protocol", str)),
        _need(body, "allowed", bool),
        _definition(body.get("fromNetwork")) or target_network,
        target_network,
        ip_address(body["srcIP"]) if body.get("srcIP") else None,
        ip_address(body["dstIP"]) if body.get("dstIP") else None,
    )


def _addresses(texts: Sequence[str]) -> tuple[IpAddress, ...]:
    return tuple(map(ip_address, texts))


def _definition(text: str | None) -> tuple[str, str] | None:
    if not text:
        return None
    namespace, _, name = text.rpartition("/")
    return namespace, name


def _need(body: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = body.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Malformed(f"{key} must be {kind.__name__}, not {type(value).__name__}")
    return value
