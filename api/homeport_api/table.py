"""The engine behind `wire`: one field table per kind, from which everything about its written form is derived.

A table says once which fields a record has. Derived from it: parsing with all errors at once, each with its path as in
the manifest; refusal of unknown fields with the nearest known one; rendering; and the OpenAPI v3 structural schema that
a CRD carries. This file knows no field of ours; `scalars` has the leaves, `wire_*` the tables.

A *strict* reading is that of a manifest: unknown fields are refused and rules between fields are checked. A lenient one
is that of the store: what a newer Homeport wrote is ignored, and what an older one allowed is still read.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from homeport_api.errors import FieldError, Invalid

T = TypeVar("T")
W = TypeVar("W")
R = TypeVar("R", contravariant=True)
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a document is read. `foreign` admits the fields that only other API groups have; what is accepted without
    effect is told in `warnings`. `known` maps a field's name to the paths where the kind has it."""

    strict: bool = True
    foreign: bool = False
    warnings: list[FieldError] = field(default_factory=list)
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


LENIENT = Reading(strict=False, foreign=True)


class Type(Protocol[T]):
    """What a field holds. `parse` raises `Invalid` with every error below `path`; `render` is its inverse."""

    def parse(self, raw: object, path: str, reading: Reading, /) -> T: ...
    def render(self, value: T, /) -> object: ...
    def schema(self) -> Schema: ...


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record.

    `attr` is the attribute that holds it; a tuple when one field fills several, and empty when nothing is kept.
    `foreign` marks one that only other API groups have: accepted with the warning in `doc`. `silent` marks one that a
    server writes and a manifest may carry without any effect. `always` marks one that is written out even where
    it holds its default, as what it means is worth seeing."""

    name: str
    type: Type[Any]
    attr: str | tuple[str, ...]
    doc: str = ""
    required: bool = False
    foreign: bool = False
    silent: bool = False
    always: bool = False

    @property
    def attrs(self) -> tuple[str, ...]:
        return (self.attr,) if isinstance(self.attr, str) else self.attr


class Check(Protocol[R]):
    """A rule's function: the errors of a whole record, with paths relative to it."""

    def __call__(self, value: R, /) -> Iterable[FieldError]: ...


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """A rule between `fields`. It is not asked while one of them is wrong by itself, so no error is told twice."""

    fields: tuple[str, ...]
    check: Check[T]


def refuse(path: str, message: str) -> Invalid:
    return Invalid([FieldError(path, message)])


def describe(raw: object) -> str:
    """What a value is, in the words of somebody who writes YAML."""
    match raw:
        case None:
            return "empty"
        case bool():
            return f"the boolean {str(raw).lower()} (if text was meant, put it in quotes)"
        case int() | float():
            return f"the number {raw} (if text was meant, put it in quotes)"
        case str():
            return f"the text {raw!r}"
        case list():
            return "a list"
        case Mapping():
            return "an object"
        case _:
            return f"the {type(raw).__name__} {raw} (if text was meant, put it in quotes)"


def join(path: str, name: str) -> str:
    if not path or name.startswith("["):
        return path + name
    return f"{path}.{name}" if name else path


def expect_object(raw: object, path: str) -> Mapping[str, object]:
    if not isinstance(raw, Mapping):
        raise refuse(path, f"must be an object, not {describe(raw)}")
    return raw


class Record(Generic[T]):
    """An object whose fields are `fields`, held as a `build`, which is a dataclass."""

    def __init__(self, build: Callable[..., T], *fields: Field, rules: Sequence[Rule[T]] = ()) -> None:
        self._build = build
        self.fields = fields
        self._rules = tuple(rules)
        self._rendered = tuple(_rendering(build, fields))

    def parse(self, raw: object, path: str, reading: Reading) -> T:
        document = expect_object(raw, path)
        errors: list[FieldError] = []
        values: dict[str, Any] = {}
        for entry in self.fields:
            self._parse_field(entry, document, path, reading, values, errors)
        if not reading.strict:
            if errors:
                raise Invalid(errors)
            return self._build(**values)
        errors += self._unknown(document, path, reading)
        if all(attr in values for entry in self.fields if entry.required for attr in entry.attrs):
            value = self._build(**values)
            errors += self._broken_rules(value, path, errors)
            if not errors:
                return value
        raise Invalid(errors)

    def render(self, value: T) -> dict[str, object]:
        """Fields that hold their default are left out, so what users did not write does not appear."""
        rendered: dict[str, object] = {}
        for entry, take, default in self._rendered:
            held = take(value)
            if held is default or held == default:
                continue
            rendered[entry.name] = entry.type.render(held)
        return rendered

    def schema(self) -> Schema:
        shown = [entry for entry in self.fields if not (entry.foreign or entry.silent)]
        schema: Schema = {"type": "object", "properties": {entry.name: _documented(entry) for entry in shown}}
        if required := [entry.name for entry in shown if entry.required]:
            schema["required"] = required
        return schema

    def paths(self, path: str = "") -> Iterator[tuple[str, str]]:
        """Every field below, as (name, path): what the search for a misplaced field looks through."""
        for entry in self.fields:
            if entry.foreign or entry.silent:
                continue
            own = join(path, entry.name)
            yield entry.name, own
            below: Any = entry.type
            while isinstance(below, ListOf | Only | Mapped):
                if isinstance(below, Only):
                    own = join(own, below.name)
                    yield below.name, own
                elif isinstance(below, ListOf):
                    own += "[]"
                below = below.inner
            if isinstance(below, Record | Shape):
                yield from below.paths(own)

    def _parse_field(
        self,
        entry: Field,
        document: Mapping[str, object],
        path: str,
        reading: Reading,
        values: dict[str, Any],
        errors: list[FieldError],
    ) -> None:
        raw = document.get(entry.name)
        if raw is None:
            if entry.required:
                errors.append(FieldError(join(path, entry.name), "is required"))
            return
        if entry.silent:
            return
        if entry.foreign:
            if reading.foreign:
                reading.warnings.append(FieldError(join(path, entry.name), entry.doc))
            return
        try:
            value = entry.type.parse(raw, join(path, entry.name), reading)
        except Invalid as invalid:
            errors.extend(invalid.fields)
        else:
            if isinstance(entry.attr, str):
                values[entry.attr] = value
            elif entry.attr:
                values.update(zip(entry.attr, value, strict=True))

    def _unknown(self, document: Mapping[str, object], path: str, reading: Reading) -> Iterator[FieldError]:
        admitted = {entry.name for entry in self.fields if reading.foreign or not entry.foreign}
        for name in document:
            if name not in admitted:
                yield FieldError(join(path, str(name)), self._unknown_message(str(name), path, reading))

    def _unknown_message(self, name: str, path: str, reading: Reading) -> str:
        here = sorted(entry.name for entry in self.fields if not (entry.foreign or entry.silent))
        for candidates in (_same_but_case(name, here), _same_but_case(name, reading.known), _similar(name, here)):
            for candidate in candidates:
                known = join(path, candidate) if candidate in here else reading.known[candidate][0]
                return f"unknown field; did you mean {known}?"
        return f"unknown field; known here: {', '.join(here)}"

    def _broken_rules(self, value: T, path: str, errors: Sequence[FieldError]) -> list[FieldError]:
        wrong = {error.path for error in errors}
        broken: list[FieldError] = []
        for rule in self._rules:
            if not any(_within(bad, join(path, name)) for bad in wrong for name in rule.fields):
                broken += [FieldError(join(path, found.path), found.message) for found in rule.check(value)]
        return broken


class Shape:
    """An object that is checked by a table like any other and kept in its manifest form, for a part that reads it."""

    def __init__(self, *fields: Field, rules: Sequence[Rule[dict[str, Any]]] = ()) -> None:
        self._record: Record[dict[str, Any]] = Record(dict, *fields, rules=rules)
        self._fields = {entry.name: entry for entry in fields}

    def parse(self, raw: object, path: str, reading: Reading) -> dict[str, Any]:
        held = self._record.parse(raw, path, reading)
        return {name: self._fields[name].type.render(value) for name, value in held.items()}

    def render(self, value: dict[str, Any]) -> object:
        return value

    def schema(self) -> Schema:
        return self._record.schema()

    def paths(self, path: str = "") -> Iterator[tuple[str, str]]:
        return self._record.paths(path)


class ListOf(Generic[T]):
    """A list. `unique` drops what is there already, silently, as the order of the first mention stays."""

    def __init__(self, inner: Type[T], *, unique: bool = False, at_least: int = 0) -> None:
        self.inner = inner
        self._unique = unique
        self._at_least = at_least

    def parse(self, raw: object, path: str, reading: Reading) -> tuple[T, ...]:
        if not isinstance(raw, list | tuple):
            raise refuse(path, f"must be a list, not {describe(raw)}")
        if len(raw) < self._at_least:
            raise refuse(path, "must not be empty; leave it out instead")
        errors: list[FieldError] = []
        values: list[T] = []
        for at, item in enumerate(raw):
            try:
                value = self.inner.parse(item, f"{path}[{at}]", reading)
            except Invalid as invalid:
                errors.extend(invalid.fields)
            else:
                if not (self._unique and value in values):
                    values.append(value)
        if errors:
            raise Invalid(errors)
        return tuple(values)

    def render(self, value: tuple[T, ...]) -> list[object]:
        return [self.inner.render(item) for item in value]

    def schema(self) -> Schema:
        bound = {"minItems": self._at_least} if self._at_least else {}
        return {"type": "array", "items": self.inner.schema(), **bound}


class Only(Generic[T]):
    """An object of exactly one field, held as that field's value: `{to: 10.0.0.0/8}`."""

    def __init__(self, name: str, inner: Type[T], doc: str = "") -> None:
        self.name = name
        self.inner = inner
        self._record: Record[dict[str, T]] = Record(dict, Field(name, inner, name, doc, required=True))

    def parse(self, raw: object, path: str, reading: Reading) -> T:
        return self._record.parse(raw, path, reading)[self.name]

    def render(self, value: T) -> object:
        return {self.name: self.inner.render(value)}

    def schema(self) -> Schema:
        return self._record.schema()


class Mapped(Generic[W, T]):
    """What is written as an `inner` and held as something else. `hold` makes the one of the other, and raises `Invalid`
    with paths relative to it, in a lenient reading too; `write` is its inverse."""

    def __init__(self, inner: Type[W], hold: Callable[[W], T], write: Callable[[T], W]) -> None:
        self.inner = inner
        self._hold = hold
        self._write = write

    def parse(self, raw: object, path: str, reading: Reading) -> T:
        written = self.inner.parse(raw, path, reading)
        try:
            return self._hold(written)
        except Invalid as invalid:
            raise Invalid([FieldError(join(path, error.path), error.message) for error in invalid.fields]) from None

    def render(self, value: T) -> object:
        return self.inner.render(self._write(value))

    def schema(self) -> Schema:
        return self.inner.schema()


_ABSENT = object()


def _nothing(_value: object) -> tuple[()]:
    return ()


def _rendering(
    build: Callable[..., object], fields: Sequence[Field]
) -> Iterator[tuple[Field, Callable[[Any], object], object]]:
    """For each field that is written: how its value is taken from a record, and the default that goes unwritten."""
    defaults = _defaults(build)
    for entry in fields:
        if entry.foreign or entry.silent:
            continue
        always = entry.required or entry.always
        if not entry.attr:
            yield entry, _nothing, _ABSENT
        elif isinstance(entry.attr, str):
            yield entry, attrgetter(entry.attr), _ABSENT if always else defaults.get(entry.attr, _ABSENT)
        else:
            held = tuple(defaults.get(attr, _ABSENT) for attr in entry.attr)
            yield entry, attrgetter(*entry.attr), _ABSENT if always else held


def _defaults(build: Callable[..., object]) -> dict[str, object]:
    """What a dataclass puts in place of each attribute that is left out. A dict takes what it gets."""
    if isinstance(build, partial):
        return _defaults(build.func)
    if not (isinstance(build, type) and dataclasses.is_dataclass(build)):
        return {}
    found: dict[str, object] = {}
    for entry in dataclasses.fields(build):
        if entry.default is not dataclasses.MISSING:
            found[entry.name] = entry.default
        elif entry.default_factory is not dataclasses.MISSING:
            found[entry.name] = entry.default_factory()
    return found


def _documented(entry: Field) -> Schema:
    return {"description": entry.doc, **entry.type.schema()} if entry.doc else entry.type.schema()


def _same_but_case(name: str, known: Iterable[str]) -> list[str]:
    """The commonest slip (`vlanId`), here or at another level."""
    return [candidate for candidate in known if candidate.lower() == name.lower()]


def _similar(name: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, list(known), n=1)


def _within(path: str, ancestor: str) -> bool:
    return path == ancestor or path.startswith((ancestor + ".", ancestor + "["))
