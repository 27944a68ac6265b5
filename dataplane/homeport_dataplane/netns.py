"""Network namespaces: opening, making and entering them, and the netlink sockets that live inside.

A thread enters a namespace for the shortest time: to open a socket or a file there. Sockets keep the namespace they
were made in, so they are pooled per namespace and lent to any thread. Reference: network_namespaces(7), setns(2), and
ip-netns(8) for named ones.
"""

import contextlib
import ctypes
import fcntl
import itertools
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

from homeport_api.errors import BadEnvironment, NotFound
from homeport_dataplane.errors import KernelRefused
from homeport_dataplane.netlink import ROUTE, NetlinkSocket

RUN_NETNS = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2
_IDLE_SOCKETS = 40

_libc = ctypes.CDLL(None, use_errno=True)  # os.setns and os.unshare come with Python 3.12


@dataclass(frozen=True, slots=True)
class NamespaceId:
    """What tells two namespaces apart for as long as either lives."""

    device: int
    inode: int


class Namespace:
    """One network namespace, kept alive by an open descriptor until `close`. Safe for many threads."""

    def __init__(self, descriptor: int, label: str) -> None:
        status = os.fstat(descriptor)
        self.fd = descriptor
        self.label = label
        self.identity = NamespaceId(status.st_dev, status.st_ino)
        self._lock = threading.Lock()
        self._idle: dict[int, list[NetlinkSocket]] = {}

    @staticmethod
    @cache
    def host() -> "Namespace":
        """The one the process started in (its first thread's). Call it once before any thread enters another."""
        return Namespace(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC), "host")

    @staticmethod
    def open_named(name: str, directory: Path = RUN_NETNS) -> "Namespace":
        """Raises NotFound when there is none of that name, or only the file that one was mounted on."""
        try:
            descriptor = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"network namespace {name}: {directory / name} does not exist") from error
        if not _is_network_namespace(descriptor):
            os.close(descriptor)
            raise NotFound(f"network namespace {name}: nothing is mounted on {directory / name}")
        return Namespace(descriptor, name)

    @staticmethod
    def from_fd(descriptor: int, label: str) -> "Namespace":
        """Takes a duplicate: the caller keeps its own. Raises BadEnvironment when it is no network namespace."""
        if not _is_network_namespace(descriptor):
            raise BadEnvironment(f"{label} is not a network namespace")
        return Namespace(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3), label)

    @contextlib.contextmanager
    def netlink(self, protocol: int = ROUTE) -> Iterator[NetlinkSocket]:
        """Lends a socket of this namespace. One that saw anything but a refusal of the kernel is not reused, since
        answers may still be on their way to it."""
        with self._lock:
            idle = self._idle.setdefault(protocol, [])
            lent = idle.pop() if idle else None
        if lent is None:
            with entered(self):
                lent = NetlinkSocket(protocol)
        try:
            yield lent
        except KernelRefused:
            self._give_back(protocol, lent)
            raise
        except BaseException:
            lent.close()
            raise
        self._give_back(protocol, lent)

    def _give_back(self, protocol: int, lent: NetlinkSocket) -> None:
        with self._lock:
            idle = self._idle.setdefault(protocol, [])
            if self.fd >= 0 and len(idle) < _IDLE_SOCKETS:
                idle.append(lent)
                return
        lent.close()

    def read_sysctl(self, path: str) -> str | None:
        """The value of `net/<path>` in here, None where this kernel or link has no such setting."""
        try:
            with entered(self):
                return (Path("/proc/sys/net") / path).read_text().strip()
        except FileNotFoundError:
            return None

    def ensure_sysctl(self, path: str, value: str) -> bool:
        """Writes only what differs; True when it did. A setting that does not exist is left so: False."""
        try:
            with entered(self):
                file = Path("/proc/sys/net") / path
                if file.read_text().strip() == value:
                    return False
                file.write_text(value)
                return True
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Lets go of descriptor and sockets. Repeating it does nothing."""
        with self._lock:
            idle, self._idle = self._idle, {}
            descriptor, self.fd = self.fd, -1
        for each in itertools.chain.from_iterable(idle.values()):
            each.close()
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> "Namespace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Namespace({self.label})"


@contextlib.contextmanager
def entered(namespace: Namespace) -> Iterator[None]:
    """The calling thread stands in `namespace` inside the block. May be nested. If the way back fails, the process ends
    at once: that thread would go on and change somebody else's network."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set_namespace(namespace.fd, f"entering network namespace {namespace.label}")
        try:
            yield
        finally:
            try:
                _set_namespace(before, "returning")
            except OSError as error:
                _abort(f"cannot return from network namespace {namespace.label}: {error}")
    finally:
        os.close(before)


def ensure_named(name: str, directory: Path = RUN_NETNS) -> Namespace:
    """Opens the namespace of that name, made and mounted like `ip netns add` does when it is not there. It outlives the
    process where `directory` is seen by the host (in a container: with Bidirectional mount propagation)."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(NotFound):
            return Namespace.open_named(name, directory)
        _share(directory)
        target = directory / name
        target.touch(mode=0o444)
        made = _make()
        try:
            _mount(f"/proc/self/fd/{made}", str(target), _MS_BIND)
        except OSError:
            os.close(made)
            target.unlink(missing_ok=True)
            raise
        return Namespace(made, name)
    finally:
        os.close(lock)


def delete_named(name: str, directory: Path = RUN_NETNS) -> bool:
    """Takes the name away; what is inside ends with its last process and descriptor. False when there was none."""
    target = directory / name
    if not target.exists():
        return False
    while _libc.umount2(os.fsencode(target), _MNT_DETACH) == 0:
        pass
    target.unlink(missing_ok=True)
    return True


def make_anonymous(label: str) -> Namespace:
    """A new namespace without a name: gone with `close`."""
    return Namespace(_make(), label)


def check_guest(descriptor: int, forbidden: Iterable[Namespace], label: str = "CNI_NETNS") -> Namespace:
    """The guest's namespace behind a descriptor that somebody handed over. Raises BadEnvironment when it is none, or
    one of those where a guest must never end up (the node's own, the switch)."""
    guest = Namespace.from_fd(descriptor, label)
    for own in forbidden:
        if guest.identity == own.identity:
            guest.close()
            raise BadEnvironment(f"{label} is the network namespace {own.label!r} of the node, not one of a guest")
    return guest


def ensure_switch_settings(switch: Namespace) -> bool:
    """IPv6 off on every link that is or will be in the switch, br_netfilter kept off its bridges, and TCP connections
    that have closed forgotten soon: a guest could fill the table with them. True when something was changed:
    br_netfilter sets its own defaults whenever it is loaded."""
    settings = {"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1"}
    settings |= {f"bridge/bridge-nf-call-{tables}": "0" for tables in ("arptables", "iptables", "ip6tables")}
    # No address is translated here, so nothing of a late segment depends on them.
    settings["netfilter/nf_conntrack_tcp_timeout_time_wait"] = "10"
    changed = [switch.ensure_sysctl(path, value) for path, value in settings.items()]
    return any(changed)


def _is_network_namespace(descriptor: int) -> bool:
    try:
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


def _make() -> int:
    """The descriptor of a new namespace; the calling thread is back where it was."""
    with entered(Namespace.host()):
        if _libc.unshare(_CLONE_NEWNET) != 0:
            raise _last_error("unshare(CLONE_NEWNET)")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _share(directory: Path) -> None:
    """Makes the directory a shared mount, so that other mount namespaces see what is mounted below it."""
    path = str(directory)
    try:
        _mount("", path, _MS_SHARED | _MS_REC)
    except OSError:  # EINVAL: not a mount point yet
        _mount(path, path, _MS_BIND | _MS_REC)
        _mount("", path, _MS_SHARED | _MS_REC)


def _mount(source: str, target: str, flags: int) -> None:
    if _libc.mount(source.encode(), target.encode(), b"none", flags, None) != 0:
        raise _last_error(f"mount {source or 'none'} on {target}")


def _set_namespace(descriptor: int, what: str) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise _last_error(what)


def _last_error(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")


def _abort(why: str) -> NoReturn:
    sys.stderr.write(f"homeport: {why}; ending the process\n")
    sys.stderr.flush()
    os.abort()
