"""What the kernel tells, as it happens."""

import queue
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from homeport_api.addresses import VlanId
from homeport_dataplane import links, monitor
from homeport_dataplane.bridge import ensure_bridge
from homeport_dataplane.monitor import Event, LinkChanged, LinkGone, Lost, Monitor, RulesetChanged, VlansChanged
from homeport_dataplane.nft import Nft
from homeport_dataplane.veth import ensure_veth
from homeport_dataplane.vlan import PortVlans, ensure_vlans
from tests.dataplane.conftest import BRIDGE, Box, BoxMaker, guest_in, port_of


class Heard:
    """A monitor read by a thread of its own."""

    def __init__(self, box: Box) -> None:
        self.monitor = Monitor(box.ns)
        self._events: queue.Queue[Event] = queue.Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for event in self.monitor:
            self._events.put(event)

    def wait(self, wanted: Callable[[Event], bool]) -> Event:
        while True:
            event = self._events.get(timeout=30)
            if wanted(event):
                return event

    def close(self) -> None:
        self.monitor.close()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()


@pytest.fixture
def heard(switch: Box) -> Iterator[Heard]:
    listening = Heard(switch)
    yield listening
    listening.close()


def test_links_come_change_and_go(switch: Box, box: BoxMaker, heard: Heard) -> None:
    port = port_of("uid1")
    link = ensure_veth(switch.ns, port, guest_in(box("guest")))
    new = heard.wait(lambda event: isinstance(event, LinkChanged) and event.new)
    assert isinstance(new, LinkChanged) and new.link.name == port.name
    heard.wait(lambda event: isinstance(event, LinkChanged) and event.link.mark == port.mark and event.link.up)
    switch.shell.ip(f"link set {port.name} nomaster")
    heard.wait(
        lambda event: isinstance(event, LinkChanged) and event.link.index == link.index and not event.link.master
    )
    switch.shell.ip(f"link del {port.name}")
    assert heard.wait(lambda event: isinstance(event, LinkGone)) == LinkGone(link.index, port.name)


def test_leaving_a_bridge_is_no_end_of_a_link(switch: Box, heard: Heard) -> None:
    switch.shell.ip("link add p0 type veth peer name p1", f"link set p0 master {BRIDGE}", "link set p0 nomaster")
    switch.shell.ip("link del p0")
    gone = {heard.wait(lambda event: isinstance(event, LinkGone)) for _ in range(2)}
    assert {event.name for event in gone if isinstance(event, LinkGone)} == {"p0", "p1"}


def test_who_changed_the_ruleset(switch: Box, heard: Heard) -> None:
    nft = Nft(switch.ns)
    nft.apply(b"add table bridge homeport")
    ours = heard.wait(lambda event: isinstance(event, RulesetChanged))
    assert isinstance(ours, RulesetChanged)
    assert (ours.tables, ours.ours) == ({"homeport"}, True)
    switch.shell.nft("table inet theirs { }")
    switch.shell.run("nft", "flush", "ruleset")
    theirs = heard.wait(lambda event: isinstance(event, RulesetChanged))
    assert isinstance(theirs, RulesetChanged)
    assert (theirs.tables, theirs.process, theirs.ours) == ({"homeport"}, "nft", False)


def test_too_slow_a_reader_is_told(switch: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor.NetlinkListener.__init__, "__defaults__", (4096,))
    slow = Monitor(switch.ns)
    switch.shell.ip(*(f"link add s{at} type bridge" for at in range(50)))
    events = iter(slow)
    seen: list[Event] = []
    while not seen or seen[-1] != Lost():
        seen.append(next(events))
    slow.close()
    assert len([event for event in seen if isinstance(event, LinkChanged)]) < 50
    list(events)


def test_closed_before_it_is_read(switch: Box) -> None:
    unread = Monitor(switch.ns)
    unread.close()
    unread.close()
    assert list(unread) == []


def test_vlans_taken_by_hand(vlan_kernel: None, switch: Box, box: BoxMaker, heard: Heard) -> None:
    ensure_bridge(switch.ns, "hpb-eth2", vlan_aware=True)
    port = port_of("uid1", bridge="hpb-eth2")
    link = ensure_veth(switch.ns, port, guest_in(box("guest")))
    ensure_vlans(switch.ns, port.name, PortVlans(VlanId(100)))
    heard.wait(lambda event: event == VlansChanged(link.index))
    subprocess.run(switch.shell.command("bridge", "vlan", "del", "vid", "100", "dev", port.name), check=True)
    heard.wait(lambda event: event == VlansChanged(link.index))
    assert links.find_link(switch.ns, port.name) is not None
