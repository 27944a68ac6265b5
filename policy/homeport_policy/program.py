"""What policies come to for one node: chains, sets and maps of the table, apart from its base. A value.

    map egress    port ──► out_…  ──► p_… p_…   an isolated guest's ports go to a chain that asks its policies in turn;
    map ingress   port ──► in_…   ──► p_… p_…   guests that the same policies isolate share it
    set  a4_… a6_…     the addresses of a rule's peers, in one L2 domain
    set  n4_… n6_…     address, protocol and number of everything that calls a port by one name

Names of chains and sets are digests of what they are, so a chain never changes: a policy that does leads elsewhere.
Only elements change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from homeport_api.addresses import L2Domain
from homeport_api.networkpolicy import Direction, PolicyKey
from homeport_policy.ruleset import Chain, Key, Part

EGRESS, INGRESS = "egress", "ingress"
DISPATCH = {Direction.EGRESS: EGRESS, Direction.INGRESS: INGRESS}


@dataclass(frozen=True, slots=True)
class Content:
    """A set with what is in it."""

    key: Key
    elements: frozenset[tuple[Part, ...]]


@dataclass(frozen=True, slots=True)
class Counted:
    """What a counter counts: packets that a policy's rule let pass, or (no `rule`) that the policies in `denied_by`
    together did not."""

    direction: Direction
    policy: PolicyKey | None = None
    rule: int | None = None
    domain: L2Domain | None = None
    denied_by: tuple[PolicyKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """`egress` and `ingress` lead from ports to chains. Chains are in an order in which each comes after those it leads
    to."""

    chains: Mapping[str, Chain] = field(default_factory=lambda: MappingProxyType({}))
    sets: Mapping[str, Content] = field(default_factory=lambda: MappingProxyType({}))
    counters: Mapping[str, Counted] = field(default_factory=lambda: MappingProxyType({}))
    egress: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ingress: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def ports(self) -> frozenset[str]:
        """Those whose guests are isolated in either direction."""
        return frozenset((*self.egress, *self.ingress))

    def isolated(self, direction: Direction) -> Mapping[str, str]:
        return self.egress if direction is Direction.EGRESS else self.ingress


NOTHING = Program()
