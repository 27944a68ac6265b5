"""Documents of manifests into objects, all errors of all documents at once. Reading YAML itself is the caller's."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from homeport_api.errors import FieldError, Invalid
from homeport_api.table import describe
from homeport_api.wire import KINDS, AnyKind, AnyObject


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed document and where it was found, like `lab.yaml:12`; empty when that says nothing."""

    source: str
    body: object


@dataclass(frozen=True, slots=True)
class Manifest:
    """The objects in the order they were written, and what was accepted without effect."""

    objects: tuple[AnyObject, ...]
    warnings: tuple[FieldError, ...]


def read_manifest(documents: Iterable[Document], namespace: str = "default") -> Manifest:
    """Every document, or `Invalid` with the errors of all of them. Empty documents are skipped, a `List` is taken
    apart, and the same object twice is an error. `namespace` is for objects that name none."""
    objects: list[AnyObject] = []
    warnings: list[FieldError] = []
    errors: list[FieldError] = []
    seen: dict[tuple[str, str, str], str] = {}
    for document in _flatten(documents):
        where = _where(document)
        try:
            kind = kind_of(document.body)
            body: Mapping[str, Any] = document.body if isinstance(document.body, Mapping) else {}
            value, told = kind.parse(body, namespace)
        except Invalid as invalid:
            errors += [_located(where, error) for error in invalid.fields]
            continue
        warnings += [_located(where, warning) for warning in told]
        identity = (kind.name, value.meta.namespace, value.meta.name)
        if (first := seen.setdefault(identity, where)) is not where:
            errors.append(_located(where, FieldError("metadata.name", f"is defined twice; the first is {first}")))
        objects.append(value)
    if errors:
        raise Invalid(errors)
    return Manifest(tuple(objects), tuple(warnings))


def kind_of(body: object) -> AnyKind:
    """The kind that `apiVersion` and `kind` name. Raises `Invalid` with the nearest known one."""
    if not isinstance(body, Mapping):
        raise Invalid(
            [FieldError("", f"must be an object with apiVersion, kind, metadata and spec, not {describe(body)}")]
        )
    version, name = body.get("apiVersion"), body.get("kind")
    missing = [
        FieldError(field, "is required") for field, value in (("apiVersion", version), ("kind", name)) if value is None
    ]
    if missing:
        raise Invalid(missing)
    for kind in KINDS:
        if (version, name) in kind.apis:
            return kind
    groups: dict[str, list[str]] = {}
    for kind in KINDS:
        for known_version, known_name in kind.apis:
            groups.setdefault(known_name, []).append(known_version)
    if isinstance(name, str) and name in groups:
        message = f"{version!r} is not known for {name}: write {' or '.join(groups[name])}"
        raise Invalid([FieldError("apiVersion", message)])
    near = difflib.get_close_matches(str(name), groups, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(groups)}"
    raise Invalid([FieldError("kind", f"{name!r} is not known here; {hint}")])


def kind_by_name(word: str) -> AnyKind | None:
    """The kind that a user calls `word`, like `net` or `interfaces`. Upper and lower case are the same."""
    return next((kind for kind in KINDS if word.lower() in kind.names), None)


def _flatten(documents: Iterable[Document]) -> Iterator[Document]:
    for document in documents:
        match document.body:
            case None:
                continue
            case {"kind": "List", "items": list(items)}:
                yield from _flatten(Document(document.source, item) for item in items)
            case _:
                yield document


def _where(document: Document) -> str:
    kind = name = None
    if isinstance(document.body, Mapping):
        kind, metadata = document.body.get("kind"), document.body.get("metadata")
        name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return " ".join(str(part) for part in (document.source, kind, name) if part)


def _located(where: str, error: FieldError) -> FieldError:
    return FieldError(" ".join(part for part in (where, error.path) if part), error.message)
