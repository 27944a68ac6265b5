"""ADD and DEL in every order, twice, and beside each other; who may take an Interface over, and what a DEL frees."""

import threading
from pathlib import Path

import pytest

from homeport_netns_fixtures.cni import Answer
from homeport_netns_fixtures.netns import Namespace
from tests.asking import Refused

from .lab import Lab, flood, together, wait_until


class Call:
    """An ADD on a thread of its own; `answer` waits for it."""

    def __init__(self, lab: Lab, container: str, guest: Namespace) -> None:
        self._answers: list[Answer] = []
        self._thread = threading.Thread(target=lambda: self._answers.append(lab.add(container, guest, vm="web")))
        self._thread.start()

    def answer(self) -> Answer:
        self._thread.join()
        return self._answers[0]


def test_del_may_come_first_twice_and_between(lab: Lab) -> None:
    assert lab.delete("never").exit_code == 0
    first, second = lab.guest(), lab.guest("second")
    mine = lab.added("c1", first, vm="web")
    assert [lab.delete("c1").exit_code for _ in range(2)] == [0, 0]
    assert first.links() == {"lo"} or wait_until(lambda: first.links() == {"lo"}, "the guest's end is gone")
    assert lab.added("c1", first, vm="web") == mine, "the same container again"
    assert lab.delete("c1").exit_code == 0
    assert lab.added("c2", second, vm="web") == mine, "and another one"
    assert lab.delete("c1").exit_code == 0, "a late DEL"
    assert lab.holder("web-eth0") == "c2"
    lab.require_clean(ports=1)


def test_two_adds_of_one_attachment_at_once_answer_the_same(lab: Lab) -> None:
    guest = lab.guest()
    answers = together(4, lambda _: lab.added("c1", guest, vm="web"))
    assert len(set(answers)) == 1, answers
    lab.require_clean(ports=1)


def test_add_and_del_crossing_leave_one_or_the_other(lab: Lab) -> None:
    guest = lab.guest()
    for _ in range(5):
        answers = together(4, lambda at: lab.add("c1", guest, vm="web") if at % 2 else lab.delete("c1"))
        assert [answer.exit_code for answer in answers] == [0, 0, 0, 0], answers
    present = len(lab.ports())
    assert lab.attachments() == ({"c1"} if present else set())
    lab.require_clean(ports=present)
    assert lab.add("c1", guest, vm="web").exit_code == 0
    lab.require_clean(ports=1)


def test_a_repeated_add_answers_the_same_and_its_guest_loses_no_packet(lab: Lab) -> None:
    web, db = lab.guest("web"), lab.guest("db")
    before = lab.added("c1", web, vm="web")
    address, _ = lab.added("c2", db, vm="db")
    with flood(web, address.split("/")[0]) as ping:
        for _ in range(10):
            assert lab.added("c1", web, vm="web") == before
        assert lab.call("CHECK", "c1", web, vm="web").exit_code == 0
    assert ping.lost == 0 < ping.sent


def test_a_held_interface_is_refused_and_the_holder_named(lab: Lab) -> None:
    lab.added("c1", lab.guest(), vm="web")
    answer = lab.add("c2", lab.guest("other"), vm="web")
    assert answer.error == 102
    assert "c1" in answer.result["msg"]
    assert "web-eth0" in answer.result["msg"]
    lab.require_clean(ports=1)


def test_an_interface_whose_port_is_gone_may_be_taken(lab: Lab) -> None:
    old, new = lab.guest("old"), lab.guest("new")
    before = lab.added("c1", old, vm="web")
    old.delete()  # the sandbox died, and nobody said DEL
    wait_until(lambda: lab.holder("web-eth0") is None, "the attachment of a vanished guest is ended")
    assert lab.added("c2", new, vm="web") == before
    assert lab.delete("c1").exit_code == 0
    assert lab.holder("web-eth0") == "c2"
    lab.require_clean(ports=1)


def test_an_operator_may_take_over_and_the_old_port_is_mute(lab: Lab) -> None:
    old, new, peer = (lab.guest(name) for name in ("old", "new", "peer"))
    address = lab.attach("web", old)
    other = lab.attach("peer", peer).split("/")[0]
    old.wait_ping(other)
    epoch = lab.epoch("web-eth0")
    with pytest.raises(Refused, match="held by") as refused:
        lab.attach("web", new)
    assert refused.value.code == 102
    assert lab.attach("web", new, takeOver=True) == address
    assert lab.epoch("web-eth0") == epoch + 1
    assert not old.pings(other, wait=0.5), "the old port speaks beside the new one"
    new.wait_ping(other)
    speaking = lab.elements()["speaking"]
    assert len(speaking) == 2, speaking


def test_a_port_that_was_taken_over_stays_mute_when_its_successor_ends(lab: Lab) -> None:
    old, new, peer = (lab.guest(name) for name in ("old", "new", "peer"))
    lab.added("c1", old, vm="web")
    other = lab.attach("peer", peer).split("/")[0]
    lab.attach("web", new, takeOver=True)
    lab.ask("detach", vm="web")
    assert lab.holder("web-eth0") is None
    lab.node.switch.nft("add element bridge homeport trunks { hp0123456789ab }\n")
    wait_until(lambda: not lab.elements()["trunks"], "the healer has looked")
    assert not old.pings(other, wait=0.5)
    lab.restart()
    assert not old.pings(other, wait=0.5), "nor after a restart"
    assert lab.delete("c1").exit_code == 0
    lab.require_clean(ports=1)


def test_the_end_of_an_attachment_that_was_taken_over_frees_nothing(lab: Lab) -> None:
    old, new = lab.guest("old"), lab.guest("new")
    address, mac = lab.added("c1", old, vm="web")
    assert lab.attach("web", new, takeOver=True) == address
    assert lab.delete("c1").exit_code == 0
    interface = lab.interface("web-eth0")
    assert interface is not None
    assert (str(interface.status.addresses[0]), interface.status.mac) == (address, mac)
    assert interface.active_holder is not None
    assert "new" in interface.active_holder.container_id
    lab.require_clean(ports=1)


@pytest.mark.parametrize("applied", [False, True])
def test_an_add_that_fails_takes_its_interface_with_it_and_no_manifest(lab: Lab, applied: bool) -> None:
    manifest = """{apiVersion: homeport.dev/v1, kind: Interface, metadata: {name: web-eth0, labels: {tier: web}},
        spec: {networkName: lab, virtualMachineName: web, interfaceName: eth0}}"""
    lab.restart(fault="add:allocated=pause")
    guest = lab.guest("c1")
    guest.ip("link add eth0 type bridge")  # the link cannot be made
    call = Call(lab, "c1", guest)
    lab.wait_fault()
    if applied:
        lab.node.homeport("apply", "-f", "-", stdin=manifest)
    lab.resume()
    assert call.answer().exit_code != 0
    interface = lab.interface("web-eth0")
    assert (interface is not None) == applied
    if interface is not None:
        assert (interface.meta.labels, interface.status.holders) == ({"tier": "web"}, ())
    lab.require_clean(ports=0)


def test_an_interface_with_the_longest_name_is_attached_like_any_other(lab: Lab) -> None:
    name = ".".join(("i" * 63, "j" * 63, "k" * 63, "l" * 61))
    assert len(name) == 253
    manifest = (
        f"{{apiVersion: homeport.dev/v1, kind: Interface, metadata: {{name: {name}}}, spec: {{networkName: lab}}}}"
    )
    lab.node.homeport("apply", "-f", "-", stdin=manifest)
    guest, peer = lab.guest(), lab.guest("peer")
    mine = lab.added("c1", guest, network=None, interface=name)
    address = lab.added("c2", peer, vm="peer")[0].split("/")[0]
    with flood(guest, address) as ping:
        assert lab.added("c1", guest, network=None, interface=name) == mine
        assert lab.call("CHECK", "c1", guest, network=None, interface=name).exit_code == 0
        lab.restart()
    assert ping.lost == 0 < ping.sent
    port = next(port for port, mark in lab.ports().items() if mark.interface.name != "peer-eth0")
    index = lab.port_indexes()[port]
    lab.node.switch.ip(f"link set {port} nomaster")
    wait_until(lambda: lab.master(port) == "hpi-lab", "healed")
    assert lab.port_indexes()[port] == index
    lab.require_clean(ports=2)
    assert lab.delete("c1").exit_code == 0
    lab.require_clean(ports=1)


def test_attach_repeats_with_the_same_link_and_refuses_another(lab: Lab) -> None:
    guest, other = lab.guest(), lab.guest("other")
    first = lab.attach("web", guest)
    assert lab.attach("web", guest) == first
    with pytest.raises(Refused) as refused:
        lab.attach("web", other)
    assert refused.value.code == 102
    assert lab.ask("detach", vm="web") == {"detached": ["eth0"]}
    assert lab.attach("web", other) == first


@pytest.mark.parametrize("step", ["allocated", "wired", "opened"])
def test_an_add_at_work_is_a_holder_whose_port_is_not_gone(lab: Lab, step: str) -> None:
    lab.restart(fault=f"add:{step}=pause")
    first = Call(lab, "c1", lab.guest("first"))
    lab.wait_fault()
    answer = lab.add("c2", lab.guest("second"), vm="web")
    lab.resume()
    assert first.answer().exit_code == 0
    assert answer.error == 102, answer
    assert "c1" in answer.result["msg"]
    assert lab.epoch("web-eth0") == 1
    lab.require_clean(ports=1)


@pytest.mark.parametrize("step", ["allocated", "wired", "opened"])
def test_an_add_that_was_taken_over_while_at_work_is_silent_and_refused(lab: Lab, step: str) -> None:
    lab.restart(fault=f"add:{step}=pause")
    first = Call(lab, "c1", lab.guest("first"))
    lab.wait_fault()
    new, peer = lab.guest("new"), lab.guest("peer")
    lab.attach("web", new, takeOver=True)
    (speaking,) = lab.elements()["speaking"]
    lab.resume()
    answer = first.answer()
    assert answer.error == 102, answer
    assert "web-eth0" in answer.result["msg"]
    assert lab.elements()["speaking"] == {speaking}
    wait_until(lambda: lab.pending() == 0, "the refused call is settled")
    assert "c1" not in lab.attachments()
    assert lab.epoch("web-eth0") == 2
    new.wait_ping(lab.attach("peer", peer).split("/")[0])
    lab.require_clean(ports=2)


@pytest.mark.parametrize("before", ["nobody", "a vanished guest"])
def test_of_many_adds_for_one_vm_exactly_one_succeeds(lab: Lab, before: str) -> None:
    for number in range(6):
        if before == "a vanished guest":
            vanished = lab.guest(f"old{number}")
            lab.added(f"old{number}", vanished, vm="web")
            vanished.delete()
        guests = [lab.guest(f"r{number}g{at}") for at in range(4)]
        answers = together(4, lambda at, n=number, guests=guests: lab.add(f"r{n}c{at}", guests[at], vm="web"))
        won = [at for at, answer in enumerate(answers) if answer.exit_code == 0]
        if won or before == "nobody":
            assert sorted(answer.error for answer in answers) == [0, 102, 102, 102], answers
            assert lab.holder("web-eth0") == f"r{number}c{won[0]}"
            assert len(lab.elements()["speaking"]) == 1
        for at in range(4):
            assert lab.delete(f"r{number}c{at}").exit_code == 0
        assert lab.delete(f"old{number}").exit_code == 0
        lab.require_clean(ports=0)


def test_an_attach_by_hand_keeps_no_descriptor_of_its_namespace(lab: Lab) -> None:
    """First, repeated and refused: an open one would keep a namespace alive that is deleted."""
    guest = lab.guest()
    descriptors = Path(f"/proc/{lab.node.agent.pid}/fd")
    inode = guest.path.stat().st_ino

    def held() -> int:
        return sum(each.exists() and each.stat().st_ino == inode for each in descriptors.iterdir())

    lab.attach("web", guest)
    lab.attach("web", guest)
    with pytest.raises(Refused):
        lab.attach("db", guest, network="nosuch")
    assert held() == 0
