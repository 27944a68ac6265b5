"""Every misuse of the protocol has its code, and none reaches the commands."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.errors import Exhausted, Held, Unavailable
from homeport_cni.conf import VALID_ATTACHMENTS
from homeport_cni.result import Result, ResultInterface
from homeport_cni.skel import CniRequest, dispatch

ENVIRON = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}
CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "blue", "type": "homeport", "network": "blue"}


class Recorder:
    """Commands that succeed, or raise what they were made with."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.requests: list[CniRequest] = []
        self.crashes: list[Exception] = []

    def _note(self, request: CniRequest) -> None:
        self.requests.append(request)
        if self.error is not None:
            raise self.error

    def add(self, request: CniRequest) -> Result:
        self._note(request)
        return Result((ResultInterface(request.ifname, sandbox=request.netns),))

    check = delete = gc = status = _note

    def crashed(self, error: Exception) -> None:
        self.crashes.append(error)


def run(
    commands: Recorder,
    environ: dict[str, str | None],
    conf: dict[str, Any] | bytes = CONF,
    executable: str = "homeport",
) -> tuple[int, Any]:
    """Exit code, and stdout as JSON (None where there is none). Variables given as None are left out."""
    env = {name: value for name, value in (ENVIRON | environ).items() if value is not None}
    stdin = conf if isinstance(conf, bytes) else json.dumps({k: v for k, v in conf.items() if v is not None}).encode()
    exit_code, stdout = dispatch(executable, env, stdin, commands)
    return exit_code, json.loads(stdout) if stdout else None


def test_an_add_is_answered_in_its_own_version() -> None:
    commands = Recorder()
    exit_code, document = run(commands, {"CNI_ARGS": "VM_NAME=web"}, CONF | {"cniVersion": "0.4.0"})
    assert (exit_code, document["cniVersion"]) == (0, "0.4.0")
    assert document["interfaces"] == [{"name": "eth0", "sandbox": "/run/netns/c1"}]
    (request,) = commands.requests
    assert (request.command, request.container_id, request.args) == ("ADD", "c1", {"VM_NAME": "web"})


@pytest.mark.parametrize("command", ["CHECK", "DEL", "GC", "STATUS"])
def test_the_other_commands_print_nothing(command: str) -> None:
    commands = Recorder()
    assert run(commands, {"CNI_COMMAND": command}, CONF | {VALID_ATTACHMENTS: []}) == (0, None)
    assert [request.command for request in commands.requests] == [command]


NOT_SET = "not set here"
MISUSES = [
    pytest.param({"CNI_COMMAND": None}, {}, 4, "CNI_COMMAND is not set", id="no command"),
    pytest.param({"CNI_COMMAND": "UPDATE"}, {}, 4, "CNI_COMMAND is 'UPDATE'", id="unknown command"),
    pytest.param({"CNI_COMMAND": "add"}, {}, 4, "CNI_COMMAND is 'add'", id="lower case"),
    pytest.param({"CNI_CONTAINERID": None}, {}, 4, "CNI_CONTAINERID, not set", id="no container ID"),
    pytest.param({"CNI_CONTAINERID": ""}, {}, 4, "CNI_CONTAINERID, not set", id="empty container ID"),
    pytest.param({"CNI_NETNS": None}, {}, 4, "CNI_NETNS, not set", id="no netns"),
    pytest.param({"CNI_IFNAME": None}, {}, 4, "CNI_IFNAME, not set", id="no ifname"),
    pytest.param({"CNI_IFNAME": None, "CNI_NETNS": None}, {}, 4, "CNI_NETNS, CNI_IFNAME", id="two missing"),
    pytest.param({"CNI_COMMAND": "CHECK", "CNI_NETNS": None}, {}, 4, "CNI_NETNS, not set", id="CHECK without netns"),
    pytest.param({"CNI_COMMAND": "DEL", "CNI_IFNAME": None}, {}, 4, "CNI_IFNAME, not set", id="DEL without ifname"),
    pytest.param({"CNI_COMMAND": "DEL", "CNI_CONTAINERID": None}, {}, 4, "CNI_CONTAINERID, not", id="DEL without ID"),
    pytest.param({"CNI_COMMAND": "GC", "CNI_PATH": None}, {}, 4, "CNI_PATH, not set", id="GC without path"),
    pytest.param({"CNI_CONTAINERID": "../c1"}, {}, 4, "CNI_CONTAINERID '../c1'", id="container ID as a path"),
    pytest.param({"CNI_CONTAINERID": "x" * 254}, {}, 4, "CNI_CONTAINERID is 254", id="container ID too long"),
    pytest.param({"CNI_IFNAME": "eth0/1"}, {}, 4, "CNI_IFNAME 'eth0/1'", id="ifname with a slash"),
    pytest.param({"CNI_IFNAME": ".."}, {}, 4, "CNI_IFNAME '..'", id="ifname .."),
    pytest.param({"CNI_IFNAME": "x" * 16}, {}, 4, "longer than 15", id="ifname too long"),
    pytest.param({"CNI_COMMAND": "DEL", "CNI_IFNAME": "a b"}, {}, 4, "CNI_IFNAME 'a b'", id="DEL of a bad ifname"),
    pytest.param({"CNI_ARGS": "VM_NAME"}, {}, 4, "CNI_ARGS: 'VM_NAME'", id="args malformed"),
    pytest.param({"CNI_ARGS": "X=1"}, {}, 4, "X is not known", id="args unknown"),
    pytest.param({}, b"", 6, "not JSON", id="no stdin"),
    pytest.param({}, b'{"cniVersion"', 6, "not JSON", id="stdin cut off"),
    pytest.param({}, b"[1]", 6, "not an object", id="stdin no object"),
    pytest.param({}, {"cniVersion": "0.2.0"}, 1, "'0.2.0'", id="old version"),
    pytest.param({}, {"cniVersion": None}, 1, "no cniVersion", id="no version"),
    pytest.param(
        {"CNI_COMMAND": "CHECK"}, {"cniVersion": "0.3.1"}, 1, "CHECK exists since CNI 0.4.0", id="CHECK 0.3.1"
    ),
    pytest.param({"CNI_COMMAND": "GC"}, {"cniVersion": "1.0.0"}, 1, "GC exists since CNI 1.1.0", id="GC 1.0.0"),
    pytest.param({"CNI_COMMAND": "STATUS"}, {"cniVersion": "1.0.0"}, 1, "STATUS exists since", id="STATUS 1.0.0"),
    pytest.param({}, {"name": None}, 7, "name: is missing", id="no name"),
    pytest.param({}, {"type": None}, 7, "type: is missing", id="no type"),
    pytest.param({}, {"name": "a/b"}, 7, "name: 'a/b'", id="bad name"),
    pytest.param({}, {"network": 5}, 7, "network: must be", id="bad network"),
    pytest.param({"CNI_COMMAND": "GC"}, {}, 7, "GC needs cni.dev/valid-attachments", id="GC without attachments"),
    pytest.param({"CNI_COMMAND": "GC"}, {VALID_ATTACHMENTS: 1}, 7, "must be a list", id="GC with bad attachments"),
]


@pytest.mark.parametrize(("environ", "conf", "code", "text"), MISUSES)
def test_misuse(environ: dict[str, str | None], conf: dict[str, Any] | bytes, code: int, text: str) -> None:
    commands = Recorder()
    exit_code, document = run(commands, environ, conf if isinstance(conf, bytes) else CONF | conf)
    assert (exit_code, document["code"]) == (1, code)
    assert text in document["msg"]
    assert commands.requests == []


def test_an_executable_of_another_name_is_refused() -> None:
    exit_code, document = run(Recorder(), {}, executable="bridge")
    assert (exit_code, document["code"]) == (1, 4)


def test_a_delete_needs_neither_netns_nor_a_valid_rest() -> None:
    commands = Recorder()
    environ: dict[str, str | None] = {"CNI_COMMAND": "DEL", "CNI_NETNS": None, "CNI_PATH": None, "CNI_ARGS": "broken"}
    assert run(commands, environ, CONF | {"network": 5, "prevResult": []}) == (0, None)
    assert len(commands.requests) == 1


def test_an_error_is_told_in_the_configurations_version() -> None:
    exit_code, document = run(Recorder(Held("held by c0")), {}, CONF | {"cniVersion": "0.3.1"})
    assert (exit_code, document) == (1, {"cniVersion": "0.3.1", "code": 102, "msg": "held by c0"})


def test_what_nobody_foresaw_goes_to_the_log_and_not_to_stdout() -> None:
    crash = ZeroDivisionError("a secret")
    commands = Recorder(crash)
    exit_code, document = run(commands, {})
    assert (exit_code, document["code"], commands.crashes) == (1, 999, [crash])
    assert "secret" not in json.dumps(document)


@pytest.mark.parametrize("error", [Unavailable("no store"), Exhausted("no address")], ids=["store", "pool"])
def test_status_is_50_for_whatever_keeps_an_add_from_working(error: Exception) -> None:
    exit_code, document = run(Recorder(error), {"CNI_COMMAND": "STATUS"})
    assert (exit_code, document["code"], document["msg"]) == (1, 50, str(error))


def test_status_of_a_chained_configuration_always_succeeds() -> None:
    commands = Recorder(Unavailable("no store"))
    assert run(commands, {"CNI_COMMAND": "STATUS"}, CONF | {"network": None}) == (0, None)
    exit_code, _ = run(commands, {"CNI_COMMAND": "STATUS"}, CONF | {"ipam": {}}, "homeport-ipam")
    assert exit_code == 1, "an IPAM plugin is never chained"


@given(
    st.dictionaries(
        st.sampled_from([*ENVIRON, "CNI_ARGS"]), st.sampled_from(["ADD", "DEL", "GC", "", "a=b", "\udcff"])
    ),
    st.binary(max_size=40) | st.just(json.dumps(CONF).encode()),
)
def test_no_call_raises(environ: dict[str, str], stdin: bytes) -> None:
    exit_code, stdout = dispatch("homeport", environ, stdin, Recorder())
    if exit_code:
        assert json.loads(stdout)["code"] in (1, 4, 6, 7)
