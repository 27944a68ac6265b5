"""Rules of policies and Namespaces that need more than one field, and what their annotations say. Pure.

The rules are those of Kubernetes' own validation (pkg/apis/networking/validation); the API server applies them to a
NetworkPolicy before anybody sees it, and nobody applies them to a MultiNetworkPolicy but us.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType

from homeport_api.errors import FieldError, Invalid
from homeport_api.meta import ObjectMeta
from homeport_api.names import parse_label_name, parse_object_name
from homeport_api.networkpolicy import (
    NAME_LABEL,
    NETWORK_ANNOTATIONS,
    POLICY_FOR,
    IpBlock,
    PolicyPort,
    PolicyRule,
)

Named = tuple[ObjectMeta, tuple[tuple[str, str], ...]]
"""Metadata, and the networks that its annotations name."""


MOST_RULES, MOST_ENTRIES = 1_000, 20_000
"""Of one policy. A rule is up to eight sets in a kernel, which compares a new one with all that it has: 1,000 rules are
loaded in 0.2 to 0.5 s, and 10,000 in 40. The entries of lists lie in these sets together, and are cheap."""


def too_big(rules: Sequence[PolicyRule]) -> str | None:
    """Why nodes could not take these rules of a policy. A port by name is as dear as a rule: it has sets of its own."""
    names = sum(isinstance(port.port, str) for rule in rules for port in rule.ports)
    holes = sum(len(peer.excepts) for rule in rules for peer in rule.peers if isinstance(peer, IpBlock))
    entries = holes + sum(len(rule.peers) + len(rule.ports) for rule in rules)
    for count, what, most in (
        (len(rules) + names, "rules and ports by name", MOST_RULES),
        (entries, "peers, exceptions and ports", MOST_ENTRIES),
    ):
        if count > most:
            return f"has {count:,} {what}, and {most:,} are the most: make several policies of it, which allow the same"
    return None


def excepts_inside(block: IpBlock) -> Iterator[FieldError]:
    """Strictly: an exception that is the whole block would leave nothing of it."""
    cidr = block.cidr
    for at, hole in enumerate(block.excepts):
        if hole == cidr:
            yield FieldError(f"except[{at}]", f"{hole} is the whole of cidr and leaves nothing: take the peer out")
        elif hole.version != cidr.version or hole.prefixlen < cidr.prefixlen or hole.network_address not in cidr:
            yield FieldError(f"except[{at}]", f"{hole} is not inside cidr {cidr}")


def range_of_ports(port: PolicyPort) -> Iterator[FieldError]:
    if port.end is None:
        return
    match port.port:
        case None:
            yield FieldError("endPort", "needs port, which begins the range")
        case int() as first:
            if port.end < first:
                yield FieldError("endPort", f"{port.end} is below port {first}: the range ends before it begins")
        case str() as name:
            yield FieldError("endPort", f"needs a number in port, not the name {name!r}")


def with_network(meta: ObjectMeta) -> Named:
    """Of a NetworkPolicy: the Network its annotation names, if any."""
    given = [(key, meta.annotations[key]) for key in NETWORK_ANNOTATIONS if key in meta.annotations]
    errors = [error for key, name in given if (error := _wrong(parse_object_name, name, key)) is not None]
    if not errors and len({name for _, name in given}) > 1:
        (key, name), (other_key, other) = given
        errors.append(_annotation(key, f"names {name}, and {other_key} names {other}: keep one of both"))
    if errors:
        raise Invalid(errors)
    return meta, tuple(("", name) for _, name in given[:1])


def with_policy_for(meta: ObjectMeta) -> Named:
    """Of a MultiNetworkPolicy: the entries of `policy-for`, each once."""
    found: dict[tuple[str, str], None] = {}
    errors: list[FieldError] = []
    for entry in meta.annotations.get(POLICY_FOR, "").split(","):
        if not (text := entry.strip()):
            continue
        namespace, slash, name = text.rpartition("/")
        checks = [(parse_object_name, name), *([(parse_label_name, namespace)] if slash else [])]
        wrong = [error for parse, part in checks if (error := _wrong(parse, part, POLICY_FOR)) is not None]
        errors += wrong
        if not wrong:
            found[namespace or meta.namespace, name] = None
    if errors:
        raise Invalid(errors)
    return meta, tuple(found)


def with_name_label(meta: ObjectMeta) -> ObjectMeta:
    """Of a Namespace, as the API server has it."""
    given = meta.labels.get(NAME_LABEL, meta.name)
    errors: list[FieldError] = []
    try:
        parse_label_name(meta.name)
    except ValueError as error:
        errors.append(FieldError("name", str(error)))
    if given != meta.name:
        message = f"is {given!r}, and is always the namespace's own name, {meta.name!r}: leave it out"
        errors.append(FieldError(f"labels.{NAME_LABEL}", message))
    if errors:
        raise Invalid(errors)
    return replace(meta, labels=MappingProxyType({**meta.labels, NAME_LABEL: meta.name}))


def _wrong(parse: Callable[[str], str], text: str, annotation: str) -> FieldError | None:
    try:
        parse(text)
    except ValueError as error:
        return _annotation(annotation, str(error))
    return None


def _annotation(key: str, message: str) -> FieldError:
    return FieldError(f"annotations.{key}", message)
