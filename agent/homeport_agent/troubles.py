"""Which policies this node does not enforce as the store has them, and why: gathered here, reported by `reports`.

    cannot be read      what an earlier version of it said stays in force; without one its whole namespace is isolated
    refused             the kernel did not take the change that its rules came with; the last good state stays
    no policy at all    this kernel does not track bridged connections

A policy that is not named is enforced. So a node writes nothing while all is well, however many policies there are.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from homeport_agent.placement import Place
from homeport_api.networkpolicy import PolicyKey
from homeport_api.node import PolicyReport, PolicyTrouble, TroubleReason
from homeport_policy.program import Program
from homeport_store import keys

K = TypeVar("K")
T = TypeVar("T")

NAMED = 100
"""As many policies a report names. Beyond that it speaks of all that isolate somebody here, which is nearly true."""
LONGEST = 500
"""Characters of an error that are told: the kernel's may quote a whole transaction."""

UNAVAILABLE = "this kernel does not track bridged connections (CONFIG_NF_CONNTRACK_BRIDGE)"


@dataclass(frozen=True, slots=True)
class _Refused:
    """What the kernel did not take. `policies` are those whose rules were new in it; none: it was about something
    else, such as who is in a set."""

    message: str
    policies: frozenset[PolicyKey]


class Troubles:
    """Thread-safe. `changed` is called, from any thread, when what there is to report is not what it was."""

    def __init__(self, changed: Callable[[], None], *, tracking: bool) -> None:
        self._changed = changed
        self._tracking = tracking
        self._lock = threading.Lock()
        self._unreadable: dict[str, str] = {}
        self._refused: dict[Place, _Refused] = {}

    def unreadable(self, path: str, error: Exception, *, kept: bool) -> None:
        """The policy under `path` cannot be read. `kept`: what it said before stays in force."""
        stays = "what it said before stays in force" if kept else "its namespace is isolated until it can be read"
        self._put(self._unreadable, path, f"{_short(error)}; {stays}")

    def readable(self, path: str) -> None:
        """Or deleted. Mostly it was never otherwise."""
        self._drop(self._unreadable, path)

    def refused(self, place: Place, error: Exception, before: Program, wanted: Program | None) -> None:
        """The kernel has `before`. `wanted` None: it could not even be said what it should have."""
        policies = frozenset() if wanted is None else _new_in(before, wanted)
        self._put(self._refused, place, _Refused(f"{_short(error)}; the last good state stays", policies))

    def applied(self, place: Place) -> None:
        """The kernel has what it should have."""
        self._drop(self._refused, place)

    def report(self, node: str) -> PolicyReport:
        """The same for the same troubles."""
        with self._lock:
            unreadable, refused = sorted(self._unreadable.items()), list(self._refused.values())
        troubles = [_unreadable(path, message) for path, message in unreadable]
        troubles += [
            PolicyTrouble(key.namespace, key.kind.value, key.name, TroubleReason.REFUSED, each.message)
            for each in refused
            for key in sorted(each.policies)
        ]
        report = PolicyReport(node, troubles=tuple(troubles[:NAMED]))
        if not self._tracking:
            return replace(report, reason=TroubleReason.STATEFUL_POLICY_UNAVAILABLE, message=UNAVAILABLE)
        general = next((each for each in refused if not each.policies), None)
        if general is not None:
            return replace(report, reason=TroubleReason.REFUSED, message=general.message)
        if len(troubles) > NAMED:
            message = f"{len(troubles)} policies are not enforced here as they are; the first {NAMED} are named"
            return replace(report, reason=troubles[NAMED].reason, message=message)
        return report

    def _put(self, known: dict[K, T], key: K, value: T) -> None:
        with self._lock:
            if known.get(key) == value:
                return
            known[key] = value
        self._changed()

    def _drop(self, known: dict[K, T], key: K) -> None:
        with self._lock:
            if known.pop(key, None) is None:
                return
        self._changed()


def _unreadable(path: str, message: str) -> PolicyTrouble:
    """A path that has not three segments is no policy's, and nobody can ask for it by name."""
    namespace, kind, name = (*keys.split(path, keys.POLICIES), "", "")[:3]
    return PolicyTrouble(namespace, kind, name, TroubleReason.UNREADABLE, message)


def _new_in(before: Program, wanted: Program) -> frozenset[PolicyKey]:
    """The policies with rules that the kernel has not got; else those that isolate a port in a way that it has not."""
    new = [counted for name, counted in wanted.counters.items() if name not in before.counters]
    ruling = frozenset(counted.policy for counted in new if counted.policy is not None)
    return ruling or frozenset(policy for counted in new for policy in counted.denied_by)


def _short(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
