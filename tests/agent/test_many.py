"""Many calls at once: they queue, none fails, and the agent stays small."""

import re
import time
from pathlib import Path

from .lab import Lab, together, wait_until

MANY = 250


def resident_megabytes(pid: int, what: str = "VmRSS") -> float:
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def test_250_adds_and_dels_at_once(lab: Lab) -> None:
    """All NICs of one namespace, since a namespace of its own for each would be most of the time."""
    lab.apply("large", "10.80.0.0/16")
    guest = lab.guest()
    before = resident_megabytes(lab.node.agent.pid)
    descriptors = len(list(Path(f"/proc/{lab.node.agent.pid}/fd").iterdir()))
    answers = together(MANY, lambda at: lab.add(f"c{at}", guest, network="large", ifname=f"n{at}", vm=f"vm{at}"))
    failed = [answer for answer in answers if answer.exit_code != 0]
    assert not failed, failed[:3]
    addresses = {address for answer in answers for address in answer.addresses}
    assert len(addresses) == MANY
    lab.require_clean(ports=MANY)
    peak = resident_megabytes(lab.node.agent.pid, "VmHWM")
    print(f"agent: {before:.0f} MB before, {peak:.0f} MB at most")
    assert peak < 150
    held = len(list(Path(f"/proc/{lab.node.agent.pid}/fd").iterdir())) - descriptors
    print(f"agent: {held} more descriptors than before")
    assert held < 100  # sockets of its threads in the namespaces, and nothing for each ADD
    lab.restart()
    lab.require_clean(ports=MANY)
    deleted = together(MANY, lambda at: lab.delete(f"c{at}", network="large", ifname=f"n{at}"))
    assert {answer.exit_code for answer in deleted} == {0}
    wait_until(lambda: not lab.has_any_port(), "every port is deleted")
    lab.require_clean(ports=0)


def test_a_request_that_waited_too_long_is_told_to_come_again(lab: Lab) -> None:
    lab.restart("--max-requests", "1", "--queue-deadline", "1s", fault="add:allocated=pause")
    guests = [lab.guest(str(at)) for at in range(3)]

    def work(at: int) -> int:
        if at == 0:
            return lab.add("c0", guests[0], vm="vm0").error
        lab.wait_fault()
        if at == 3:
            wait_until(lambda: lab.metric("homeport_requests_waiting") == 2, "two wait")
            time.sleep(1.2)
            lab.resume()
            return 0
        return lab.add(f"c{at}", guests[at], vm=f"vm{at}").error

    assert together(4, work) == [0, 11, 11, 0]
    assert lab.attachments() == {"c0"}
    lab.require_clean(ports=1)
    assert lab.add("c1", guests[1], vm="vm1").exit_code == 0
