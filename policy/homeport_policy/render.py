"""From a ruleset to nft text. Refuses what would load and then silently miss. Reference: nft(8).

Each rule's comment is its fingerprint, so that drift is found by comparing comments and nobody parses rules.
"""

import hashlib
import re
from typing import assert_never

from homeport_policy.ruleset import (
    Chain,
    Change,
    Element,
    EtherType,
    Hook,
    InSet,
    LinkLocalDestination,
    Match,
    OuterTag,
    Protocol,
    Rule,
    Ruleset,
)

_FAMILY = "bridge"
_TABLE = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_LINK = re.compile(r"[A-Za-z0-9_.=@+~-]{1,15}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_NAMES = {EtherType.IPV4: "ip", EtherType.IPV6: "ip6", EtherType.ARP: "arp"}


class Unrenderable(ValueError):
    """A ruleset that must not be loaded: a mistake of the program, never of a user."""


def render(value: Ruleset | Change) -> bytes:
    """nft text to be applied in one transaction. It may be applied any number of times."""
    lines = _ruleset(value) if isinstance(value, Ruleset) else _change(value)
    return "".join(f"{line}\n" for line in lines).encode()


def fingerprints(ruleset: Ruleset) -> dict[str, tuple[str, ...]]:
    """The comments of each chain's rules in order: equal to what the kernel lists if and only if no rule was
    changed."""
    return {chain.name: tuple(fingerprint(rule) for rule in chain.rules) for chain in ruleset.chains}


def fingerprint(rule: Rule) -> str:
    return hashlib.sha256(_statement(rule).encode()).hexdigest()[:12]


def _ruleset(ruleset: Ruleset) -> list[str]:
    table = _table(ruleset.table)
    lines = [f"add table {table}"]
    lines += [f"add counter {table} {name}" for name in ruleset.counters]
    lines += [f"add set {table} {each.name} {{ type {each.key.type}; }}" for each in ruleset.sets]
    known = {each.name: each.key.type for each in ruleset.sets}
    for chain in ruleset.chains:
        if chain.hook is Hook.FORWARD and chain.priority >= 0:
            raise Unrenderable(f"chain {chain.name}: br_netfilter skips forward chains at priority 0 and after")
        head = f"type filter hook {chain.hook} priority {chain.priority}; policy accept;"
        lines += [f"add chain {table} {chain.name} {{ {head} }}", f"flush chain {table} {chain.name}"]
        for rule in chain.rules:
            _check(chain, rule, known, ruleset.counters)
            comment = fingerprint(rule)
            lines.append(f'add rule {table} {chain.name} {_statement(rule)} comment "{comment}"')
    return lines


def _change(change: Change) -> list[str]:
    table = _table(change.table)
    both = set(change.add) & set(change.delete)
    if both:
        raise Unrenderable(f"{sorted(both)[0]} is added and deleted at once")
    # nft before 1.0.7 has no `destroy`: adding first makes the deletion of an absent element no error.
    lines = [f"{verb} element {table} {_element(each)}" for each in change.delete for verb in ("add", "delete")]
    return lines + [f"add element {table} {_element(each)}" for each in change.add]


def _element(element: Element) -> str:
    if not _LINK.match(element.link):
        raise Unrenderable(f"{element.link!r} cannot be named in a ruleset")
    if element.mac is None:
        return f'{element.set} {{ "{element.link}" }}'
    if not _MAC.match(element.mac):
        raise Unrenderable(f"{element.mac!r} is not a MAC address")
    return f'{element.set} {{ "{element.link}" . {element.mac} }}'


def _check(chain: Chain, rule: Rule, sets: dict[str, str], counters: tuple[str, ...]) -> None:
    where = f"chain {chain.name}"
    if rule.counter is not None and rule.counter not in counters:
        raise Unrenderable(f"{where}: no counter {rule.counter}")
    for match in rule.matches:
        if isinstance(match, InSet) and sets.get(match.set) != match.key.type:
            raise Unrenderable(f"{where}: no set {match.set} of type {match.key.type}")
        if isinstance(match, OuterTag) and chain.hook is not Hook.PREROUTING:
            raise Unrenderable(f"{where}: a VLAN-aware bridge tags frames after prerouting, so every tag matches there")
        if isinstance(match, OuterTag | Protocol) and not match.types:
            raise Unrenderable(f"{where}: a match on no type at all")


def _statement(rule: Rule) -> str:
    parts = [_match(match) for match in rule.matches]
    if rule.counter is not None:
        parts.append(f"counter name {rule.counter}")
    return " ".join((*parts, rule.verdict.value))


def _match(match: Match) -> str:
    match match:
        case InSet():
            return f"{match.key.expression} {'' if match.member else '!= '}@{match.set}"
        case Protocol():
            # Never `ether type` here: behind a VLAN tag that reads the tag's type, and misses what the frame carries.
            return f"meta protocol {'' if match.one_of else '!= '}{_types(match.types)}"
        case OuterTag():
            # The one place where the tag itself is meant.
            return f"ether type {_types(match.types)}"
        case LinkLocalDestination():
            return "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00"
        case _ as never:
            assert_never(never)


def _types(types: frozenset[EtherType]) -> str:
    return "{ " + ", ".join(_NAMES.get(each, f"0x{each:04x}") for each in sorted(types)) + " }"


def _table(name: str) -> str:
    if not _TABLE.match(name):
        raise Unrenderable(f"{name!r} is not a table name of ours")
    return f"{_FAMILY} {name}"
