"""Directories that are not this agent's own: another's journal, and those of an agent that runs."""

import shutil
import sys

from homeport_netns_fixtures.etcd import Etcd
from homeport_netns_fixtures.plugin import WorldBuilder

from .conftest import Equip
from .lab import Lab


def test_a_copied_disk_ends_nothing_of_the_node_it_was_copied_from(
    topology: WorldBuilder, equip: Equip, etcd: Etcd
) -> None:
    world = topology("a", "b", etcd=etcd)
    original, copy = (equip(world.node(name), etcd) for name in "ab")
    original.start()
    original.apply("lab", uplink="eth1")
    address, _ = original.added("c1", original.node.guest())
    original.node.agent.pause()  # a disk is copied as of one instant, not file by file under its writer
    shutil.copytree(original.node.data_dir, copy.node.data_dir, dirs_exist_ok=True)
    original.node.agent.resume()
    copy.start()
    assert original.attachments() == {"c1"}
    assert original.holder("c1-eth0") == "c1"
    assert f"eth1:untagged/{address.partition('/')[0]}" in str(original.store.list("/homeport/v1/addresses/"))
    assert "forgot an attachment of another node" in copy.node.agent.log()


def test_a_node_is_not_renamed_under_its_guests(lab: Lab) -> None:
    lab.added("c1", lab.node.guest())
    lab.kill()
    lab.node.agent.start("--node", "renamed")
    assert lab.node.agent.wait_exit() == 1
    assert "start it with --node a" in lab.node.agent.log()
    lab.start()
    lab.require_clean(1)


def test_one_agent_for_one_data_directory(lab: Lab) -> None:
    """A second one would find no port of the first one's guests in its own switch, and end them."""
    second = lab.node.namespace.run(
        *(sys.executable, "-m", "homeport_agent", *lab.node.agent.options),
        *("--run-dir", f"{lab.node.directory}/second"),
        check=False,
    )
    assert second.returncode == 1
    assert f"another agent runs with --data-dir {lab.node.data_dir}" in second.stderr


def test_one_agent_for_one_node_name(topology: WorldBuilder, equip: Equip, etcd: Etcd) -> None:
    """Another one on the same machine, with directories of its own, would know nothing of what the first attached."""
    lab = equip(topology("a", etcd=etcd).node("a"), etcd)
    lab.start()
    lab.apply("lab")
    lab.added("c1", lab.node.guest())
    directory = lab.node.directory
    second = lab.node.namespace.run(
        *(sys.executable, "-m", "homeport_agent", *lab.node.agent.options),
        *("--run-dir", f"{directory}/second", "--data-dir", f"{directory}/second-data"),
        check=False,
    )
    assert second.returncode == 1
    assert f"node name a belongs to the agent with --run-dir {lab.node.run_dir} on this machine" in second.stderr
    assert lab.holder("c1-eth0") == "c1"


def test_a_lost_journal_costs_no_running_guest_its_place(lab: Lab) -> None:
    guest = lab.node.guest()
    address, _ = lab.added("c1", guest)
    lab.kill()
    (lab.node.data_dir / "attachments.jsonl").unlink()
    lab.start()
    assert lab.holder("c1-eth0") == "c1"
    assert address in guest.run("ip", "-o", "address", "show", "dev", "eth0").stdout
    lab.require_clean(1)
