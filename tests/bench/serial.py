"""Rows 1 and 2: one ADD and one DEL after the other, whole processes, contenders in turn within each round."""

import random
from collections.abc import Sequence
from itertools import product

from homeport_netns_fixtures.topology import Node
from tests.bench.contenders import OURS, Contender
from tests.bench.cpu import cpu_seconds
from tests.bench.figures import Figure, median, p99, ratio
from tests.bench.processes import run
from tests.bench.report import Row, Section, at_most, milliseconds
from tests.bench.sandboxes import sandboxes, wait_empty

WARM_UP = 5
LIMITS = {"ADD": 1.0, "DEL": 0.5}

Times = dict[tuple[str, str], list[float]]
"""Seconds by contender's name and command, one for each round."""


def measure(node: Node, contenders: Sequence[Contender], rounds: int) -> tuple[Times, float]:
    """All times, and the seconds of CPU that the agent and its etcd spent on an ADD with its DEL."""
    times: Times = {(each.name, command): [] for each, command in product(contenders, LIMITS)}
    order = random.Random(1)
    pairs = rounds * sum(each.ours for each in contenders)
    began = 0.0
    with sandboxes(len(contenders), "serial") as made, node.namespace.entered():
        guests = {each.name: guest for each, guest in zip(contenders, made, strict=True)}
        for number in range(-WARM_UP, rounds):
            if number == 0:
                began = cpu_seconds(node)
            for command in LIMITS:
                for each in order.sample(contenders, len(contenders)):
                    done = run(each.call(command, f"serial-{number + WARM_UP}", guests[each.name])).succeeded()
                    if number >= 0:
                        times[each.name, command].append(done.seconds)
                    if command == "DEL":
                        wait_empty([guests[each.name]])
        return times, (cpu_seconds(node) - began) / pairs


def section(node: Node, contenders: Sequence[Contender], rounds: int) -> Section:
    times, cpu = measure(node, contenders, rounds)
    rows: list[Row] = []
    figures: tuple[tuple[str, Figure], ...] = (("p50", median), ("p99", p99))
    mine = [each for each in contenders if each.ours]
    theirs = [each for each in contenders if not each.ours]
    for command, our, (label, figure), their in product(LIMITS, mine, figures, theirs):
        here, there = times[our.name, command], times[their.name, command]
        limit = LIMITS[command] if our.name == OURS else None
        rows.append(
            at_most(
                f"{command} {label}, {our.name}",
                milliseconds(figure(here)),
                their.name,
                milliseconds(figure(there)),
                ratio(here, there, figure),
                limit,
            )
        )
    rows.append(Row("agent and its etcd, CPU of an ADD with its DEL", milliseconds(cpu)))
    return Section(
        "ADD and DEL, one at a time",
        f"{rounds} rounds; in each, every contender does one ADD and then one DEL, in an order that changes. After "
        "each DEL the guest's link is waited for to be gone, which Homeport's agent does after its answer; its work "
        "for that is in the CPU line and slows nobody else's measurement.",
        tuple(rows),
    )
