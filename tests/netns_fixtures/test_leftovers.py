"""What stays behind is found, and what others do beside this run is not blamed on it."""

import os
import subprocess
from collections.abc import Callable

import pytest

from homeport_netns_fixtures import leftovers, names
from homeport_netns_fixtures.leftovers import Inventory
from homeport_netns_fixtures.netns import Namespace

OURS = f"hpt-{os.getpid()}-1-web"
OTHERS = f"hpt-{os.getpid() + 1}-1-web"


def inventory(*namespaces: str, links: tuple[str, ...] = (), tables: tuple[str, ...] = ()) -> Inventory:
    return Inventory(frozenset(namespaces), frozenset(links), frozenset(tables), frozenset())


@pytest.mark.parametrize(
    ("after", "everything", "left"),
    [
        pytest.param(inventory("old", OURS), False, [f"network namespace {OURS}"], id="ours"),
        pytest.param(inventory("old", OTHERS), True, [], id="another run's"),
        pytest.param(inventory("old", "cni-1"), False, [], id="somebody's, on a laptop"),
        pytest.param(inventory("old", "cni-1"), True, ["network namespace cni-1"], id="nobody else's, in CI"),
        pytest.param(
            inventory("old", links=("veth0",), tables=("ip t",)),
            True,
            ["link veth0", "nft table ip t"],
            id="links and tables",
        ),
        pytest.param(inventory(), True, [], id="what went is no leak"),
    ],
)
def test_what_came_and_stayed_is_named(after: Inventory, everything: bool, left: list[str]) -> None:
    assert after.since(inventory("old"), everything=everything) == left


def test_a_process_that_detached_itself_is_found_and_killed() -> None:
    text = names.unique("sleeper")
    before = leftovers.take_inventory()
    subprocess.run(["sh", "-c", f"setsid sh -c 'sleep 60; : {text}' >/dev/null 2>&1 &"], check=True)
    try:
        left = leftovers.take_inventory().since(before, everything=False)
        assert any(text in line for line in left)
    finally:
        leftovers.kill_processes_naming(text)
        leftovers.kill_processes_naming("sleep 60")
    assert leftovers.take_inventory().since(before, everything=False) == []


def test_namespaces_of_a_dead_run_are_swept_and_of_a_living_one_are_not(
    netns: Callable[[str], Namespace],
) -> None:
    living = netns("living")
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead = f"hpt-{ended.pid}-1-web"
    subprocess.run(["ip", "netns", "add", dead], check=True)
    assert dead in leftovers.sweep_dead_runs()
    assert living.exists
