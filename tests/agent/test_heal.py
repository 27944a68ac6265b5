"""What somebody else takes from the switch is back at the kernel's notification; what is not ours is left alone."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from homeport_api.interface import AllowedAddress, InterfaceKey
from homeport_netns_fixtures.netns import Namespace
from homeport_store import keys
from tests.asking import Refused

from .lab import Lab, flood, wait_until


def pair(lab: Lab) -> tuple[Namespace, Namespace, str]:
    """Two guests that reach each other; the second one's address."""
    web, db = lab.guest("web"), lab.guest("db")
    lab.added("c1", web, vm="web")
    address = lab.added("c2", db, vm="db")[0].split("/")[0]
    web.wait_ping(address)
    return web, db, address


def port_of(lab: Lab, vm: str) -> str:
    return next(name for name, mark in lab.ports().items() if mark.interface.name == f"{vm}-eth0")


def nft(*commands: str) -> Callable[[Lab], None]:
    return lambda lab: lab.node.switch.nft("".join(f"{command}\n" for command in commands))


def ip(command: str) -> Callable[[Lab], None]:
    return lambda lab: lab.node.switch.ip(command.format(port=port_of(lab, "web")))


def delete_element(lab: Lab) -> None:
    lab.node.switch.nft(f"delete element bridge homeport ports {{ {port_of(lab, 'web')} }}\n")


def delete_mac(lab: Lab) -> None:
    interface = lab.interface("web-eth0")
    assert interface is not None
    key = f"{port_of(lab, 'web')} . {interface.status.mac}"
    lab.node.switch.nft(f"delete element bridge homeport macs {{ {key} }}\n")


def delete_rule(lab: Lab) -> None:
    listed = lab.node.switch.run("nft", "-a", "list", "chain", "bridge", "homeport", "prerouting").stdout
    handle = next(line.rpartition("handle ")[2] for line in listed.splitlines() if "drop" in line)
    lab.node.switch.nft(f"delete rule bridge homeport prerouting handle {handle}\n")


def add_stray_element(lab: Lab) -> None:
    lab.node.switch.nft("add element bridge homeport trunks { hp0123456789ab }\n")


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(ip("link delete {port}"), id="port deleted"),
        pytest.param(ip("link delete hpi-lab"), id="bridge deleted"),
        pytest.param(ip("link set {port} down"), id="port down"),
        pytest.param(ip("link set {port} nomaster"), id="port off its bridge"),
        pytest.param(ip("link set hpi-lab down"), id="bridge down"),
        pytest.param(nft("flush ruleset"), id="ruleset flushed"),
        pytest.param(nft("delete table bridge homeport"), id="table deleted"),
        pytest.param(nft("flush set bridge homeport speaking"), id="set flushed"),
        pytest.param(nft("flush chain bridge homeport forward"), id="chain flushed"),
        pytest.param(delete_rule, id="rule deleted"),
        pytest.param(delete_element, id="element deleted"),
        pytest.param(delete_mac, id="mac element deleted"),
        pytest.param(add_stray_element, id="stray element added"),
    ],
)
def test_what_was_taken_is_back(lab: Lab, harm: Callable[[Lab], None]) -> None:
    web, _, address = pair(lab)
    ports, elements, rules = lab.ports(), lab.elements(), lab.rules()
    links = {link["ifname"]: link.get("master") for link in lab.node.switch.show("link")}
    harm(lab)

    def healed() -> bool:
        now = {link["ifname"]: link.get("master") for link in lab.node.switch.show("link")}
        return (lab.ports(), lab.elements(), lab.rules(), now) == (ports, elements, rules, links)

    wait_until(healed, "healed")
    web.wait_ping(address)
    assert lab.call("CHECK", "c1", web, vm="web").exit_code == 0


def test_a_healed_nic_has_its_routes_again_and_no_others(lab: Lab) -> None:
    lab.apply("routed", "10.79.0.0/24", gateway4="10.79.0.1", routes=[{"to": "192.0.2.0/24"}])
    plain, chained = lab.guest("plain"), lab.guest("chained")
    lab.added("c1", plain, network="routed")
    annotations = {"homeport.dev/interfaces": '[{"interfaceName": "eth1", "network": "routed"}]'}
    previous = {"cniVersion": "1.1.0", "interfaces": [], "ips": []}
    runtime = {"io.kubernetes.cri.pod-annotations": annotations}
    assert lab.add("c2", chained, network=None, prevResult=previous, runtimeConfig=runtime).exit_code == 0
    before = [guest.show("-4", "route") for guest in (plain, chained)]
    assert any(route["dst"] == "default" for route in before[0])
    assert not any(route["dst"] == "default" for route in before[1])
    made = set(lab.port_indexes().values())
    for port in lab.ports():
        lab.node.switch.ip(f"link delete {port}")
    wait_until(lambda: len(set(lab.port_indexes().values()) - made) == 2, "both ports are new ones")
    wait_until(lambda: [guest.show("-4", "route") for guest in (plain, chained)] == before, "routes are back")


def test_a_guest_that_went_with_its_port_ends_its_attachment(lab: Lab) -> None:
    web, _, _ = pair(lab)
    web.delete()
    wait_until(lambda: lab.holder("web-eth0") is None, "the vanished guest's attachment is ended")
    assert lab.interface("web-eth0") is not None, "a VM keeps its Interface"
    lab.require_clean(ports=1)


def test_what_others_do_on_the_node_changes_nothing(lab: Lab) -> None:
    web, _, address = pair(lab)
    node = lab.node.namespace
    with flood(web, address) as ping:
        node.nft(
            "add table inet theirs\nadd chain inet theirs f { type filter hook forward priority 0; policy drop; }\n"
        )
        node.nft("flush ruleset\n")
        node.ip("link add other type bridge", "link delete other")
        lab.node.switch.nft("add table bridge theirs\ndelete table bridge theirs\n")
    assert ping.lost == 0 < ping.sent
    lab.require_clean(ports=2)


def test_a_port_that_is_taken_over_while_a_repair_waits_is_not_opened_again(lab: Lab) -> None:
    """A repeated ADD keeps the repair waiting, until an operator has taken the Interface over."""
    old, new = lab.guest("old"), lab.guest("new")
    lab.added("c1", old, vm="web")
    port = port_of(lab, "web")
    lab.restart(fault="add:opened=pause")
    repeat = threading.Thread(target=lambda: lab.add("c1", old, vm="web"))
    repeat.start()
    lab.wait_fault()
    lab.node.switch.nft(f"delete element bridge homeport speaking {{ {port} }}\n")
    time.sleep(0.2)  # the repair waits by then, and is patient for a second
    lab.attach("web", new, takeOver=True)
    lab.resume()
    repeat.join()
    lab.node.switch.nft("add element bridge homeport trunks { hp0123456789ab }\n")
    wait_until(lambda: not lab.elements()["trunks"], "the healer has looked again")
    log = (lab.node.directory / "agent.log").read_text()
    assert f"healed port={port}" not in log
    assert port in lab.ports()
    assert len(lab.elements()["speaking"]) == 1
    assert lab.delete("c1").exit_code == 0
    lab.require_clean(ports=1)


def test_a_restarted_agent_disturbs_no_guest(lab: Lab) -> None:
    web, _, address = pair(lab)
    with flood(web, address) as ping:
        lab.restart()
    assert ping.lost == 0 < ping.sent
    lab.require_clean(ports=2)


def test_a_foreign_link_in_the_switch_is_left_alone(lab: Lab) -> None:
    switch = lab.node.switch
    pair(lab)
    switch.ip("link add theirs type veth peer name theirs2", "link set theirs master hpi-lab")
    switch.ip(f"link delete {port_of(lab, 'web')}")
    wait_until(lambda: len(lab.ports()) == 2, "healed")
    assert "theirs" in switch.links()
    switch.ip("link delete theirs")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"from a version to come", id="no JSON"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="a hundred thousand deep"),
    ],
)
def test_a_record_that_cannot_be_read_keeps_no_other_port_from_being_healed(lab: Lab, value: bytes) -> None:
    web, db, address = pair(lab)
    key = keys.interface(InterfaceKey("default", "db-eth0"))
    record = lab.store.get(key)
    assert record is not None
    lab.store.put_if(key, value, record.mod_revision)
    try:
        port = port_of(lab, "web")
        lab.node.switch.ip(f"link delete {port}")
        wait_until(lambda: port in lab.ports(), "the port is back")
        web.wait_ping(address)
        assert db.pings(address)
        assert "callback failed" not in (lab.node.directory / "agent.log").read_text(), "the store is followed on"
    finally:
        broken = lab.store.get(key)
        assert broken is not None
        lab.store.put_if(key, record.value, broken.mod_revision)


def is_known(lab: Lab, vm: str) -> bool:
    """Whether policies know an Interface of this VM."""
    try:
        lab.ask("trace", **{"from": "web", "to": vm})
    except Refused as refused:
        assert refused.code == 107, refused
        return False
    return True


def test_a_detach_during_a_run_is_not_undone_in_what_policies_know(lab: Lab) -> None:
    """The run has looked already, and waits for a repeated ADD of another guest: what it tells then is of before."""
    slow = lab.guest("slow")
    lab.added("slow", slow, vm="slow")
    for vm in ("web", "db", "gone"):
        lab.added(vm, lab.guest(vm), vm=vm)
    lab.restart(fault="add:opened=pause")
    wait_until(lambda: is_known(lab, "gone"), "all are known")
    repeat = threading.Thread(target=lambda: lab.add("slow", slow, vm="slow"))
    repeat.start()
    lab.wait_fault()
    known = lab.objects.interfaces.get(InterfaceKey("default", "slow-eth0"))
    allowed = (AllowedAddress(ip_address("10.77.0.250")),)
    lab.objects.interfaces.save(replace(known, spec=replace(known.spec, allowed=allowed)))
    time.sleep(0.3)  # the run has begun by then, and is patient for a second
    assert lab.delete("gone", vm="gone").exit_code == 0
    time.sleep(1.5)  # it has told
    lab.resume()
    repeat.join()
    wait_until(lambda: lab.pending() == 0, "the store knows of the end")
    assert is_known(lab, "gone"), "a VM keeps its Interface"
    lab.delete_interface("gone-eth0")
    wait_until(lambda: not is_known(lab, "gone"), "whoever is gone is forgotten", within=5.0)
    assert is_known(lab, "db")


def test_what_an_interface_loses_while_its_add_is_at_work_is_lost(lab: Lab) -> None:
    """The ADD wires what it read, and the news come before the attachment is one that they are held against."""
    extra, key = "10.77.0.250", InterfaceKey("default", "db-eth0")

    def allow(*texts: str) -> None:
        known = lab.objects.interfaces.get(key)
        allowed = tuple(AllowedAddress(ip_address(text)) for text in texts)
        lab.objects.interfaces.save(replace(known, spec=replace(known.spec, allowed=allowed)))

    def is_owned() -> bool:
        to = lab.ask("trace", **{"from": "web", "to": extra})["packet"]["to"]
        return bool(to == "default/db:eth0")

    def may_send() -> bool:
        return any(extra in text for members in lab.elements().values() for text in members)

    lab.restart(fault="add:allocated=pause")
    db, web = lab.guest("db"), lab.guest("web")
    call = threading.Thread(target=lambda: lab.add("c1", db, vm="db"))
    call.start()
    lab.wait_fault()
    lab.added("c2", web, vm="web")
    allow(extra)
    lab.resume()
    call.join()
    wait_until(lambda: is_owned() and may_send(), "what it was given meanwhile it has")
    assert lab.delete("c1", vm="db").exit_code == 0
    lab.restart(fault="add:allocated=pause")
    call = threading.Thread(target=lambda: lab.add("c1", db, vm="db"))
    call.start()
    lab.wait_fault()
    allow()
    wait_until(lambda: not is_owned(), "the policies have heard")
    lab.resume()
    call.join()
    assert lab.attachments() == {"c1", "c2"}
    assert not is_owned()
    wait_until(lambda: not may_send(), "the guards have heard", within=5.0)


def test_an_add_that_nothing_crosses_asks_for_no_comparison(lab: Lab) -> None:
    lab.added("c0", lab.guest("first"))
    time.sleep(1.0)
    runs = lab.metric("homeport_reconcile_seconds_count")
    for number in range(5):
        lab.added(f"c{number + 1}", lab.guest(f"g{number}"), vm=f"vm{number}")
    time.sleep(0.5)
    assert lab.metric("homeport_reconcile_seconds_count") == runs
    lab.node.switch.nft("add element bridge homeport trunks { hp0123456789ab }\n")
    wait_until(lambda: lab.metric("homeport_reconcile_seconds_count") > runs, "what differs does")
