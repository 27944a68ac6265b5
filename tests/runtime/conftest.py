"""One node with a running agent and its Networks: what most of these tests start from."""

import pytest

from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import Node
from tests.runtime.manifests import BLUE_AND_GREEN, apply


@pytest.fixture
def node(topology: WorldBuilder) -> Node:
    """A node whose agent is ready, with Networks blue and green."""
    (node,) = topology("a").nodes
    node.agent.start()
    node.agent.wait_ready()
    apply(node, BLUE_AND_GREEN)
    return node
