"""Row 3: many ADDs started in the same moment, then as many DELs, contenders in turn."""

import random
from collections.abc import Sequence
from itertools import product

from homeport_netns_fixtures.topology import Node
from tests.bench.contenders import OURS, Contender
from tests.bench.figures import median, percentile, ratio
from tests.bench.processes import Finished, run_at_once
from tests.bench.report import Row, Section, at_least
from tests.bench.sandboxes import sandboxes, wait_empty

AT_ONCE = 32
LIMITS = {"ADD": 1.5, "DEL": None}


def section(node: Node, contenders: Sequence[Contender], rounds: int) -> Section:
    rates: dict[tuple[str, str], list[float]] = {
        (each.name, command): [] for each, command in product(contenders, LIMITS)
    }
    worst: dict[tuple[str, str], list[float]] = {key: [] for key in rates}
    failures: dict[str, list[str]] = {each.name: [] for each in contenders}
    order = random.Random(1)
    with sandboxes(AT_ONCE, "burst") as guests, node.namespace.entered():
        for number in range(-1, rounds):
            for each in order.sample(contenders, len(contenders)):
                for command in LIMITS:
                    calls = [each.call(command, f"burst-{number + 1}-{at}", guest) for at, guest in enumerate(guests)]
                    done = run_at_once(calls)
                    failures[each.name] += [one.stdout.decode(errors="replace") for one in done if one.exit_code]
                    if number >= 0:
                        rates[each.name, command].append(_rate(done))
                        worst[each.name, command].append(percentile([one.seconds for one in done], 1.0))
                wait_empty(guests)
    rows: list[Row] = []
    mine = [each for each in contenders if each.ours]
    theirs = [each for each in contenders if not each.ours]
    for command, our, their in product(LIMITS, mine, theirs):
        here, there = (our.name, command), (their.name, command)
        rows.append(
            at_least(
                f"{AT_ONCE} {command}s at once, {our.name}",
                f"{median(rates[here]):.0f} a second, last after {median(worst[here]):.2f} s",
                their.name,
                f"{median(rates[there]):.0f} a second, last after {median(worst[there]):.2f} s",
                ratio(rates[here], rates[there]),
                LIMITS[command] if our.name == OURS else None,
            )
        )
    for each in contenders:
        count = len(failures[each.name])
        reached = count == 0 if each.name == OURS else None
        said = f"{count}, first: {failures[each.name][0].strip()}" if count else "0"
        rows.append(Row(f"failures, {each.name}", said, goal="0" if each.ours else "", reached=reached))
    return Section(
        f"{AT_ONCE} at once",
        f"{rounds} rounds; in each, every contender has {AT_ONCE} processes started in one moment for ADD, and when "
        "all have answered, for DEL. The rate is that of the whole lot, until the last has ended.",
        tuple(rows),
    )


def _rate(done: Sequence[Finished]) -> float:
    return len(done) / (max(one.ended for one in done) - min(one.began for one in done))
