"""The OpenAPI schema that is derived from the field tables."""

from collections.abc import Iterator
from typing import Any

import pytest

from homeport_api import wire


def parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from parts(below, f"{path}.{name}")
    if "items" in schema:
        yield from parts(schema["items"], f"{path}[]")


@pytest.mark.parametrize("kind", wire.KINDS, ids=lambda kind: kind.name)
def test_the_schema_is_structural(kind: wire.AnyKind) -> None:
    """Every part has a type or one of the two extensions that replace it, as a CRD demands."""
    for path, part in parts(kind.schema()):
        typed = (
            "type" in part
            or part.get("x-kubernetes-int-or-string") is True
            or part.get("x-kubernetes-preserve-unknown-fields") is True
        )
        assert typed, path


def test_every_field_of_a_network_spec_is_described() -> None:
    schema = dict(parts(wire.NETWORK.schema()))
    undescribed = {path for path, part in schema.items() if path.startswith(".spec.") and "description" not in part}
    obvious = (".to", ".start", ".end", ".key", ".operator", ".values", "[]")
    assert [path for path in undescribed if not path.endswith(obvious)] == []


def test_bounds_and_choices_are_in_the_schema() -> None:
    schema = dict(parts(wire.NETWORK.schema()))
    vlan = schema[".spec.l2NetworkConfig.vlanID"]
    assert (vlan["type"], vlan["minimum"], vlan["maximum"]) == ("integer", 1, 4094)
    assert schema[".spec.networkLifecycle"]["enum"] == ["AnthosManaged", "Managed", "UserManaged"]
    assert schema[".spec.ipam.pools[]"]["required"] == ["cidr"]
    assert schema[".spec.nodeInterfaceMatcher.interfaceName"]["maxLength"] == 15
    assert ".spec.provider" not in schema
