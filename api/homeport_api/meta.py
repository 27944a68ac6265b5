"""What every object has: a name, a namespace where it is namespaced, labels, and where it stands in the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """`revision` is the store's modification revision of the record this was read from; 0 means not stored yet.
    `created` is seconds since the epoch; 0 means not stored yet."""

    name: str
    namespace: str = ""
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    annotations: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    created: float = 0.0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """One observed fact, in Kubernetes' form. `status` is True, False or Unknown; `since` is when it last changed."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    since: float = 0.0
