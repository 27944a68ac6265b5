"""Namespaces: made as `ip netns add` makes them, found again, and judged before a guest is put there."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport_api.errors import BadEnvironment, NotFound
from homeport_dataplane import netns
from homeport_dataplane.netns import Namespace
from tests.dataplane.conftest import BoxMaker


@pytest.fixture
def name(box: BoxMaker) -> Iterator[str]:
    """A name that is free, and free again afterwards."""
    fresh = f"hpt-{uuid.uuid4().hex[:8]}"
    yield fresh
    netns.delete_named(fresh)


def test_a_named_namespace_is_made_once(name: str) -> None:
    with netns.ensure_named(name) as first, netns.ensure_named(name) as second, Namespace.open_named(name) as third:
        assert first.identity == second.identity == third.identity
        assert first.identity != Namespace.host().identity
    assert netns.delete_named(name)
    assert not netns.delete_named(name)
    with pytest.raises(NotFound, match="does not exist"):
        Namespace.open_named(name)


def test_iproute2_sees_it(name: str) -> None:
    netns.ensure_named(name).close()
    assert os.system(f"ip netns exec {name} ip link show lo >/dev/null") == 0


def test_a_file_left_by_a_crash_is_mounted_over(name: str) -> None:
    (netns.RUN_NETNS / name).touch()
    with pytest.raises(NotFound, match="nothing is mounted"):
        Namespace.open_named(name)
    with netns.ensure_named(name) as made:
        assert made.identity != Namespace.host().identity


def test_guests_are_checked(box: BoxMaker, tmp_path: Path) -> None:
    switch, guest = box("switch"), box("guest")
    forbidden = (Namespace.host(), switch.ns)
    with netns.check_guest(guest.ns.fd, forbidden) as checked:
        assert checked.identity == guest.ns.identity
    for descriptor, complaint in (
        (switch.ns.fd, "of the node, not one of a guest"),
        (Namespace.host().fd, "of the node, not one of a guest"),
    ):
        with pytest.raises(BadEnvironment, match=complaint):
            netns.check_guest(descriptor, forbidden)
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path, Path("/proc/self/ns/mnt"), Path("/dev/null")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with pytest.raises(BadEnvironment, match="is not a network namespace"):
                netns.check_guest(descriptor, forbidden)
        finally:
            os.close(descriptor)


def test_the_callers_descriptor_stays_the_callers(box: BoxMaker) -> None:
    guest = box("guest")
    netns.check_guest(guest.ns.fd, ()).close()
    os.fstat(guest.ns.fd)


def test_settings_are_written_where_they_differ(box: BoxMaker) -> None:
    switch = box("switch")
    assert netns.ensure_switch_settings(switch.ns)
    assert not netns.ensure_switch_settings(switch.ns)
    switch.shell.ip("link add late0 type bridge")
    assert switch.ns.read_sysctl("ipv6/conf/late0/disable_ipv6") == "1"
    assert switch.ns.read_sysctl("ipv6/conf/absent0/disable_ipv6") is None
    assert not switch.ns.ensure_sysctl("ipv6/conf/absent0/disable_ipv6", "1")


def test_closing_twice_does_nothing_more(box: BoxMaker) -> None:
    guest = box("guest")
    with guest.ns.netlink():
        pass
    guest.ns.close()
    guest.ns.close()


def test_a_thread_that_cannot_return_ends_the_process(box: BoxMaker) -> None:
    """It would otherwise go on and change somebody else's network. Without its rights it may not come back."""
    guest = box("guest")
    program = (
        "import os, threading\n"
        "from homeport_dataplane.netns import Namespace, entered\n"
        f"guest = Namespace.open_named({guest.shell.name!r})\n"
        "def work():\n"
        "    with entered(guest):\n"
        "        os.setresuid(65534, 65534, 65534)\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
        "print('went on')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGABRT
    assert "cannot return from network namespace" in done.stderr
    assert "went on" not in done.stdout
