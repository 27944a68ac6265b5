"""Agents of a world are real processes: they become ready, are killed, and come back."""

import pytest

from homeport_netns_fixtures.etcd import Etcd
from homeport_netns_fixtures.netns import CommandFailed
from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import NodeSpec


def test_an_agent_with_its_own_etcd_survives_kill_and_power_loss(topology: WorldBuilder) -> None:
    (node,) = topology("a").nodes
    node.agent.start()
    node.agent.wait_ready()
    assert node.switch.exists
    assert node.agent.http_get("/healthz") == (200, "ok\n")
    node.agent.kill()
    assert node.switch.exists, "running guests outlive their agent"
    node.agent.start()
    node.agent.wait_ready()
    node.power_off()
    assert not node.switch.exists
    node.agent.start()
    node.agent.wait_ready()
    node.agent.stop()
    assert node.agent.exit_code() == 0


def test_two_nodes_share_a_cluster_with_tls(topology: WorldBuilder, etcd_three: Etcd) -> None:
    world = topology("a", "b", etcd=etcd_three)
    for node in world.nodes:
        node.agent.start()
    for node in world.nodes:
        node.agent.wait_ready()
    assert {"/homeport/v1/nodes/a", "/homeport/v1/nodes/b"} <= set(
        etcd_three.etcdctl("get", "--prefix", "/homeport/v1/nodes/", "--keys-only").split()
    )


def test_an_agent_that_refuses_its_options_is_reported_with_its_own_words(topology: WorldBuilder) -> None:
    (node,) = topology(NodeSpec("a", options=("--no-such-option",))).nodes
    node.agent.start()
    with pytest.raises(CommandFailed, match="ended with 2") as failed:
        node.agent.wait_ready()
    assert "--no-such-option" in str(failed.value)
