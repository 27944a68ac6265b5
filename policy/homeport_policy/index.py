"""Which endpoints a selector means, without looking at all of them. Mutable, but pure: no I/O, no clock.

Postings by label, by namespace and by domain; a search begins with the shortest that must hold all of its answers, and
holds each candidate against the selector. The order of insertion never matters.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from homeport_api.addresses import L2Domain
from homeport_api.selector import Operator, Selector
from homeport_policy.snapshot import Endpoint, EndpointKey

_Posting = tuple[str, ...]


class Index:
    """Endpoints with the labels of their workloads."""

    def __init__(self) -> None:
        self._known: dict[EndpointKey, tuple[Endpoint, Mapping[str, str]]] = {}
        self._postings: dict[_Posting, set[EndpointKey]] = defaultdict(set)

    def put(self, endpoint: Endpoint, labels: Mapping[str, str]) -> None:
        """Adds an endpoint, or replaces the one of its key."""
        self.remove(endpoint.key)
        self._known[endpoint.key] = endpoint, labels
        for posting in _postings(endpoint, labels):
            self._postings[posting].add(endpoint.key)

    def remove(self, key: EndpointKey) -> None:
        """Nothing happens when it is not there."""
        known = self._known.pop(key, None)
        for posting in _postings(*known) if known else ():
            keys = self._postings[posting]
            keys.discard(key)
            if not keys:
                del self._postings[posting]

    def in_domain(self, domain: L2Domain) -> frozenset[EndpointKey]:
        return frozenset(self._postings.get((domain,), ()))

    def find(self, domain: L2Domain, namespaces: Iterable[str] | None, selector: Selector) -> Iterator[Endpoint]:
        """The endpoints of a domain that the selector means; `namespaces` None: in all of them."""
        wanted = None if namespaces is None else frozenset(namespaces)
        for key in self._candidates(domain, wanted, selector):
            endpoint, labels = self._known[key]
            if (wanted is None or endpoint.workload.namespace in wanted) and selector.selects(labels):
                yield endpoint

    def _candidates(
        self, domain: L2Domain, namespaces: frozenset[str] | None, selector: Selector
    ) -> Iterable[EndpointKey]:
        choices: list[list[_Posting]] = [[(domain,)]]
        choices += [[(domain, "label", key, value)] for key, value in selector.labels]
        choices += [
            [(domain, "label", each.key, value) for value in set(each.values)]
            for each in selector.requirements
            if each.operator is Operator.IN
        ]
        choices += [[(domain, "key", each.key)] for each in selector.requirements if each.operator is Operator.EXISTS]
        if namespaces is not None:
            choices.append([(domain, "namespace", name) for name in namespaces])
        best = min(choices, key=lambda postings: sum(len(self._postings.get(each, ())) for each in postings))
        for posting in best:
            yield from self._postings.get(posting, ())


def _postings(endpoint: Endpoint, labels: Mapping[str, str]) -> Iterator[_Posting]:
    domain, namespace = endpoint.domain, endpoint.workload.namespace
    yield (domain,)
    yield (domain, "namespace", namespace)
    for key, value in labels.items():
        yield (domain, "key", key)
        yield (domain, "label", key, value)
