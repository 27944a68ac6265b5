"""etcd dies, hangs or stays away: guests run on, DEL succeeds and is told later, ADD answers soon, STATUS later."""

import resource
import threading
import time
from typing import Any

import pytest

from homeport_netns_fixtures.cni import Answer
from homeport_netns_fixtures.etcd import Etcd
from homeport_netns_fixtures.plugin import WorldBuilder

from .conftest import Equip
from .lab import Lab, flood, wait_until

GRACE = 2.0


@pytest.fixture
def outer(topology: WorldBuilder, etcd: Etcd, equip: Equip) -> Lab:
    """A node whose etcd is outside, so that it can be away for as long as a test wants."""
    lab = equip(topology("a", etcd=etcd).node("a"), etcd)
    lab.start("--store-grace", f"{GRACE:.0f}s")
    lab.apply("lab")
    return lab


def test_etcd_away_for_long(outer: Lab, etcd: Etcd) -> None:
    lab = outer
    web, db, gone = (lab.guest(name) for name in ("web", "db", "gone"))
    mine = lab.added("c1", web, vm="web")
    address = lab.added("c2", db, vm="db")[0].split("/")[0]
    lab.added("c3", gone, vm="gone")
    with flood(web, address) as ping:
        away = time.monotonic()
        etcd.kill()
        assert lab.delete("c3").exit_code == 0, "a DEL while etcd is away"
        wait_until(lambda: lab.call("STATUS", "").error == 50, "STATUS says that the store is away")
        assert time.monotonic() - away >= GRACE, "and not before the grace"
        began = time.monotonic()
        refused = lab.add("c4", lab.guest("new"), vm="new")
        took = time.monotonic() - began
        assert refused.error == 11, refused
        assert took < 20
        print(f"ADD refused after {took:.1f} s")
        assert ordinary(lab).exit_code == 0, "an ordinary pod of a chained configuration"
        assert lab.call("STATUS", "", network=None).exit_code == 0
        assert lab.pending() > 0
        etcd.start()
        wait_until(lambda: lab.call("STATUS", "").exit_code == 0, "STATUS is well again")
    assert ping.lost == 0 < ping.sent
    wait_until(lambda: lab.pending() == 0, "what ended meanwhile is told")
    assert lab.attachments() == {"c1", "c2"}
    assert lab.holder("gone-eth0") is None
    assert lab.added("c1", web, vm="web") == mine
    lab.require_clean(ports=2)
    assert lab.added("c5", lab.guest("again"), vm="gone")[0]


def ordinary(lab: Lab, **extra: Any) -> Answer:
    previous = {"cniVersion": "1.1.0", "interfaces": [], "ips": [{"address": "10.1.2.3/24"}]}
    answer = lab.add("pod", lab.guest("pod"), network=None, prevResult=previous, **extra)
    assert answer.result.get("ips") == [{"address": "10.1.2.3/24"}]
    return answer


def test_an_agent_that_starts_without_its_store_serves_del_and_heals_when_it_is_back(outer: Lab, etcd: Etcd) -> None:
    lab = outer
    web, db = lab.guest("web"), lab.guest("db")
    lab.added("c1", web, vm="web")
    address = lab.added("c2", db, vm="db")[0].split("/")[0]
    lab.restart(fault="add:allocated=kill")
    assert lab.add("c4", lab.guest("cut"), vm="cut").error == 11
    assert lab.attachments() == {"c1", "c2", "c4"}
    with flood(web, address) as ping:
        etcd.kill()
        lab.node.agent.start()
        wait_until(lambda: lab.call("STATUS", "").exit_code == 0, "the agent serves without its store")
        assert len(lab.ports()) == 2, "what runs is left as it is"
        assert lab.delete("c3").exit_code == 0
        assert len(lab.ports()) == 2
        etcd.start()
        lab.node.agent.wait_ready()
    assert ping.lost == 0 < ping.sent
    wait_until(lambda: lab.attachments() == {"c1", "c2"}, "what an ADD left that never answered is ended")
    assert lab.delete("c2").exit_code == 0
    wait_until(lambda: lab.attachments() == {"c1"}, "the end is told")
    for port in lab.ports():
        lab.node.switch.ip(f"link delete {port}")
    wait_until(lambda: len(lab.ports()) == 1, "healed")


def test_a_lost_journal_costs_no_guest_its_port_while_the_store_is_away(outer: Lab, etcd: Etcd) -> None:
    lab, node = outer, outer.node.namespace
    node.ip("link add br7 type bridge", "link set br7 up")
    lab.apply("house", "192.0.2.0/24", uplink="br7")
    web, db, cat, dog = (lab.guest(name) for name in ("web", "db", "cat", "dog"))
    mine = lab.added("c1", web, vm="web")
    address = lab.added("c2", db, vm="db")[0].split("/")[0]
    lab.added("c3", cat, vm="cat", network="house")
    neighbour = lab.added("c4", dog, vm="dog", network="house")[0].split("/")[0]
    table = lab.node.switch.name.replace("-", "_")
    ports, elements, guards = lab.port_indexes(), lab.elements(), lab.elements(node, table)
    assert (len(ports), len(guards["speaking"])) == (2, 2)
    with flood(web, address) as ping, flood(cat, neighbour) as other:
        lab.kill()
        (lab.node.data_dir / "attachments.jsonl").unlink()
        etcd.kill()
        for _ in range(2):  # what it begins anew says no more at the second start
            lab.node.agent.start()
            wait_until(lambda: lab.call("STATUS", "").exit_code == 0, "the agent serves without its store")
            assert (lab.port_indexes(), lab.elements()) == (ports, elements)
            assert (len(lab.ports(node)), lab.elements(node, table)) == (2, guards)
            lab.kill()
        lab.node.agent.start()
        etcd.start()
        lab.node.agent.wait_ready()
        journal = lab.node.data_dir / "attachments.jsonl"
        wait_until(lambda: journal.read_text().count('"attached"') == 4, "what runs is in the new journal")
    assert (ping.lost, other.lost) == (0, 0)
    assert lab.port_indexes() == ports
    assert lab.attachments() == {"c1", "c2", "c3", "c4"}
    assert lab.holder("web-eth0") == "c1"
    assert lab.added("c1", web, vm="web") == mine
    stray = "hp0123456789ab"
    lab.node.switch.ip(f"link add {stray} type veth peer name far", f"link set {stray} alias homeport:a/b:uid:1:")
    lab.node.switch.ip(f"link delete {next(iter(ports))}")
    wait_until(lambda: stray not in lab.ports() and len(lab.ports()) == 2, "strays go again, and what is lost is back")


@pytest.mark.parametrize("step", ["identified", "allocated", "opened"])
def test_etcd_killed_in_the_middle_of_an_add(lab: Lab, step: str) -> None:
    lab.restart(fault=f"add:{step}=pause")
    guest = lab.guest()
    answers: list[Answer] = []
    call = threading.Thread(target=lambda: answers.append(lab.add("c1", guest, vm="web")))
    call.start()
    lab.wait_fault()
    lab.kill_etcd()
    lab.resume()
    call.join()
    (answer,) = answers
    assert answer.error in (0, 11), answer
    address, mac = lab.added_soon("c1", guest, vm="web")
    assert lab.added_soon("c1", guest, vm="web") == (address, mac)
    lab.require_clean(ports=1)


def test_an_add_whose_transaction_was_not_answered_leaves_nothing(outer: Lab, etcd: Etcd) -> None:
    """etcd takes the transaction and is silent until the agent has given up."""
    lab = outer
    guest = lab.guest()
    etcd.members[0].pause()
    answer = lab.add("c1", guest, vm="web")
    assert answer.error == 11, answer
    etcd.members[0].resume()
    wait_until(lambda: lab.pending() == 0, "the end of what may have been allocated is told")
    assert lab.attachments() == set()
    assert lab.holder("web-eth0") is None
    lab.require_clean(ports=0)
    lab.added_soon("c2", guest, vm="web")
    lab.require_clean(ports=1)
    assert lab.attachments() == {"c2"}


def test_del_fails_for_a_journal_that_cannot_be_written_and_for_nothing_else(lab: Lab) -> None:
    """The limit of a file's size stands for a full disk."""
    guest = lab.guest()
    mine = lab.added("c1", guest, vm="web")
    pid = lab.node.agent.pid
    size = (lab.node.data_dir / "attachments.jsonl").stat().st_size
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 20, before[1]))
    answer = lab.delete("c1")
    assert answer.error == 11, answer
    assert "attachments.jsonl" in answer.result["msg"]
    assert lab.holder("web-eth0") == "c1"
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    assert lab.delete("c1").exit_code == 0
    assert lab.holder("web-eth0") is None
    assert lab.added("c2", guest, vm="web") == mine
    lab.restart()
    assert lab.attachments() == {"c2"}
    lab.require_clean(ports=1)
