"""Nodes with running agents for the tests of this package."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homeport_cni.install import install
from homeport_netns_fixtures import topology as topology_module
from homeport_netns_fixtures.etcd import Etcd
from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import Node, World

from .lab import Lab, relocate


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test with a shared node belongs to the host tier, as one with a world of its own does."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("host")


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
    """A node of the test's own, for what cannot be undone; its agent is not started yet."""
    return equip(topology("a").node("a"))


@pytest.fixture(scope="session")
def shared(shims: Path) -> Iterator[tuple[World, Lab]]:
    """One node for many tests, since to start one costs more than most of them: `lab` hands it out clean."""
    with topology_module.build("a") as world:
        node = world.node("a")
        lab = Lab(node, relocate(shims, node.run_dir, node.directory / "bin"))
        yield world, lab
        lab.close()


@pytest.fixture
def world(shared: tuple[World, Lab]) -> World:
    """Where `lab` is: its switch, and what is outside."""
    return shared[0]


@pytest.fixture
def lab(shared: tuple[World, Lab]) -> Iterator[Lab]:
    """A node whose agent runs, with the isolated Network `lab` (10.77.0.0/24) and nothing else."""
    lab = shared[1]
    if not lab.plain:
        lab.restart()
    lab.apply("lab")
    yield lab
    if not lab.plain:
        lab.restart()
    lab.clear()
