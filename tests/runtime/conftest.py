"""One node with a running agent and its Networks: what most of these tests start from."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import Node
from tests.runtime.manifests import BLUE_AND_GREEN, apply

InstallCni = Callable[[Node, Path, str], None]


@pytest.fixture
def node(topology: WorldBuilder) -> Node:
    """A node whose agent is ready, with Networks blue and green."""
    (node,) = topology("a").nodes
    node.agent.start()
    node.agent.wait_ready()
    apply(node, BLUE_AND_GREEN)
    return node


def install_cni(node: Node, bin_dir: Path, shim: str = "c") -> None:
    """Both executables, as an administrator installs them. The shim asked for is the one that is installed."""
    done = node.homeport("install-cni", "--bin-dir", os.fspath(bin_dir), "--shim", shim)
    assert f"The {shim} shim" in done.stderr, done.stderr
