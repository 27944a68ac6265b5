"""Every error has its code, and the code leads back to the error."""

import json

import pytest

from homeport_api import errors as api
from homeport_cni.errors import CniError, Code, IncompatibleVersion, NotReady, code_of, exception_of, read, render

# The table as DESIGN and specification have it, written out once more.
CODES = [
    (IncompatibleVersion("x"), 1),
    (api.BadEnvironment("x"), 4),
    (api.BadInput("x"), 6),
    (api.Invalid("x"), 7),
    (api.Unavailable("x"), 11),
    (NotReady("x"), 50),
    (api.Exhausted("x"), 101),
    (api.Held("x"), 102),
    (api.AddressOwned("x"), 103),
    (api.NotAllowed("x"), 104),
    (api.UplinkUnusable("x"), 105),
    (api.MtuTooLarge("x"), 106),
    (api.NotFound("x"), 107),
    (api.MacInUse("x"), 108),
    (api.PolicyUnsupported("x"), 111),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=[type(error).__name__ for error, _ in CODES])
def test_error_and_code_are_one_another(error: api.HomeportError, code: int) -> None:
    assert code_of(error) == code
    assert type(exception_of(code, "x")) is type(error)
    assert read(render(error, "1.0.0")) == CniError(code, "x", "", "1.0.0")


def test_every_error_of_the_vocabulary_has_a_code() -> None:
    kinds = [kind for kind in vars(api).values() if isinstance(kind, type) and issubclass(kind, api.HomeportError)]
    assert [kind for kind in kinds if kind is not api.HomeportError and code_of(kind("x")) is Code.INTERNAL] == []


def test_a_lost_race_is_worth_another_try() -> None:
    assert code_of(api.Conflict("changed meanwhile")) == code_of(api.InUse("x")) == 11


def test_what_nobody_foresaw_is_999_and_keeps_its_text_to_the_log() -> None:
    document = json.loads(render(KeyError("secret")))
    assert (document["code"], document["details"]) == (999, "KeyError")
    assert "secret" not in document["msg"]


def test_an_error_of_ours_without_a_code_is_999_and_keeps_its_text() -> None:
    class Different(api.HomeportError):
        pass

    document = json.loads(render(Different("link eth0 is gone from the container")))
    assert (document["code"], document["msg"]) == (999, "link eth0 is gone from the container")


def test_an_error_never_claims_a_version_nobody_speaks() -> None:
    assert json.loads(render(api.Invalid("x"), "7.0.0"))["cniVersion"] == "1.1.0"


def test_all_errors_of_a_configuration_are_in_the_message() -> None:
    error = api.Invalid([api.FieldError("name", "is missing"), api.FieldError("type", "is missing")])
    assert json.loads(render(error))["msg"] == "name: is missing; type: is missing"


@pytest.mark.parametrize("stdout", [b"", b"{", b"[1]", b'{"ips": []}', b'{"code": "7"}', b"\xff"])
def test_what_is_no_error_is_none(stdout: bytes) -> None:
    assert read(stdout) is None


def test_a_foreign_plugins_code_is_an_error_all_the_same() -> None:
    assert type(exception_of(2, "x")) is api.HomeportError


def test_an_answer_fits_its_frame_whatever_was_wrong() -> None:
    many = api.Invalid([api.FieldError(f"ips[{index}]", "is no address") for index in range(200_000)])
    answer = render(many)
    assert len(answer) < 100_000
    found = read(answer)
    assert found is not None
    assert found.msg.startswith("ips[0]: is no address")
    assert found.msg.endswith(" more characters)")
