"""Taps that a process holds open, moved into the switch and back; the node's own end of `attach --host`."""

import contextlib
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.asking import Refused

from .lab import Lab, wait_until

HYPERVISOR = """
import fcntl, os, struct, sys
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", sys.argv[1].encode(), 0x1002))
print("open", flush=True)
for line in sys.stdin:
    if line.startswith("send "):
        os.write(tap, bytes.fromhex(line[5:]))
        print("sent", flush=True)
    else:
        print(os.read(tap, 2048).hex(), flush=True)
"""
"""Opens a tap by name and holds it, as QEMU does: `send HEX` puts a frame out, `receive` waits for one."""


@dataclass(slots=True)
class Hypervisor:
    process: subprocess.Popen[str]

    def _say(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def send(self, frame: bytes) -> None:
        assert self._say(f"send {frame.hex()}") == "sent"

    def receive(self, wanted: Callable[[bytes], bool]) -> bytes:
        for _ in range(50):
            frame = bytes.fromhex(self._say("receive"))
            if wanted(frame):
                return frame
        raise AssertionError("the frame did not come among fifty")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


Hold = Callable[[str], Hypervisor]


@pytest.fixture
def hold(lab: Lab) -> Iterator[Hold]:
    """Starts a hypervisor on a tap in the node's namespace."""
    with contextlib.ExitStack() as stack:

        def start(tap: str) -> Hypervisor:
            command = lab.node.namespace.command(sys.executable, "-c", HYPERVISOR, tap)
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            hypervisor = Hypervisor(process)
            stack.callback(hypervisor.end)
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            return hypervisor

        yield start


def arp_request(mac: str, sender: str, target: str) -> bytes:
    me = bytes.fromhex(mac.replace(":", ""))
    addresses = [bytes(map(int, address.split("."))) for address in (sender, target)]
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, me, addresses[0], bytes(6), addresses[1])
    return b"\xff" * 6 + me + b"\x08\x06" + body


def is_answer(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02"


def ask_peer(lab: Lab, hypervisor: Hypervisor, vm: str, peer: str) -> None:
    """The VM asks who has the peer's address and is answered: frames flow both ways."""
    interface = lab.interface(f"{vm}-eth0")
    assert interface is not None
    assert interface.status.mac is not None
    hypervisor.send(arp_request(interface.status.mac, str(interface.status.addresses[0].ip), peer))
    assert hypervisor.receive(is_answer)[28:32] == bytes(map(int, peer.split(".")))


def attach_tap(lab: Lab, vm: str, tap: str) -> str:
    return lab.attach(vm, kind="tap", tap=tap)


def test_frames_flow_through_a_tap_that_was_open_while_it_moved(lab: Lab, hold: Hold) -> None:
    peer = lab.attach("peer", lab.guest("peer")).split("/")[0]
    vm = hold("tap0")
    address = attach_tap(lab, "web", "tap0")
    assert "tap0" not in lab.node.namespace.links()
    ask_peer(lab, vm, "web", peer)
    assert attach_tap(lab, "web", "tap0") == address, "a repeat"
    ask_peer(lab, vm, "web", peer)
    lab.restart()
    ask_peer(lab, vm, "web", peer)
    lab.require_clean(ports=2)
    assert lab.ask("detach", vm="web") == {"detached": ["eth0"]}
    assert "tap0" in lab.node.namespace.links(), "the open tap went back to where it came from"
    assert attach_tap(lab, "web", "tap0") == address
    ask_peer(lab, vm, "web", peer)


def test_a_tap_healed_by_hand_still_knows_where_it_came_from(lab: Lab, hold: Hold) -> None:
    peer = lab.attach("peer", lab.guest("peer")).split("/")[0]
    vm = hold("tap0")
    attach_tap(lab, "web", "tap0")
    port = next(name for name, mark in lab.ports().items() if mark.origin == "tap0")
    lab.node.switch.ip(f"link set {port} nomaster")
    wait_until(lambda: lab.master(port) == "hpi-lab", "the tap is on its bridge again")
    wait_until(lambda: any(port in member for member in lab.elements()["speaking"]), "and may speak")
    ask_peer(lab, vm, "web", peer)
    lab.ask("detach", vm="web")
    assert "tap0" in lab.node.namespace.links()


def test_the_end_of_a_hypervisor_ends_its_holder_and_the_next_one_attaches(lab: Lab, hold: Hold) -> None:
    peer = lab.attach("peer", lab.guest("peer")).split("/")[0]
    vm = hold("tap0")
    address = attach_tap(lab, "web", "tap0")
    vm.end()
    wait_until(lambda: lab.holder("web-eth0") is None, "the holder of a dead hypervisor is ended")
    lab.require_clean(ports=1)
    vm = hold("tap0")
    assert attach_tap(lab, "web", "tap0") == address
    ask_peer(lab, vm, "web", peer)


def test_a_hypervisor_that_is_back_at_once_is_not_cut_off(lab: Lab, hold: Hold) -> None:
    """The look for the dead one and the attach of the next meet."""
    peer = lab.attach("peer", lab.guest("peer")).split("/")[0]
    for _ in range(5):
        vm = hold("tap0")
        attach_tap(lab, "web", "tap0")
        vm.end()
        vm = hold("tap0")
        attach_tap(lab, "web", "tap0")
        time.sleep(0.1)  # time for a late healer to do harm
        ask_peer(lab, vm, "web", peer)
        vm.end()
        wait_until(lambda: lab.holder("web-eth0") is None, "ended")


@pytest.mark.parametrize("moved", [False, True])
def test_a_return_cut_short_by_a_kill_is_finished_at_the_next_start(lab: Lab, hold: Hold, moved: bool) -> None:
    peer = lab.attach("peer", lab.guest("peer")).split("/")[0]
    vm = hold("tap0")
    attach_tap(lab, "web", "tap0")
    lab.restart(fault="del:journaled=kill")
    with pytest.raises(AssertionError, match="closed the connection"):
        lab.ask("detach", vm="web")
    lab.node.agent.wait_exit()
    (port,) = (name for name, mark in lab.ports().items() if mark.origin)
    lab.node.switch.ip(f"link set {port} nomaster down")
    if moved:
        lab.node.switch.ip(f"link set {port} netns {lab.node.namespace.name} name tap0")
    lab.start()

    def finished() -> bool:
        return any(
            link["ifname"] == "tap0" and "ifalias" not in link for link in lab.node.namespace.show("link")
        ) and not any(mark.origin for mark in lab.ports().values())

    wait_until(finished, "the tap is the hypervisor's again, and nobody else's")
    attach_tap(lab, "web", "tap0")
    ask_peer(lab, vm, "web", peer)
    lab.require_clean(ports=2)


def test_a_tap_whose_name_is_taken_meanwhile_is_deleted_and_detach_succeeds(lab: Lab, hold: Hold) -> None:
    hold("tap0")
    attach_tap(lab, "web", "tap0")
    lab.node.namespace.ip("link add tap0 type bridge")
    assert lab.ask("detach", vm="web") == {"detached": ["eth0"]}
    wait_until(lambda: not lab.has_any_port(), "the tap is gone")
    lab.require_clean(ports=0)
    lab.node.namespace.ip("link delete tap0")


def test_a_tap_that_nobody_opened_is_refused_with_the_remedy(lab: Lab) -> None:
    node = lab.node.namespace
    node.ip("tuntap add tap9 mode tap")
    with pytest.raises(Refused, match="nobody has tap tap9 open: start the hypervisor") as refused:
        attach_tap(lab, "web", "tap9")
    assert refused.value.code == 104
    with pytest.raises(Refused, match="does not exist") as refused:
        attach_tap(lab, "web", "tap8")
    assert refused.value.code == 107
    with pytest.raises(Refused, match="not a tap") as refused:
        attach_tap(lab, "web", "eth1")
    assert refused.value.code == 104
    node.ip("link delete tap9")
    assert lab.interface("web-eth0") is None, "a refused attach leaves nobody a place"
    lab.require_clean(ports=0)


def test_the_node_reaches_guests_by_an_end_of_its_own_and_keeps_its_routes(lab: Lab) -> None:
    lab.apply("routed", "10.79.0.0/24", gateway4="10.79.0.1", routes=[{"to": "192.0.2.0/24"}])
    node = lab.node.namespace
    node.ip("address add 198.51.100.2/24 dev eth1", "route add default via 198.51.100.1")
    guest = lab.guest()
    address = lab.attach("web", guest, network="routed").split("/")[0]
    before = {str(route["dst"]): route["dev"] for route in node.show("-4", "route")}
    lab.attach("admin", kind="host", network="routed")
    assert "hp-admin" in node.links()
    node.wait_ping(address)
    after = {str(route["dst"]): route["dev"] for route in node.show("-4", "route")}
    assert after == before | {"10.79.0.0/24": "hp-admin"}
    lab.ask("detach", vm="admin")
    wait_until(lambda: "hp-admin" not in node.links(), "the node's end is gone")
    node.ip("address delete 198.51.100.2/24 dev eth1")
    lab.require_clean(ports=1)


def test_a_second_hypervisor_with_the_name_of_the_first_is_refused(lab: Lab, hold: Hold) -> None:
    """The first one's tap moved away, so its name is free; its guest must not lose its place for that."""
    hold("tap0")
    lab.ask("attach", vm="web", interface="eth0", network="lab", kind="tap", tap="tap0")
    (port,) = lab.ports()
    hold("tap0")
    with pytest.raises(Refused) as refused:
        lab.ask("attach", vm="web", interface="eth0", network="lab", kind="tap", tap="tap0")
    assert refused.value.code == 102
    assert set(lab.ports()) == {port}
    assert any(port in member for member in lab.elements()["speaking"])
