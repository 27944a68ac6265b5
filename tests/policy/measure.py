"""`python -m tests.policy.measure`: what selectors of each operator cost to compile, and a change of labels after it.

One L2 domain; each line is one set of policies in a process of its own. `members` is how many elements its sets have:
what nobody can do for less. Times are the processor's, so that other work beside this does not count.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
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
from homeport_api.selector import EVERYTHING, Operator, Requirement, Selector
from homeport_api.workload import NamedPort
from homeport_policy.compile import Compiler
from homeport_policy.snapshot import Endpoint, EndpointKey, Workload

DOMAIN = L2Domain("bond0:100")
ENDPOINTS, NAMESPACES, HERE = 10_000, 20, 50
APPS = 1_000


def selector(operator: Operator, *values: str, key: str = "app", more: tuple[Requirement, ...] = ()) -> Selector:
    return Selector((), (Requirement(key, operator, values), *more))


def one_rule(make: Callable[[int], WorkloadPeer], count: int) -> list[NetworkPolicy]:
    """One policy with one rule of so many peers."""
    return [policy(0, tuple(make(number) for number in range(count)))]


def many_policies(make: Callable[[int], WorkloadPeer], count: int) -> list[NetworkPolicy]:
    """So many policies of one peer each."""
    return [policy(number, (make(number),)) for number in range(count)]


def policy(number: int, peers: tuple[WorkloadPeer, ...], *ports: PolicyPort) -> NetworkPolicy:
    spec = PolicySpec(Selector(), frozenset({Direction.INGRESS}), (PolicyRule(peers, ports),))
    return NetworkPolicy(PolicyKind.NETWORK_POLICY, ObjectMeta(f"p{number}", f"ns{number % NAMESPACES}"), spec)


def not_in(number: int) -> WorkloadPeer:
    """Everybody but two apps, of which one is the same each time, so that no peer means all."""
    return WorkloadPeer(EVERYTHING, selector(Operator.NOT_IN, "app0", f"app{number % APPS}"))


def few(number: int) -> WorkloadPeer:
    """A negative requirement beside one that few meet."""
    no_canary = Requirement("canary", Operator.DOES_NOT_EXIST)
    return WorkloadPeer(EVERYTHING, selector(Operator.IN, f"app{number % APPS}", more=(no_canary,)))


def nobody(number: int) -> WorkloadPeer:
    """Two requirements that everybody meets one of."""
    return WorkloadPeer(
        EVERYTHING,
        selector(Operator.NOT_IN, f"x{number}", more=(Requirement("app", Operator.DOES_NOT_EXIST),)),
    )


CASES: dict[str, Callable[[], list[NetworkPolicy]]] = {
    "1,000 peers NotIn, one rule": lambda: one_rule(not_in, 1_000),
    "10,000 peers NotIn, one rule": lambda: one_rule(not_in, 10_000),
    "10,000 peers that mean nobody, one rule": lambda: one_rule(nobody, 10_000),
    "100 policies NotIn": lambda: many_policies(not_in, 100),
    "1,000 policies In and DoesNotExist": lambda: many_policies(few, 1_000),
    "1,000 named ports": lambda: [
        policy(number, (), PolicyPort(port=f"port{number % 100}-{number // 100}")) for number in range(1_000)
    ],
}


def key_of(number: int) -> InterfaceKey:
    return InterfaceKey(f"ns{number % NAMESPACES}", f"vm{number}")


def labels(number: int) -> dict[str, str]:
    more = {"canary": ""} if number % 50 == 0 else {}
    return {"app": f"app{number % APPS}", "kubevirt/vm": f"vm{number}", **more}


def measure(name: str) -> None:
    compiler = Compiler()
    for number in range(ENDPOINTS):
        owner = key_of(number)
        key = EndpointKey(InterfaceKey(owner.namespace, f"{owner.name}-eth0"), DOMAIN)
        ports = (NamedPort(f"port{number % 100}-{number % 10}", 80),)
        compiler.put_workload(owner, Workload(labels(number), ports))
        port = f"hp{number}" if number < HERE else None
        compiler.put_endpoint(Endpoint(key, owner, "blue", frozenset({IPv4Address(0x0A000001 + number)}), port))
    began = time.process_time()
    compiler.program()
    bare = time.process_time() - began
    for each in CASES[name]():
        compiler.put_policy(each)
    began = time.process_time()
    program = compiler.program()
    whole = time.process_time() - began
    members = sum(len(content.elements) for content in program.sets.values())
    took = []
    for number in range(200):
        at = HERE + number
        began = time.process_time()
        compiler.put_workload(key_of(at), Workload(labels(at * 13 + 7), ()))
        compiler.program()
        took.append(time.process_time() - began)
    change = sorted(took)[len(took) // 2]
    print(f"{name:42} {bare * 1000:10.0f} {whole * 1000:10.0f} {change * 1000:10.2f} {members:10,}", flush=True)


def main() -> None:
    print(f"{'CPU milliseconds':42} {'index':>10} {'policies':>10} {'a change':>10} {'members':>10}")
    for name in sys.argv[1:] or CASES:
        process = multiprocessing.Process(target=measure, args=(name,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
