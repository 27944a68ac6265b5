"""What makes a table that has one program have another: the text of one transaction. Pure.

    1  counters, limits and sets that are new, with what is in them
    2  elements that are new to sets that stay
    3  chains that are new: policies' before ports'
    4  elements of the maps that lead elsewhere now
    5  elements that go from sets that stay
    6  chains, sets and counters that nothing leads to any more

The kernel takes all of it at one moment, so no packet sees a half. What stays is not touched: no packet of a flow that
stays allowed is lost by an update.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from homeport_api.networkpolicy import Direction
from homeport_policy.chains import DENIALS
from homeport_policy.forward import ISOLATED, POLICY_SETS
from homeport_policy.program import EGRESS, INGRESS, Content, Program
from homeport_policy.render import add_chain, add_elements, add_limit, add_set, delete_elements, fingerprints
from homeport_policy.ruleset import Chain, Element, Goto, InSet, Jump, Key, Map, Part, Set, element

_PREFIXES = {"chain": ("p_", "in_", "out_"), "set": ("a4_", "a6_", "n4_", "n6_")}


@dataclass(frozen=True, slots=True)
class Present:
    """What of programs a table has: each chain's fingerprints, sets with what is in them, where the maps lead, which
    ports are isolated, and the counters' names. `given` are chains that are there as they were given."""

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sets: Mapping[str, frozenset[tuple[Part, ...]]] = field(default_factory=dict)
    maps: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {EGRESS: {}, INGRESS: {}})
    isolated: frozenset[str] = frozenset()
    counters: Collection[str] = frozenset()
    given: Mapping[str, Chain] = field(default_factory=dict)


def is_of_program(name: str) -> bool:
    """Whether a chain, set or counter of this name is a program's, and not the base's."""
    return name.startswith((*_PREFIXES["chain"], *_PREFIXES["set"]))


def key_of(name: str) -> Key:
    """The sort of keys that a program's set has, by its name."""
    return {"a4": Key.SOURCE4, "a6": Key.SOURCE6, "n4": Key.TARGET4_PORT, "n6": Key.TARGET6_PORT}[name[:2]]


def present_of(program: Program) -> Present:
    """A table that has exactly this program."""
    return Present(
        {},
        {name: content.elements for name, content in program.sets.items()},
        {EGRESS: program.egress, INGRESS: program.ingress},
        program.ports,
        program.counters.keys(),
        program.chains,
    )


def plan_update(present: Present, program: Program, table: str) -> bytes:
    """The text; empty when nothing has to change."""
    return "".join(f"{line}\n" for line in _lines(present, program, table)).encode()


def _lines(present: Present, program: Program, table: str) -> Iterator[str]:
    name = f"bridge {table}"
    known: dict[str, Set | Map] = {each.name: each for each in POLICY_SETS}
    known |= {set_name: Set(set_name, content.key) for set_name, content in program.sets.items()}
    yield from (f"add counter {name} {counter}" for counter in program.counters if counter not in present.counters)
    for set_name, content in program.sets.items():
        there = present.sets.get(set_name)
        if there is content.elements:
            continue
        if there is None:
            yield add_set(table, Set(set_name, content.key))
        yield from add_elements(table, set_name, _elements(set_name, content, there or frozenset()))
    # Where a chain has other rules than its name says, somebody changed it.
    new_chains = [
        chain
        for chain_name, chain in program.chains.items()
        if present.given.get(chain_name) is not chain
        and present.chains.get(chain_name) != fingerprints((chain,))[chain_name]
    ]
    if new_chains:
        yield add_limit(table, DENIALS)  # the base's: while nothing names it, anybody may have deleted it
    for chain in new_chains:
        yield from add_chain(table, chain, known)
    for map_name, leads in ((EGRESS, program.egress), (INGRESS, program.ingress)):
        before = present.maps.get(map_name, {})
        gone = [Element(map_name, (port,)) for port, chain in before.items() if leads.get(port) != chain]
        new = [Element(map_name, (port,), chain) for port, chain in leads.items() if before.get(port) != chain]
        yield from delete_elements(table, map_name, gone)
        yield from add_elements(table, map_name, new)
    yield from delete_elements(table, ISOLATED, (element(ISOLATED, port) for port in present.isolated - program.ports))
    yield from add_elements(table, ISOLATED, (element(ISOLATED, port) for port in program.ports - present.isolated))
    for set_name, elements in present.sets.items():
        if set_name in program.sets and elements is not program.sets[set_name].elements:
            surplus = elements - program.sets[set_name].elements
            yield from delete_elements(table, set_name, (Element(set_name, key) for key in surplus))
    yield from _removed(present, program, name)


def _elements(name: str, content: Content, before: frozenset[tuple[Part, ...]]) -> Iterable[Element]:
    return (Element(name, key) for key in content.elements - before)


def _removed(present: Present, program: Program, table: str) -> Iterator[str]:
    gone = [chain for chain in (*present.chains, *present.given) if chain not in program.chains]
    yield from (f"flush chain {table} {chain}" for chain in gone)
    yield from (f"delete chain {table} {chain}" for chain in gone)
    yield from (f"delete set {table} {name}" for name in present.sets if name not in program.sets)
    yield from (f"delete counter {table} {name}" for name in present.counters if name not in program.counters)


def tightened(before: Program, after: Program) -> frozenset[str]:
    """The ports some of whose flows may be allowed no longer: those that lead elsewhere than before, and those whose
    policies look into a set that lost something."""
    smaller = frozenset(
        name
        for name, content in after.sets.items()
        if name in before.sets
        and before.sets[name] is not content
        and not before.sets[name].elements <= content.elements
    )
    looked: dict[str, frozenset[str]] = {}
    ports: set[str] = set()
    for direction in Direction:
        for port, chain in after.isolated(direction).items():
            if before.isolated(direction).get(port) != chain or smaller & _sets_of(after, chain, looked):
                ports.add(port)
    return frozenset(ports)


def _sets_of(program: Program, name: str, known: dict[str, frozenset[str]]) -> frozenset[str]:
    """The sets that a chain and those it leads to look into."""
    if name not in known:
        found: set[str] = set()
        chain = program.chains.get(name)
        for rule in chain.rules if chain is not None else ():
            found.update(match.set for match in rule.matches if isinstance(match, InSet))
            if isinstance(rule.action, Jump | Goto):
                found |= _sets_of(program, rule.action.chain, known)
        known[name] = frozenset(found)
    return known[name]
