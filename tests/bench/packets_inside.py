"""`python -m tests.bench.packets_inside FOLDER`, in the Debian kernel: sends packets through the tables that are there.

The kernel's own generator sends (pktgen), so that what is timed is a packet's way, and little of Python's.
"""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from homeport_api.workload import Protocol
from homeport_dataplane.netns import Namespace, entered
from homeport_netns_fixtures.programs import find_program
from tests.bench.packets import ENDS, RECEIVER, SENDER, TABLES, TIMES, Job
from tests.conformance import frames
from tests.conformance.fabric import LINK, Fabric, build
from tests.conformance.scene import HERE, VLANS, mac_of
from tests.conformance.volley import Volley

FIRST_PORT, TARGET_PORT, SIZE = 4000, 5000, 100
WITHIN = 60.0
QUEUE = 1_000_000
"""Packets that may wait for the processor: none is to be lost on its way."""


def main() -> int:
    folder = Path(sys.argv[1])
    job: Job = pickle.loads((folder / TABLES).read_bytes())
    subprocess.run([find_program("modprobe") or "modprobe", "pktgen"], check=True)
    Path("/proc/sys/net/core/netdev_max_backlog").write_text(f"{QUEUE}")  # this kernel is the run's own
    times: dict[str, dict[str, list[float]]] = {title: {"asked": [], "replied": []} for title in job.tables}
    with contextlib.ExitStack() as stack:
        ways = {title: _prepare(stack, title, rules) for title, rules in job.tables.items()}
        for number in range(-1, job.rounds):
            for title, way in ways.items():
                port = FIRST_PORT + 2 * (number + 1)
                asked = way.send(port, job.packets)
                way.send(port + 1, 1)
                way.reply(port + 1)
                replied = way.send(port + 1, job.packets)
                if number >= 0:
                    times[title]["asked"].append(asked)
                    times[title]["replied"].append(replied)
    (folder / TIMES).write_text(json.dumps(times))
    return 0


@dataclass(frozen=True, slots=True)
class Way:
    """From one guest through a switch to another."""

    fabric: Fabric

    def send(self, port: int, packets: int) -> float:
        """Seconds of one of so many packets of one connection. All must arrive."""
        before = self._received()
        target = ENDS[RECEIVER]
        sender = self.fabric.guests[SENDER]
        (processor,) = os.sched_getaffinity(0)
        _tell(sender, f"kpktgend_{processor}", "rem_device_all", f"add_device {LINK}")
        _tell(
            sender,
            LINK,
            *(f"count {packets}", "clone_skb 0", f"pkt_size {SIZE}", "delay 0"),
            *(f"dst {target}", f"src_min {ENDS[SENDER]}", f"src_max {ENDS[SENDER]}", f"dst_mac {mac_of(RECEIVER)}"),
            *(f"udp_src_min {port}", f"udp_src_max {port}"),
            *(f"udp_dst_min {TARGET_PORT}", f"udp_dst_max {TARGET_PORT}"),
        )
        began = time.perf_counter()
        _tell(sender, "pgctrl", "start")
        # The generator only puts them into the queue of the other end; their way is done when they are through.
        while (arrived := self._received() - before) < packets:
            if time.perf_counter() > began + WITHIN:
                raise AssertionError(f"{arrived} of {packets} packets arrived in {WITHIN:.0f} s")
        return (time.perf_counter() - began) / packets

    def reply(self, port: int) -> None:
        ends = mac_of(RECEIVER), mac_of(SENDER)
        frame = frames.probe(ends, ENDS[RECEIVER], ENDS[SENDER], Protocol.UDP, port, TARGET_PORT)
        self.fabric.sockets[RECEIVER].send(frame)

    def _received(self) -> int:
        with entered(self.fabric.guests[RECEIVER]):
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        return next(int(line.split()[2]) for line in lines if line.strip().startswith(f"{LINK}:"))


def _prepare(stack: contextlib.ExitStack, title: str, rules: tuple[bytes, ...]) -> Way:
    fabric = stack.enter_context(build((SENDER, RECEIVER)))
    for each in rules:
        fabric.nft.apply(each)
    greetings = tuple((end, frames.rarp(mac_of(end), frames.MARKER)) for end in (SENDER, RECEIVER))
    awaited = frozenset({(SENDER, 0), (RECEIVER, 0)})
    sighting = fabric.fire(Volley(title, b"", dict.fromkeys((SENDER, RECEIVER), VLANS[HERE]), greetings, awaited, ()))
    assert not sighting.complaint, sighting.complaint
    for end in (SENDER, RECEIVER):
        fabric.sockets[end].bind((LINK, 0))  # sends, and hears no more
    print(f"{title}: ready", flush=True)
    return Way(fabric)


def _tell(namespace: Namespace, what: str, *lines: str) -> None:
    """pktgen takes one command a write."""
    with entered(namespace):
        for line in lines:
            with Path(f"/proc/thread-self/net/pktgen/{what}").open("w") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
