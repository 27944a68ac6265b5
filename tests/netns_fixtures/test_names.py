"""Names say which test run made a thing."""

import os

from homeport_netns_fixtures import names


def test_no_name_is_given_twice() -> None:
    given = {names.unique("web") for _ in range(100)}
    assert len(given) == 100


def test_a_name_tells_its_run() -> None:
    assert names.owner(names.unique("web")) == os.getpid()
    assert names.is_ours(names.unique("web"))


def test_others_names_have_no_run() -> None:
    assert [names.owner(name) for name in ("homeport", "cni-1234", "hpt-", "hpt-x-1-web")] == [None] * 4
