"""The index beside holding every endpoint against the selector, after any sequence of changes.

Seeds, as in `worlds`: a sequence long enough for what was found once to be wrong later is more than shrinking values is
good for.
"""

from ipaddress import IPv4Address
from random import Random

import pytest

from homeport_api.addresses import L2Domain
from homeport_api.interface import InterfaceKey
from homeport_api.selector import Operator, Requirement, Selector
from homeport_api.workload import NamedPort, Protocol
from homeport_policy.index import Index
from homeport_policy.snapshot import Endpoint, EndpointKey, Workload

DOMAINS = (L2Domain("bond0:100"), L2Domain("bond0:200"))
NAMESPACES = ("a", "b", "c")
KEYS, VALUES = ("app", "tier", "os"), ("", "x", "y", "z")
PORTS = ("http", "dns")
SEEDS, STEPS = 100, 150


def endpoint(key: EndpointKey) -> Endpoint:
    return Endpoint(key, InterfaceKey(key.interface.namespace, key.interface.name), "blue", frozenset())


class Beside:
    """An index, and all that is in it, in a dictionary."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.index = Index()
        self.world: dict[EndpointKey, tuple[Endpoint, Workload]] = {}

    def step(self) -> None:
        dice = self.random.random()
        if dice < 0.4:
            key = self.key()
            self.world[key] = endpoint(key), self.workload()
            self.index.put(*self.world[key])
        elif dice < 0.55:
            key = self.key()
            self.world.pop(key, None)
            self.index.remove(key)
        elif dice < 0.6:
            self.index.forget_masks()
        elif dice < 0.7:
            self.compare_ports()
        else:
            self.compare()

    def key(self) -> EndpointKey:
        interface = InterfaceKey(self.random.choice(NAMESPACES), f"i{self.random.randrange(6)}")
        return EndpointKey(interface, self.random.choice(DOMAINS))

    def workload(self) -> Workload:
        labels = {key: self.random.choice(VALUES) for key in KEYS if self.random.random() < 0.6}
        ports = [
            NamedPort(self.random.choice(PORTS), self.random.randint(1, 3), self.random.choice(list(Protocol)))
            for _ in range(self.random.randrange(3))
        ]
        return Workload(labels, tuple(ports))

    def selector(self) -> Selector:
        labels = {key: self.random.choice(VALUES) for key in KEYS if self.random.random() < 0.2}
        return Selector(
            tuple(sorted(labels.items())), tuple(self.requirement() for _ in range(self.random.randrange(3)))
        )

    def requirement(self) -> Requirement:
        key, operator = self.random.choice((*KEYS, "none")), self.random.choice(list(Operator))
        if operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST):
            return Requirement(key, operator)
        return Requirement(key, operator, tuple(self.random.sample((*VALUES, "nobody"), self.random.randint(1, 3))))

    def compare(self) -> None:
        domain, selector = self.random.choice(DOMAINS), self.selector()
        namespaces = frozenset(self.random.sample((*NAMESPACES, "nowhere"), self.random.randint(0, 4)))
        found = [each.key for each in self.index.find(domain, namespaces, selector)]
        naive = {
            key
            for key, (each, workload) in self.world.items()
            if key.domain == domain and each.workload.namespace in namespaces and selector.selects(workload.labels)
        }
        assert (len(found), set(found)) == (len(naive), naive), (domain, namespaces, selector)

    def compare_ports(self) -> None:
        for domain in DOMAINS:
            for name in PORTS:
                for protocol in Protocol:
                    found = {
                        each.key for each in self.index.endpoints(domain, self.index.named(domain, name, protocol))
                    }
                    assert found == {
                        key
                        for key, (_, workload) in self.world.items()
                        if key.domain == domain
                        and any((port.name, port.protocol) == (name, protocol) for port in workload.ports)
                    }


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_what_is_found_is_what_the_selector_means(first: int) -> None:
    """Asked in between, so that what was found is found anew after a change; and with masks forgotten or not."""
    for seed in range(first, first + 20):
        beside = Beside(seed)
        for _ in range(STEPS):
            beside.step()


def test_masks_are_put_together_over_many_endpoints() -> None:
    """More than fit into a machine word, with a slot that was taken twice."""
    index, domain = Index(), DOMAINS[0]
    made = [EndpointKey(InterfaceKey("a", f"i{number}"), domain) for number in range(1_000)]
    for number, key in enumerate(made):
        index.put(endpoint(key), Workload({"app": f"app{number % 10}"}))
    index.remove(made[7])
    index.remove(made[7])
    late = Endpoint(
        EndpointKey(InterfaceKey("b", "late"), domain),
        InterfaceKey("b", "late"),
        "blue",
        frozenset({IPv4Address("10.0.0.1")}),
    )
    index.put(late, Workload({"app": "app7"}))
    everywhere = frozenset({"a", "b"})
    no_low = Selector((), (Requirement("app", Operator.NOT_IN, tuple(f"app{number}" for number in range(8))),))
    seven = Selector((("app", "app7"),))
    both = index.selected(domain, everywhere, no_low) | index.selected(domain, everywhere, seven)
    found = {each.key for each in index.endpoints(domain, both)}
    assert found == {late.key, *(key for number, key in enumerate(made) if number % 10 in (7, 8, 9) and number != 7)}
    assert len(list(index.find(domain, {"a"}, Selector()))) == 999
