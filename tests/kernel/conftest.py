"""One world for all tests of the kernel tier."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport_netns_fixtures import topology
from homeport_netns_fixtures.etcd import etcd_member
from homeport_netns_fixtures.topology import NodeSpec

from .lan import Lan, timed

NETWORKS = Path(__file__).with_name("networks.yaml")


@pytest.fixture(scope="package")
def lan(vlan_kernel: None) -> Iterator[Lan]:
    """Gone before the tests of other folders: it would slow them down."""
    with contextlib.ExitStack() as stack:
        # Its usual heartbeat of 20 ms would take a third of a processor in here.
        etcd = stack.enter_context(etcd_member("--heartbeat-interval", "200", "--election-timeout", "2000"))
        world = stack.enter_context(topology.build(NodeSpec("a", bond=True), NodeSpec("b", bond=True), etcd=etcd))
        made = Lan(world, etcd)
        with timed("start of both agents"):
            for node in world.nodes:
                node.agent.start()
                made.install(node)
            for node in world.nodes:
                node.agent.wait_ready(120)
        with timed("apply of four Networks"):
            made.homeport(made.a, "apply", "-f", str(NETWORKS))
        with timed("attach of nine guests"):
            for node in world.nodes:
                made.populate(node)
        yield made
