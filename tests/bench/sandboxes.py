"""Network namespaces as a runtime makes them for containers: made and deleted in batches, outside every measurement."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence

from homeport_netns_fixtures import names
from homeport_netns_fixtures.netns import RUN_NETNS, CommandFailed, Namespace

GONE_WITHIN = 30.0


@contextlib.contextmanager
def sandboxes(count: int, label: str) -> Iterator[list[Namespace]]:
    """`count` empty namespaces, gone with the context."""
    made = [Namespace(RUN_NETNS / names.unique(f"{label}{number}")) for number in range(count)]
    _ip(f"netns add {each.name}" for each in made)
    try:
        yield made
    finally:
        _ip(f"netns delete {each.name}" for each in made if each.exists)


def wait_empty(guests: Sequence[Namespace], link: str = "eth0") -> None:
    """Until none of them has `link`: an agent may delete it after its answer, and that work must not fall into somebody
    else's measurement."""
    until = time.monotonic() + GONE_WITHIN
    for guest in guests:
        with guest.entered():
            while any(name == link for _, name in socket.if_nameindex()):
                if time.monotonic() > until:
                    raise CommandFailed(f"{link} in {guest.name} outlives its DEL by {GONE_WITHIN:.0f} s")
                time.sleep(0.002)


def _ip(commands: Iterator[str]) -> None:
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", capture_output=True, text=True)
    if done.returncode != 0:
        raise CommandFailed(f"ip -batch: {done.stderr}")
