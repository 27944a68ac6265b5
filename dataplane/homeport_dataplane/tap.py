"""A tap that a hypervisor opened by name in the node's namespace, moved into the switch while it is open, and back.

The descriptor stays valid. In the switch the tap has the port's name, since taps of different origins may share theirs;
the mark in its alias keeps the old one. A tap that nobody holds open would be a port that nobody speaks through, and
that the next hypervisor cannot find by name: it is refused. Reference: the kernel's `networking/tuntap.rst`.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from homeport_api.errors import AlreadyExists, Conflict, NotAllowed, NotFound
from homeport_dataplane import netlink
from homeport_dataplane.links import (
    ADDRESS,
    ALIAS,
    IFNAME,
    MASTER,
    MTU,
    NET_NS_FD,
    NEWLINK,
    Link,
    find_link,
    get_link,
    link_body,
    read_link,
    set_link,
)
from homeport_dataplane.marks import parse_mark
from homeport_dataplane.netlink import Request
from homeport_dataplane.netns import Namespace, NamespaceId
from homeport_dataplane.port import Port, bridge_index, is_right, join

_TUN_DEVICE = "/net/tun"
"""As the end of the path: a process in another mount namespace shows it from where its /dev begins."""
_TUNGETDEVNETNS = 0x54E3
_SYS_PIDFD_GETFD = 438  # the same number on every architecture

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class TapHolder:
    """A process that has a tap open."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command} (process {self.pid})"


def find_holders(namespace: Namespace, name: str) -> tuple[TapHolder, ...]:
    """Who has the tap of that name in that namespace open. Processes that end meanwhile are left out, and so are those
    that we may not look into."""
    holders: list[TapHolder] = []
    for process in os.scandir("/proc"):
        if process.name.isdecimal() and _holds(process.path, namespace, name):
            with contextlib.suppress(OSError):
                command = (Path(process.path) / "comm").read_text().strip()
                holders.append(TapHolder(int(process.name), command))
    return tuple(holders)


def ensure_tap(origin: Namespace, switch: Namespace, port: Port) -> Link:
    """Moves the tap named `port.mark.origin` from `origin` into the switch as a muted port, open as it is. A repeat
    finds it there and keeps its VLANs. Raises NotFound when it is in neither, NotAllowed when it is no tap or nobody
    has it open, AlreadyExists when the port is another's."""
    bridge = bridge_index(switch, port.bridge)
    moved = find_link(switch, port.name)
    if moved is not None and moved.mark is not None and moved.mark.uid != port.mark.uid:
        raise AlreadyExists(f"port {port.name} belongs to Interface {moved.mark.interface}")
    if moved is None:
        moved = _move_in(origin, switch, port)
    elif is_right(moved, port, bridge):
        return moved
    own = (netlink.attribute(ADDRESS, bytes.fromhex(port.mac.replace(":", ""))), netlink.u32(MTU, port.mtu))
    with switch.netlink() as socket:
        if moved.mac != port.mac or moved.mtu != port.mtu:
            socket.request(set_link(f"setting up port {port.name}", moved.index, *own))
        return join(switch, socket, port, moved.index, bridge)


def return_tap(switch: Namespace, origin: Namespace, name: str) -> Link | None:
    """Gives the tap back under the name it came with, down, on no bridge. None when the port is gone (the hypervisor
    ended, and the tap with it). Raises Conflict when `origin` has another link of that name by now; the tap then stays,
    and can be discarded."""
    link = find_link(switch, name)
    if link is None:
        return None
    mark = parse_mark(link.alias)
    if mark is None or not mark.origin:
        raise NotAllowed(f"port {name} is not a tap that was moved in")
    if find_link(origin, mark.origin) is not None:
        raise Conflict(f"tap {name} cannot go back: {origin.label} has another link named {mark.origin} now")
    with switch.netlink() as socket:
        socket.request(set_link(f"taking tap {name} off its bridge", link.index, netlink.u32(MASTER, 0), up=False))
        # The alias goes last: until the tap is back, it is all that tells whose it is and where it was.
        socket.request(_move(f"moving tap {name} back to {origin.label}", link.index, origin, mark.origin))
    return finish_return(origin, mark.origin)


def finish_return(origin: Namespace, name: str) -> Link | None:
    """The last step of `return_tap`: the tap of that name is no port any more. A repeat changes nothing; None when the
    tap is gone."""
    link = find_link(origin, name)
    if link is None or link.mark is None:
        return link
    clear = set_link(f"clearing the alias of {name}", link.index, netlink.attribute(ALIAS, b""))
    with origin.netlink() as socket:
        _, refusals = socket.attempt(clear)
    if 0 in refusals and refusals[0].errno != errno.ENODEV:
        raise refusals[0]
    return find_link(origin, name)


def _move_in(origin: Namespace, switch: Namespace, port: Port) -> Link:
    name = port.mark.origin
    tap = find_link(origin, name)
    if tap is None:
        raise NotFound(f"tap {name} does not exist in network namespace {origin.label}")
    if tap.kind != "tun":
        raise NotAllowed(f"link {name} is not a tap: give the name of the tap that the hypervisor opened")
    if not find_holders(origin, name):
        raise NotAllowed(
            f"nobody has tap {name} open: start the hypervisor on it first (QEMU: -netdev tap,ifname={name},script=no; "
            "or install the ifup scripts with `homeport install-qemu-ifup`), then attach it"
        )
    mark = netlink.text(ALIAS, str(port.mark))
    with origin.netlink() as socket:
        # The alias goes first: whoever finds the tap in the switch after a crash knows whose it is and where it was.
        socket.request(set_link(f"marking tap {name}", tap.index, mark))
        socket.request(_move(f"moving tap {name} into the switch", tap.index, switch, port.name))
    with switch.netlink() as socket:
        return read_link(socket.request(get_link(port.name))[0].body)


def _move(operation: str, index: int, target: Namespace, name: str) -> Request:
    """Into another namespace and to another name in one message."""
    body = link_body(netlink.u32(NET_NS_FD, target.fd), netlink.text(IFNAME, name), index=index)
    return Request(operation, NEWLINK, body)


def _holds(process: str, namespace: Namespace, name: str) -> bool:
    try:
        descriptors = os.listdir(f"{process}/fd")  # noqa: PTH208
        return any(_is_tap(process, descriptor, namespace, name) for descriptor in descriptors)
    except OSError:  # the process ended
        return False


def _is_tap(process: str, descriptor: str, namespace: Namespace, name: str) -> bool:
    """fdinfo of a tap's descriptor has the line `iff:<tab>NAME`; the descriptor itself tells the namespace.
    Plain paths: this looks at every descriptor of the node."""
    try:
        if not os.readlink(f"{process}/fd/{descriptor}").endswith(_TUN_DEVICE):  # noqa: PTH115
            return False
        lines = (Path(process) / "fdinfo" / descriptor).read_text().splitlines()
        named = any(line.startswith("iff:") and line[4:].strip() == name for line in lines)
        return named and _namespace_of(int(Path(process).name), int(descriptor)) == namespace.identity
    except OSError:  # closed meanwhile
        return False


def _namespace_of(pid: int, descriptor: int) -> NamespaceId:
    """The namespace of the tap behind another process's descriptor: a duplicate of it is asked, and closed."""
    with contextlib.ExitStack() as stack:
        process = os.pidfd_open(pid)
        stack.callback(os.close, process)
        duplicate = int(_libc.syscall(_SYS_PIDFD_GETFD, process, descriptor, 0))
        if duplicate < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"pidfd_getfd of process {pid}: {os.strerror(code)}")
        stack.callback(os.close, duplicate)
        device = fcntl.ioctl(duplicate, _TUNGETDEVNETNS)
        stack.callback(os.close, device)
        status = os.fstat(device)
        return NamespaceId(status.st_dev, status.st_ino)
