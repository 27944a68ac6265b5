"""Policies: what a change costs from the workload's record to the kernel, beside compiling everything anew.

The table here is that of a switch but for the rules that ask for connection tracking, which not every kernel has in the
bridge family: what is timed, the sets, maps and chains of policies, needs none.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from homeport_api.addresses import L2Domain
from homeport_api.interface import InterfaceKey
from homeport_api.meta import ObjectMeta
from homeport_api.networkpolicy import (
    Direction,
    NetworkPolicy,
    PolicyKind,
    PolicyPort,
    PolicyRule,
    PolicySpec,
    WorkloadPeer,
)
from homeport_api.selector import EVERYTHING, Selector
from homeport_dataplane.netns import make_anonymous
from homeport_dataplane.nft import Nft
from homeport_policy import forward, guards
from homeport_policy.chains import DELIVER
from homeport_policy.compile import Compiler
from homeport_policy.render import render
from homeport_policy.ruleset import Chain, Ruleset
from homeport_policy.snapshot import Endpoint, EndpointKey, Workload
from homeport_policy.update import Present, plan_update, present_of
from tests.bench.figures import median, p99
from tests.bench.report import Row, Section, milliseconds

POLICIES, ADDRESSES, HERE, NAMESPACES = 1_000, 10_000, 250, 20
DOMAIN = L2Domain("bond0:100")
GOAL = 0.020


def section(quick: bool) -> Section:
    """Changes of one workload's labels, one after the other, each until the kernel has it."""
    changes = 30 if quick else 300
    whole = [_whole() for _ in range(1 if quick else 3)]
    made = compiler()
    program = made.program()
    took: list[float] = []
    with _table() as nft:
        began = time.perf_counter()
        nft.apply(plan_update(Present(), program, guards.TABLE))
        first = time.perf_counter() - began
        for number in range(changes):
            at = HERE + number
            began = time.perf_counter()
            made.put_workload(owner(at), Workload(labels(at * 13 + 7), ()))
            after = made.program()
            text = plan_update(present_of(program), after, guards.TABLE)
            if text:
                nft.apply(text)
            took.append(time.perf_counter() - began)
            program = after
    seconds, memory = median([each for each, _ in whole]), max(each for _, each in whole)
    rows = (
        Row(
            "one workload's labels change, until the kernel has it, p50",
            milliseconds(median(took)),
            "full recompile",
            f"{seconds:.2f} s",
            f"{median(took) / seconds:.3f}×",
            "≤ 20 ms",
            median(took) <= GOAL,
        ),
        Row("the same, p99", milliseconds(p99(took))),
        Row("full recompile", f"{seconds:.2f} s"),
        Row("a process that compiled it, memory", f"{memory / 1e6:.0f} MB"),
        Row("all of it into an empty table", f"{first:.2f} s"),
    )
    note = (
        f"{POLICIES:,} policies over {ADDRESSES:,} addresses in one L2 domain, {HERE} of them on this node: "
        f"{len(program.chains):,} chains, {len(program.sets):,} sets. {changes} changes."
    )
    return Section("Policies", note, rows)


def _whole() -> tuple[float, int]:
    """Seconds of a compilation from nothing and the memory it took, in a process of its own."""
    done = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True, check=True)
    seconds, memory = done.stdout.split()
    return float(seconds), int(memory)


def owner(number: int) -> InterfaceKey:
    return InterfaceKey(f"ns{number % NAMESPACES}", f"vm{number}")


def labels(number: int) -> dict[str, str]:
    return {"app": f"app{number % 200}", "tier": f"t{number % 5}"}


def compiler(count: int = POLICIES) -> Compiler:
    """Knows all of it, and has compiled nothing yet."""
    made = Compiler()
    for number in range(ADDRESSES):
        workload = owner(number)
        key = EndpointKey(InterfaceKey(workload.namespace, f"{workload.name}-eth0"), DOMAIN)
        port = f"hp{number}" if number < HERE else None
        made.put_workload(workload, Workload(labels(number), ()))
        made.put_endpoint(Endpoint(key, workload, "blue", frozenset({IPv4Address(0x0A000001 + number)}), port))
    for number in range(count):
        made.put_policy(policy(number))
    return made


def policy(number: int) -> NetworkPolicy:
    """Two sorts of peers, one in every namespace, and a port."""

    def app(which: int) -> Selector:
        return Selector((("app", f"app{which % 200}"),))

    everywhere = WorkloadPeer(EVERYTHING, Selector((("app", f"app{number * 3 % 200}"), ("tier", f"t{number % 5}"))))
    spec = PolicySpec(
        app(number),
        frozenset(Direction),
        (PolicyRule((WorkloadPeer(None, app(number * 7)), everywhere), (PolicyPort(port=5432),)),),
        (PolicyRule((WorkloadPeer(None, app(number * 11)),)),),
    )
    meta = ObjectMeta(f"p{number}", f"ns{number % NAMESPACES}")
    return NetworkPolicy(PolicyKind.NETWORK_POLICY, meta, spec)


@contextmanager
def _table() -> Iterator[Nft]:
    with make_anonymous("bench-policies") as namespace:
        nft = Nft(namespace)
        try:
            nft.apply(render(guards.base()))
            nft.apply(render(Ruleset(guards.TABLE, (), forward.POLICY_SETS, (Chain(DELIVER, None, 0, ()),))))
            yield nft
        finally:
            nft.close()


def _main() -> None:
    made = compiler()
    began = time.perf_counter()
    made.program()
    seconds = time.perf_counter() - began
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    _main()
