"""NetworkPolicy (`networking.k8s.io/v1`) and MultiNetworkPolicy (`k8s.cni.cncf.io`), read and defaulted.

Both are one class: they differ in which Networks they speak of (`scope`), and in nothing else. What the API server
would fill in is filled in when a manifest is read, since a MultiNetworkPolicy has nobody to do it: `types` and each
port's protocol are always there.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from homeport_api.addresses import IpNetwork
from homeport_api.meta import Condition, ObjectMeta
from homeport_api.selector import EVERYTHING, Selector
from homeport_api.workload import Protocol

NETWORK_ANNOTATIONS = ("homeport.dev/network", "networking.gke.io/network")
"""On a NetworkPolicy: the one Network it speaks of. They exclude each other unless they agree."""
POLICY_FOR = "k8s.v1.cni.cncf.io/policy-for"
"""On a MultiNetworkPolicy: the networks it speaks of, separated by commas; a name without `/` is in its namespace."""

NAME_LABEL = "kubernetes.io/metadata.name"
"""The label that every namespace has: its own name."""


class Direction(StrEnum):
    """As seen by the workload that a policy selects."""

    INGRESS = "Ingress"
    EGRESS = "Egress"


class PolicyKind(StrEnum):
    NETWORK_POLICY = "NetworkPolicy"
    MULTI_NETWORK_POLICY = "MultiNetworkPolicy"


@dataclass(frozen=True, slots=True)
class IpBlock:
    """Addresses in `cidr` but not in any of `excepts`. Host bits of a CIDR as written are cleared when it is read."""

    cidr: IpNetwork
    excepts: tuple[IpNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkloadPeer:
    """VMs and pods. `namespaces` None: those of the policy's own namespace. `workloads` None: all of a namespace."""

    namespaces: Selector | None = None
    workloads: Selector | None = None


Peer = WorkloadPeer | IpBlock


@dataclass(frozen=True, slots=True)
class PolicyPort:
    """`port` is a number, the name of a port of the destination, or None for every port of the protocol. `end` is the
    last of a range, both included, and only with a number."""

    protocol: Protocol = Protocol.TCP
    port: int | str | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """Allows what is from (or to) one of `peers` AND on one of `ports`. No peers: everybody, outside hosts too. No
    ports: everything, protocols without ports included."""

    peers: tuple[Peer, ...] = ()
    ports: tuple[PolicyPort, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """`types` are the directions in which what the policy selects is isolated; the rules of a direction that is not
    among them have no effect."""

    selector: Selector = EVERYTHING
    types: frozenset[Direction] = frozenset({Direction.INGRESS})
    ingress: tuple[PolicyRule, ...] = ()
    egress: tuple[PolicyRule, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeEnforcement:
    """Whether one node enforces the policy as the store has it (True, False or Unknown, as in a condition), and why
    not."""

    name: str
    enforced: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """Merged by readers, never stored and never an input. `interfaces`: how many it isolates, attached or not. `nodes`:
    those that one of them is attached to, and those that have trouble with the policy."""

    conditions: tuple[Condition, ...] = ()
    interfaces: int = 0
    nodes: tuple[NodeEnforcement, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class PolicyKey:
    """Namespace, kind and name: the order in which policies are shown and judged."""

    namespace: str
    kind: PolicyKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Namespaced. `networks` are those its annotation names: for a NetworkPolicy none (every Network that takes
    policies without annotation) or one; for a MultiNetworkPolicy the entries of `policy-for` as (namespace, name), none
    meaning that it applies nowhere. `everywhere`: on every Network whatever it says, which no manifest can ask for; it
    stands for a policy that cannot be read."""

    kind: PolicyKind
    meta: ObjectMeta
    spec: PolicySpec = PolicySpec()
    networks: tuple[tuple[str, str], ...] = ()
    status: PolicyStatus = field(default_factory=PolicyStatus)
    everywhere: bool = False

    @property
    def key(self) -> PolicyKey:
        return PolicyKey(self.meta.namespace, self.kind, self.meta.name)

    def rules(self, direction: Direction) -> tuple[PolicyRule, ...]:
        return self.spec.ingress if direction is Direction.INGRESS else self.spec.egress


@dataclass(frozen=True, slots=True)
class Namespace:
    """Cluster-scoped. Only its labels matter here. `NAME_LABEL` is always among them."""

    meta: ObjectMeta

    @property
    def name(self) -> str:
        return self.meta.name
