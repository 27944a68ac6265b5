"""What the command line asks, read."""

import pytest

from homeport_agent.requests import host_link
from homeport_api.names import parse_link_name


@pytest.mark.parametrize(
    ("vm", "link"), [("web", "hp-web"), ("w" * 12, "hp-" + "w" * 12), ("w" * 13, None), ("a:b", None), ("%d", None)]
)
def test_the_nodes_own_end_has_a_name_that_a_link_can_have(vm: str, link: str | None) -> None:
    """The kernel would fill in a `%d`."""
    name = host_link(vm)
    assert parse_link_name(name) == (link or name)
    assert link is not None or name.startswith("hp=")
