"""What pods ask for by annotation."""

import json
from typing import Any

import pytest

from homeport_api.errors import Invalid
from homeport_cni.annotation import GKE, MAX_ENTRIES, OURS, Entry, parse

BLUE = {"interfaceName": "eth1", "network": "blue"}
WEB = {"interfaceName": "eth2", "interface": "web-eth2"}


@pytest.mark.parametrize("name", [OURS, GKE])
def test_both_annotations_are_read(name: str) -> None:
    annotations = {name: json.dumps([BLUE, WEB]), "other": "x"}
    assert parse(annotations) == (Entry("eth1", "blue"), Entry("eth2", None, "web-eth2"))


def test_a_pod_without_asks_for_nothing() -> None:
    assert parse({"other": "x"}) == ()
    assert parse({OURS: "[]"}) == ()


def test_both_may_stand_there_when_they_agree() -> None:
    assert parse({OURS: json.dumps([BLUE]), GKE: json.dumps([BLUE])}) == (Entry("eth1", "blue"),)
    with pytest.raises(Invalid, match=f"{OURS} and {GKE} differ"):
        parse({OURS: json.dumps([BLUE]), GKE: json.dumps([WEB])})


@pytest.mark.parametrize(
    ("entries", "paths"),
    [
        pytest.param({}, [""], id="no list"),
        pytest.param([1], ["[0]"], id="no object"),
        pytest.param([{"network": "blue"}], ["[0].interfaceName"], id="no name"),
        pytest.param([{"interfaceName": "eth1"}], ["[0]"], id="neither network nor interface"),
        pytest.param([BLUE | WEB], ["[0]"], id="both network and interface"),
        pytest.param([BLUE | {"netwrk": "x"}], ["[0].netwrk"], id="unknown field"),
        pytest.param([{"interfaceName": "a/b", "network": ""}], ["[0].network", "[0].interfaceName"], id="two errors"),
        pytest.param([{"interfaceName": 1, "network": "blue"}], ["[0].interfaceName"], id="name no string"),
        pytest.param([BLUE, WEB, BLUE], ["[2].interfaceName"], id="the same link twice"),
        pytest.param([{"interfaceName": f"e{n}", "network": "b"} for n in range(MAX_ENTRIES + 1)], [""], id="too many"),
    ],
)
def test_errors_name_the_entry(entries: Any, paths: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        parse({OURS: json.dumps(entries)})
    assert [field.path for field in caught.value.fields] == [OURS + path for path in paths]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000], ids=["empty", "cut", "deep"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is not JSON"):
        parse({OURS: text})


def test_the_nearest_known_field_is_named() -> None:
    with pytest.raises(Invalid, match="'network' is meant"):
        parse({OURS: json.dumps([BLUE | {"netwrk": "x"}])})


def test_an_entry_of_a_thousand_keys_is_refused_as_one() -> None:
    with pytest.raises(Invalid) as caught:
        parse({OURS: json.dumps([{f"interfaceNam{index}": 1 for index in range(1_000)}])})
    assert [str(field) for field in caught.value.fields] == [
        f"{OURS}[0]: has 1000 keys; it may have interfaceName, network, interface"
    ]
