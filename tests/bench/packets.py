"""What a packet costs on its way through the policies of a node, in the Debian kernel, which can enforce them.

Here tables are compiled; `packets_inside` loads each into a switch of its own there and sends through them in turn.
"""

import json
import pickle
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from homeport_api.meta import ObjectMeta
from homeport_api.networkpolicy import Direction, NetworkPolicy, PolicyKind, PolicyRule, PolicySpec, WorkloadPeer
from homeport_api.selector import EVERYTHING, Selector
from homeport_netns_fixtures import debian_kernel
from homeport_policy import guards
from homeport_policy.guards import GuardedPort
from homeport_policy.render import render
from homeport_policy.ruleset import Element, element
from homeport_policy.update import Present, plan_update
from tests.bench import policies
from tests.bench.figures import median, ratio
from tests.bench.report import Row, Section
from tests.conformance.scene import HERE, ZONES, mac_of

COUNTS = (10, 100, 1_000, 10_000)
SENDER, RECEIVER = "hp0", "hp1"
ENDS = {SENDER: IPv4Address("10.0.0.1"), RECEIVER: IPv4Address("10.0.0.2")}
TABLES, TIMES = "tables", "times"
NO_TABLE, NO_POLICIES = "no table", "our table without policies"
LIMIT = 1.1


@dataclass(frozen=True, slots=True)
class Job:
    """For the other side: each table's rules in order, how many packets a round, how many rounds."""

    tables: Mapping[str, tuple[bytes, ...]]
    packets: int
    rounds: int


def section(quick: bool) -> Section:
    if (reason := debian_kernel.lacks()) is not None:
        return Section("A packet's way through policies", f"Not measured: {reason}", ())
    counts = COUNTS[:2] if quick else COUNTS
    job = Job(dict(_tables(counts)), 5_000 if quick else 20_000, 3 if quick else 9)
    with tempfile.TemporaryDirectory(prefix="hpt-bench-") as name:
        folder = Path(name)
        (folder / TABLES).write_bytes(pickle.dumps(job))
        code = debian_kernel.run([sys.executable, "-m", "tests.bench.packets_inside", name], writable=folder)
        if code != 0:
            return Section("A packet's way through policies", f"Not measured: exit code {code} in there", ())
        times: dict[str, dict[str, list[float]]] = json.loads((folder / TIMES).read_text())
    rows = [row for kind in ("asked", "replied") for row in _rows(kind, times, counts)]
    return Section(
        "A packet's way through policies",
        f"{job.rounds} rounds; in each, {job.packets:,} datagrams of 100 bytes from one guest to another (pktgen), "
        "through each table in turn, each in a switch of its own. Both guests are isolated, by policies among many "
        "others, and these allow it. Asked: policies judge every packet, as they do until there is a reply; replied: "
        "the connection is known. Debian's kernel, emulated where the machine has no KVM: the ratios count.",
        tuple(rows),
    )


def _rows(kind: str, times: Mapping[str, Mapping[str, list[float]]], counts: tuple[int, ...]) -> Iterator[Row]:
    words = {"asked": "a packet that policies are asked about", "replied": "a packet of a known connection"}[kind]
    base = times[NO_POLICIES][kind]
    bare = times[NO_TABLE][kind]
    yield Row(f"{words}, no policy", _micro(base), NO_TABLE, _micro(bare), str(ratio(base, bare, median)))
    first = times[_title(counts[0])][kind]
    for count in counts:
        here = times[_title(count)][kind]
        against, there = (NO_POLICIES, base) if count == counts[0] else (_title(counts[0]), first)
        found = ratio(here, there, median)
        goal = count != counts[0]
        yield Row(
            f"{words}, {_title(count)}",
            _micro(here),
            against,
            _micro(there),
            str(found),
            f"≤ {LIMIT:.1f}×" if goal else "",
            found.value <= LIMIT if goal else None,
        )


def _micro(seconds: list[float]) -> str:
    return f"{median(seconds) * 1e6:.1f} µs"


def _title(count: int) -> str:
    return f"{count:,} policies"


def _tables(counts: tuple[int, ...]) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    base = render(guards.base(tracking=True))
    elements = render(guards.difference(_elements(), ()))
    yield NO_TABLE, ()
    yield NO_POLICIES, (base, elements)
    for count in counts:
        compiler = policies.compiler(count)
        for each in _pair():
            compiler.put_policy(each)
        yield _title(count), (base, elements, plan_update(Present(), compiler.program(), guards.TABLE))


def _elements() -> Iterator[Element]:
    for name, address in ENDS.items():
        port = GuardedPort(name, mac_of(name), addresses=frozenset({address}), zone=ZONES[HERE])
        yield from guards.guards_of(port, tracking=True)
        yield element(guards.SPEAKING, name)


def _pair() -> Iterator[NetworkPolicy]:
    """What lets the two talk: they are in two namespaces."""
    rule = PolicyRule((WorkloadPeer(EVERYTHING, EVERYTHING),), ())
    for number, direction in enumerate((Direction.EGRESS, Direction.INGRESS)):
        key = policies.owner(number)
        subject = Selector(tuple(policies.labels(number).items()))
        rules = ((), (rule,)) if direction is Direction.EGRESS else ((rule,), ())
        spec = PolicySpec(subject, frozenset({direction}), *rules)
        yield NetworkPolicy(PolicyKind.NETWORK_POLICY, ObjectMeta("pair", key.namespace), spec)
