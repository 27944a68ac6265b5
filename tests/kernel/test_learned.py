"""Addresses that guests take by themselves, over two nodes: one owner on both, wherever he goes, a peer like others."""

import contextlib
import os
import random
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from homeport_api.interface import InterfaceKey
from homeport_ipam.allocator import Allocator
from homeport_ipam.fsck import judge
from homeport_ipam.view import View
from homeport_netns_fixtures.capture import send
from homeport_netns_fixtures.topology import Node
from homeport_store import keys
from homeport_store.objects import Objects

from .lan import Guest, Lan, ping, wait_until
from .policies import PORT, Policies, allow, connect, policy

ADDRESSES = {at: (f"198.18.0.{at}", f"2001:db8:18::{at}") for at in (1, 2, 3)}


@pytest.fixture
def open_network(lan: Lan) -> Iterator[None]:
    """A Network without pools, and nothing left of it in the store."""
    lan.apply("open", pool=None, vlan=400)
    yield
    allocator = Allocator(lan.store, View(), "homeport", 0.0, time.time, random.Random(0))
    for interface in Objects(lan.store).interfaces_on("open"):
        allocator.delete_interface(interface.key, "the test is over")
    assert not lan.store.list(keys.ADDRESSES + "bond0:400/").records
    lan.delete_network("open")


def join(lan: Lan, node: Node, name: str, number: int) -> Guest:
    """A guest that sets its addresses by itself, IPv6 with duplicate address detection."""
    guest = lan.attach(node, name, "open")
    four, six = ADDRESSES[number]
    guest.namespace.ip(f"address add {four}/24 dev eth0", f"address add {six}/64 dev eth0")
    return guest


def took(lan: Lan, name: str) -> set[str]:
    interface = Objects(lan.store).interfaces.get(InterfaceKey("default", f"{name}-eth0"))
    return {str(each.address) for each in interface.status.learned}


def arp(guest: Guest, sender: str, asked: str) -> bytes:
    own = bytes.fromhex(guest.mac.replace(":", ""))
    body = bytes.fromhex("0001080006040001") + own + ip_address(sender).packed + bytes(6) + ip_address(asked).packed
    return b"\xff" * 6 + own + b"\x08\x06" + body + os.urandom(50)


@contextlib.contextmanager
def serving(guest: Guest, address: str) -> Iterator[None]:
    with guest.namespace.entered():
        listening = socket.create_server((address, PORT), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    with listening:
        yield


def test_an_address_has_one_owner_on_all_nodes_and_moves_with_him(lan: Lan, open_network: None) -> None:
    (one4, one6), (two4, two6), (three4, _) = ADDRESSES.values()
    policies, guests = Policies(lan), dict[str, Guest]()

    def leave() -> None:
        for guest in guests.values():
            lan.detach(guest)

    with contextlib.ExitStack() as stack:
        stack.callback(leave)
        one = guests["open1"] = join(lan, lan.a, "open1", 1)
        two = guests["open2"] = join(lan, lan.b, "open2", 2)
        wait_until(lambda: ping(one, two4, wait=1), "they reach one another by IPv4")
        wait_until(lambda: ping(one, two6, wait=1), "and by IPv6")
        wait_until(lambda: (took(lan, "open1"), took(lan, "open2")) == ({one4, one6}, {two4, two6}), "both are bound")

        # Refused to a guest of the other node, which is heard with its own.
        thief = guests["open3"] = join(lan, lan.b, "open3", 3)
        wait_until(lambda: ping(thief, two4, wait=1), "a third one has its own address")
        before = lan.drops(lan.b)["foreign_arp"]
        with lan.wires() as wires:
            for _ in range(3):
                send(thief.namespace, "eth0", arp(thief, one4, two4))
            probe = arp(thief, "0.0.0.0", one4)
            send(thief.namespace, "eth0", probe)
            wires.wait_sent(lan.b, probe)  # probes pass
            spoofed = arp(thief, one4, two4)[14:]
            assert not [each for each in wires.sent(lan.b) if each.payload.startswith(spoofed[:28])]
        assert lan.drops(lan.b)["foreign_arp"] == before + 3
        assert one4 not in took(lan, "open3")

        # A peer by selector, on the other node, by either family.
        policies.put(policy("open", allow("open2", "open1", port=PORT), network="open"), two)
        stack.callback(policies.clear)
        for address in (two4, two6):
            with serving(two, address):
                wait_until(lambda to=address: reached(one, to), f"the one that is allowed reaches {address}")
                assert not reached(thief, address)

        # It goes where its Interface goes: nothing there is lost, and it is refused elsewhere still.
        lan.detach(guests.pop("open1"))
        send(thief.namespace, "eth0", arp(thief, one4, two4))
        wait_until(lambda: lan.drops(lan.b)["foreign_arp"] >= before + 4, "nobody holds it, and it is not free")
        moved = guests["open1"] = join(lan, lan.b, "open1", 1)
        before = lan.drops(lan.b)["foreign_arp"]
        assert ping(moved, three4)
        assert lan.drops(lan.b)["foreign_arp"] == before
        assert took(lan, "open1") == {one4, one6}
        assert three4 in took(lan, "open3")
        assert judge(lan.store.list(keys.PREFIX), time.time(), random.Random(0)) == ()


def reached(guest: Guest, address: str) -> bool:
    made = connect(guest, address)
    if made is not None:
        made.close()
    return made is not None
