"""Asking the wire whether an address is in use, through an uplink and never towards our own guest.

IPv4: ARP probes (RFC 5227 §2.1.1: sender address 0, so that nobody's cache learns of them). IPv6: a neighbour
solicitation as for duplicate address detection (RFC 4862 §5.4.2: from the unspecified address). Both have the guest's
MAC as their source. An answer, or anything else that claims the address from another MAC, is a claim.

The kernel passes on what may be a claim to one of the probed addresses, and no other frame: a busy uplink, or a flood
of ARP on it, costs nothing here.

Building and reading frames, and building the filter, is pure; `Wire` has the socket.
"""

import contextlib
import ctypes
import select
import socket
import struct
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from homeport_api.addresses import IpAddress, MacAddress, VlanId
from homeport_dataplane.netns import Namespace, entered

_ARP, _IPV6, _VLAN = 0x0806, 0x86DD, 0x8100
_ICMPV6, _SOLICITATION, _ADVERTISEMENT = 58, 135, 136
_ALL = 0x0003
_SOL_PACKET, _AUXDATA, _IGNORE_OUTGOING = 263, 8, 23
_VLAN_VALID = 0x10
_TPACKET_AUXDATA = struct.Struct("=IIIHHHH")
_SO_ATTACH_FILTER = 26
_WHOLE = 2048
_MOST_MATCHED = 256
"""Addresses that a filter compares; with more, all claims pass. The kernel has 4096 instructions and less memory."""
_MOST_FRAMES = 500
"""Frames that are read in one `listen`, should somebody flood the very addresses."""
_LDH, _LDH_X, _LDB_X, _LDW_X, _LDX, _JA, _JEQ, _RET = 0x28, 0x48, 0x50, 0x40, 0x01, 0x05, 0x15, 0x06


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody on the wire says that the address is theirs. `vlan` None: without a tag."""

    address: IpAddress
    mac: MacAddress
    vlan: VlanId | None = None


def build_probe(address: IpAddress, mac: MacAddress, vlan: VlanId | None = None) -> bytes:
    """The whole frame, tagged where `vlan` is given."""
    ours = bytes.fromhex(mac.replace(":", ""))
    if isinstance(address, IPv4Address):
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + ours + bytes(4) + bytes(6) + address.packed
        return _ethernet(b"\xff" * 6, ours, vlan, _ARP, body)
    group = IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | (int(address) & 0xFFFFFF))
    message = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + address.packed
    checksum = _checksum(bytes(16) + group.packed + struct.pack("!II", len(message), _ICMPV6) + message)
    message = message[:2] + struct.pack("!H", checksum) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, 255) + bytes(16) + group.packed
    return _ethernet(b"\x33\x33" + group.packed[-4:], ours, vlan, _IPV6, header + message)


def read_claim(frame: bytes, vlan: VlanId | None = None) -> Claim | None:
    """What a frame claims; None for every other frame, malformed ones included. `vlan` is the tag that the kernel has
    taken off already."""
    if len(frame) < 14:
        return None
    kind = int.from_bytes(frame[12:14], "big")
    at = 14
    if kind == _VLAN and vlan is None and len(frame) >= 18:
        vlan, kind, at = VlanId(int.from_bytes(frame[14:16], "big") & 0xFFF), int.from_bytes(frame[16:18], "big"), 18
    body = frame[at:]
    if kind == _ARP:
        return _read_arp(body, vlan)
    return _read_neighbour(body, frame[6:12], vlan) if kind == _IPV6 else None


def _read_arp(body: bytes, vlan: VlanId | None) -> Claim | None:
    """A probe of somebody else's (sender 0) claims nothing yet: RFC 5227 lets two probers meet, and the one that is
    configured answers."""
    if len(body) < 28 or body[:6] != b"\x00\x01\x08\x00\x06\x04":
        return None
    sender = IPv4Address(body[14:18])
    return None if int(sender) == 0 else Claim(sender, _mac(body[8:14]), vlan)


def _read_neighbour(body: bytes, source: bytes, vlan: VlanId | None) -> Claim | None:
    if len(body) < 64 or body[6] != _ICMPV6 or body[7] != 255 or body[40] != _ADVERTISEMENT:
        return None
    return Claim(IPv6Address(body[48:64]), _mac(source), vlan)


def build_filter(addresses: Collection[IpAddress]) -> bytes:
    """Classic BPF (Linux, Documentation/networking/filter.rst): ARP whose sender is one of the addresses, and neighbour
    advertisements of one by its last 32 bits, with a tag in the frame or without. A load beyond the frame drops it."""
    program = [
        (_LDX, 0, 0, 0),
        (_LDH, 0, 0, 12),
        (_JEQ, 0, 1, _VLAN),
        (_LDX, 0, 0, 4),  # from here on, X is what a tag adds
        (_LDH_X, 0, 0, 12),
        (_JEQ, 8, 0, _ARP),
        (_JEQ, 0, 4, _IPV6),
        (_LDB_X, 0, 0, 20),
        (_JEQ, 0, 2, _ICMPV6),
        (_LDB_X, 0, 0, 54),
        (_JEQ, 1, 0, _ADVERTISEMENT),
        (_RET, 0, 0, 0),
        (_LDW_X, 0, 0, 74),  # the end of the advertised address
        (_JA, 0, 0, 1),
        (_LDW_X, 0, 0, 28),  # ARP's sender
    ]
    if len(addresses) > _MOST_MATCHED:
        program.append((_RET, 0, 0, _WHOLE))
    else:
        for word in sorted({int(address) & 0xFFFFFFFF for address in addresses}):
            program += [(_JEQ, 0, 1, word), (_RET, 0, 0, _WHOLE)]
        program.append((_RET, 0, 0, 0))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


class Wire:
    """A raw socket on one link of a namespace: sends probes there and hears who claims which of the addresses."""

    def __init__(self, namespace: Namespace, link: str, addresses: Collection[IpAddress]) -> None:
        """Raises OSError when the link is gone. Protocol 0 until it is bound, or frames of other links, and such as the
        filter drops, slip in."""
        program = ctypes.create_string_buffer(build_filter(addresses))
        instructions = struct.pack("HL", (len(program) - 1) // 8, ctypes.addressof(program))
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with entered(namespace):
            self._socket = socket.socket(socket.AF_PACKET, kind, 0)
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, instructions)
                self._socket.setsockopt(_SOL_PACKET, _AUXDATA, 1)
                self._socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
                self._socket.bind((link, _ALL))
            except OSError:
                self._socket.close()
                raise

    def send(self, frame: bytes) -> None:
        """Raises OSError when the link is down or gone."""
        self._socket.send(frame)

    def listen(self, seconds: float) -> Iterator[Claim]:
        """Claims as they come, for this long, from so many frames at most. A link that goes away ends it."""
        until = time.monotonic() + seconds
        for _ in range(_MOST_FRAMES):
            if (left := until - time.monotonic()) <= 0:
                return
            ready, _, _ = select.select([self._socket], [], [], left)
            if not ready:
                return
            try:
                frame, ancillary, _, _ = self._socket.recvmsg(_WHOLE, 64)
            except BlockingIOError:
                continue
            except OSError:
                return
            claim = read_claim(frame, _vlan_of(ancillary))
            if claim is not None:
                yield claim
        time.sleep(max(until - time.monotonic(), 0.0))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def _vlan_of(ancillary: list[tuple[int, int, bytes]]) -> VlanId | None:
    for level, kind, data in ancillary:
        if level == _SOL_PACKET and kind == _AUXDATA and len(data) >= _TPACKET_AUXDATA.size - 4:
            status, *_, tci, _ = _TPACKET_AUXDATA.unpack(
                data[: _TPACKET_AUXDATA.size].ljust(_TPACKET_AUXDATA.size, b"\0")
            )
            return VlanId(tci & 0xFFF) if status & _VLAN_VALID else None
    return None


def _ethernet(to: bytes, source: bytes, vlan: VlanId | None, kind: int, body: bytes) -> bytes:
    tag = b"" if vlan is None else struct.pack("!HH", _VLAN, vlan)
    return (to + source + tag + struct.pack("!H", kind) + body).ljust(60, b"\0")


def _checksum(data: bytes) -> int:
    """RFC 1071; the data has an even length here."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _mac(octets: bytes) -> MacAddress:
    return MacAddress(octets.hex(":"))
