"""Nodes: who runs an agent, and what each sees of Networks and of policies."""

from dataclasses import dataclass
from enum import StrEnum

from homeport_api.meta import Condition

STATEFUL_POLICY_UNAVAILABLE = "StatefulPolicyUnavailable"
"""The condition of a Network on a node whose kernel does not track bridged connections."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """Stored under nodes/… on a lease, so its absence is a missing heartbeat. A name is taken by the first
    `machine_id` that comes with it; a new `boot_id` means that none of the node's links of before exists.
    `generation` is the store's generation into which the node has told all that it has attached; `run_dir` tells two
    agents on one machine apart."""

    name: str
    machine_id: str
    boot_id: str
    started: float = 0.0
    version: str = ""
    generation: str = ""
    run_dir: str = ""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """Stored under reports/…: what one node sees of one Network. `reason` says why not, and what to do."""

    node: str
    network: str
    ready: bool
    reason: str = ""
    conditions: tuple[Condition, ...] = ()


class TroubleReason(StrEnum):
    """Why a node does not enforce a policy as the store has it."""

    UNREADABLE = "Unreadable"
    REFUSED = "Refused"
    STATEFUL_POLICY_UNAVAILABLE = STATEFUL_POLICY_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class PolicyTrouble:
    """One policy that a node does not enforce as the store has it. `kind` is as its key in the store spells it: of what
    cannot be read, nothing else is known."""

    namespace: str
    kind: str
    name: str
    reason: TroubleReason
    message: str = ""


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """Stored under policyreports/…, one for each node: which policies it does not enforce as the store has them. One
    that it does not name is enforced there, unless `reason` says why none is that isolates a guest of the node."""

    node: str
    reason: TroubleReason | None = None
    message: str = ""
    troubles: tuple[PolicyTrouble, ...] = ()
