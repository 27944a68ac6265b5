"""Field tables of what every object has: metadata and conditions, and of the selectors that point at them."""

from collections.abc import Iterator, Mapping
from enum import StrEnum

from homeport_api.errors import FieldError
from homeport_api.meta import Condition, ObjectMeta
from homeport_api.names import parse_label_key, parse_label_value
from homeport_api.scalars import (
    ANNOTATIONS,
    LABELS,
    NAMESPACE,
    OBJECT_NAME,
    TEXT,
    TIME,
    UNREAD,
    Choice,
    Text,
)
from homeport_api.selector import Operator, Requirement, Selector
from homeport_api.table import Field, ListOf, Mapped, Record, Rule

_WRITTEN_BY_USERS = (
    Field("name", OBJECT_NAME, "name", "Name of the object, unique in its kind and namespace.", required=True),
    Field("namespace", NAMESPACE, "namespace", "Namespace of a namespaced object; `default` when left out."),
    Field("labels", LABELS, "labels"),
    Field("annotations", ANNOTATIONS, "annotations"),
)
_WRITTEN_BY_SERVERS = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)

MANIFEST_META: Record[ObjectMeta] = Record(
    ObjectMeta, *_WRITTEN_BY_USERS, *(Field(name, UNREAD, (), silent=True) for name in _WRITTEN_BY_SERVERS)
)
"""What `get` prints can be applied again: the fields a server writes are accepted without effect."""

STORED_META: Record[ObjectMeta] = Record(
    ObjectMeta,
    *_WRITTEN_BY_USERS,
    Field("uid", TEXT, "uid"),
    Field("creationTimestamp", TIME, "created"),
    Field("resourceVersion", Text(int), "revision"),
)


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


CONDITIONS: ListOf[Condition] = ListOf(
    Record(
        Condition,
        Field("type", TEXT, "type", required=True),
        Field("status", Choice(ConditionStatus), "status", required=True),
        Field("reason", TEXT, "reason"),
        Field("message", TEXT, "message"),
        Field("lastTransitionTime", TIME, "since"),
    )
)


def _operands(requirement: Requirement) -> Iterator[FieldError]:
    operator, values = requirement.operator, requirement.values
    if operator in {Operator.IN, Operator.NOT_IN} and not values:
        yield FieldError("values", f"is required with the operator {operator}")
    if operator in {Operator.EXISTS, Operator.DOES_NOT_EXIST} and values:
        yield FieldError("values", f"must be left out with the operator {operator}")


def _pairs(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


SELECTOR: Record[Selector] = Record(
    Selector,
    Field("matchLabels", Mapped(LABELS, _pairs, dict), "labels", "Labels that must all be there."),
    Field(
        "matchExpressions",
        ListOf(
            Record(
                Requirement,
                Field("key", Text(parse_label_key), "key", required=True),
                Field("operator", Choice(Operator), "operator", required=True),
                Field("values", ListOf(Text(parse_label_value)), "values"),
                rules=(Rule(("operator", "values"), _operands),),
            )
        ),
        "requirements",
        "Requirements that must all be met.",
    ),
)
"""A label selector, in Kubernetes' form. The empty one selects everything."""
