"""The kernel's counters of policies and guards on `/metrics`, read when somebody scrapes and never otherwise.

A counter lives as long as the rule that it belongs to: a policy that changes begins anew at 0, as a counter does that
was reset. Pure is what sorts them: `families`.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from homeport_agent.placement import Place
from homeport_agent.policies import Policies
from homeport_agent.switch import Switch
from homeport_dataplane.conntrack import Conntrack
from homeport_policy.program import Counted
from homeport_policy.update import is_of_program

log = logging.getLogger(__name__)

_Described = tuple[str, str, tuple[str, ...]]
_PACKETS: _Described = (
    "homeport_policy_packets",
    "First packets of connections, and others that were judged, that a rule of a policy let pass",
    ("namespace", "policy", "kind", "direction", "rule"),
)
_DENIED: _Described = (
    "homeport_policy_denied_packets",
    "Packets that the policies which isolate a guest together did not let pass",
    ("direction", "namespace", "policies"),
)
_GUARDS: _Described = (
    "homeport_guard_drops",
    "Frames that ports may not send, or that are no policy's to judge",
    ("reason",),
)
_TRACKED: _Described = (
    "homeport_tracked_connections",
    "Connections that the kernel tracks where ports are, whosever they are",
    ("place",),
)
_ROOM: _Described = (
    "homeport_tracked_connections_limit",
    "How many it tracks there at most; one port may hold a part of them",
    ("place",),
)


class PolicyCollector(Collector):
    """Registers itself, and goes with `close`. A kernel that does not answer leaves a scrape without these, and the
    rest as it is."""

    def __init__(self, switch: Switch, policies: Policies, registry: CollectorRegistry) -> None:
        self._switch = switch
        self._policies = policies
        self._registry = registry
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The names alone, so that a registration reads nothing."""
        return (*families((), {}), *fillings({}))

    def collect(self) -> Iterable[Metric]:
        try:
            read = []
            counted: dict[str, Counted] = {}
            tables: dict[str, tuple[int, int]] = {}
            for place in Place:
                side = self._switch.side(place)
                counted |= self._policies.program(place).counters
                read.append({name: count.packets for name, count in side.nft.counters(side.table).items()})
                if side.tracking and side.room is not None:
                    tables[place.value] = Conntrack(side.namespace).count(), side.room
            return (*families(read, counted), *fillings(tables))
        except Exception:
            log.exception("the counters of policies cannot be read")
            return ()

    def close(self) -> None:
        """To be called once."""
        self._registry.unregister(self)


def families(read: Collection[Mapping[str, int]], counted: Mapping[str, Counted]) -> Sequence[CounterMetricFamily]:
    """Sums over sides and L2 domains. A counter of a program that is on its way in or out counts for nothing."""
    packets: dict[tuple[str, ...], int] = defaultdict(int)
    denied: dict[tuple[str, ...], int] = defaultdict(int)
    guards: dict[tuple[str, ...], int] = defaultdict(int)
    for name, count in _pairs(read):
        what = counted.get(name)
        if what is None:
            if not is_of_program(name):
                guards[name,] += count
        elif what.policy is not None:
            policy = what.policy
            labels = (policy.namespace, policy.name, policy.kind.value, what.direction.value.lower(), str(what.rule))
            packets[labels] += count
        else:
            namespace = what.denied_by[0].namespace if what.denied_by else ""
            names = ",".join(each.name for each in what.denied_by)
            denied[what.direction.value.lower(), namespace, names] += count
    return _family(_PACKETS, packets), _family(_DENIED, denied), _family(_GUARDS, guards)


def fillings(tables: Mapping[str, tuple[int, int]]) -> Sequence[GaugeMetricFamily]:
    """How full the tables of connections are: entries and limit, by place."""
    made = []
    for at, (name, text, labels) in enumerate((_TRACKED, _ROOM)):
        family = GaugeMetricFamily(name, text, labels=labels)
        for place in sorted(tables):
            family.add_metric((place,), tables[place][at])
        made.append(family)
    return made


def _pairs(read: Iterable[Mapping[str, int]]) -> Iterator[tuple[str, int]]:
    return (pair for side in read for pair in side.items())


def _family(described: _Described, values: Mapping[tuple[str, ...], int]) -> CounterMetricFamily:
    name, text, labels = described
    family = CounterMetricFamily(name, text, labels=labels)
    for key in sorted(values):
        family.add_metric(key, values[key])
    return family
