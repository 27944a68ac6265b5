"""Row 5: pods that ask nothing of Homeport, chained after `bridge`, while no agent runs: what our link costs them."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from homeport_netns_fixtures.topology import Node
from tests.bench.contenders import Contender
from tests.bench.figures import median, ratio
from tests.bench.processes import run
from tests.bench.report import Section, at_most, milliseconds
from tests.bench.sandboxes import sandboxes

WARM_UP = 3
COMMANDS = ("ADD", "DEL")


def section(node: Node, bridge: Contender, shims: Sequence[Contender], rounds: int) -> Section:
    """`shims` have a run directory without an agent."""
    chains: dict[str, list[Contender]] = {"alone": [bridge]} | {each.name: [bridge, each] for each in shims}
    times: dict[tuple[str, str], list[float]] = {(name, command): [] for name in chains for command in COMMANDS}
    order = random.Random(1)
    with sandboxes(1, "pod") as (guest,), node.namespace.entered():
        for number in range(-WARM_UP, rounds):
            for name in order.sample(list(chains), len(chains)):
                container = f"pod-{number + WARM_UP}-{list(chains).index(name)}"
                previous: dict[str, Any] | None = None
                for command in COMMANDS:
                    seconds = 0.0
                    plugins = chains[name] if command == "ADD" else list(reversed(chains[name]))
                    for position, plugin in enumerate(plugins):
                        given = previous if command == "DEL" or position else None
                        done = run(plugin.call(command, container, guest, given)).succeeded()
                        seconds += done.seconds
                        if command == "ADD":
                            previous = json.loads(done.stdout)
                    if number >= 0:
                        times[name, command].append(seconds)
    rows = [
        at_most(
            f"{command} of bridge and then {each.name}, agent absent, p50",
            milliseconds(median(times[each.name, command])),
            f"{bridge.name} alone",
            milliseconds(median(times["alone", command])),
            ratio(times[each.name, command], times["alone", command]),
            None,
        )
        for each in shims
        for command in COMMANDS
    ]
    return Section(
        "Ordinary pods, chained, Homeport down",
        f"{rounds} rounds in turn, prevResult passed on as a runtime does. The pod has annotations, none of them ours.",
        tuple(rows),
    )


def absent_run_dir(directory: Path) -> Path:
    """Where no agent listens."""
    path = directory / "absent"
    path.mkdir()
    return path
