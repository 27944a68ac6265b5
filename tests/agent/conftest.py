"""Nodes with running agents for the tests of this package."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homeport_cni.install import install
from homeport_netns_fixtures.etcd import Etcd
from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import Node

from .lab import Lab, relocate


@pytest.fixture(scope="session")
def shims(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both executables, built once; each node gets a copy with its run directory in it."""
    bin_dir = tmp_path_factory.mktemp("shims")
    install(bin_dir, Path("/run/homeport-nobody"))
    return bin_dir


Equip = Callable[..., Lab]


@pytest.fixture
def equip(shims: Path) -> Iterator[Equip]:
    """Makes a lab of a node: `equip(world.node("a"))`. Its agent is not started."""
    with contextlib.ExitStack() as stack:

        def make(node: Node, etcd: Etcd | None = None) -> Lab:
            lab = Lab(node, relocate(shims, node.run_dir, node.directory / "bin"), etcd.endpoints if etcd else ())
            stack.callback(lab.close)
            return lab

        yield make


@pytest.fixture
def idle_lab(topology: WorldBuilder, equip: Equip) -> Lab:
    """A node whose agent is not started yet."""
    return equip(topology("a").node("a"))


@pytest.fixture
def lab(idle_lab: Lab) -> Lab:
    """A node whose agent runs, with the isolated Network `lab` (10.77.0.0/24)."""
    idle_lab.start()
    idle_lab.apply("lab")
    return idle_lab
