"""What no runtime should send, through the real shim to a real agent: refused with its code, and nothing is left."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.asking import Refused

from .lab import Lab


def raw(lab: Lab, stdin: bytes, **changes: str | None) -> tuple[int, dict[str, Any]]:
    """(exit code, what was printed) of a call whose variables and stdin are as bad as the test wants."""
    variables: dict[str, str | None] = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": str(lab.guest().path),
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(lab.shims),
    }
    environment = {name: value for name, value in (variables | changes).items() if value is not None}
    command = lab.node.namespace.command(str(lab.shims / "homeport"))
    path = {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, input=stdin, env=environment | path, capture_output=True, timeout=30, check=False)
    assert b"Traceback" not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


def good(lab: Lab) -> bytes:
    return json.dumps(lab.conf("lab")).encode()


def require_nothing(lab: Lab) -> None:
    assert lab.attachments() == set()
    lab.require_clean(ports=0)


@pytest.mark.parametrize(
    ("stdin", "code"),
    [
        pytest.param(b"", 6, id="nothing"),
        pytest.param(b"\xff\xfe", 6, id="not text"),
        pytest.param(b'{"cniVersion": "1.1.0", "name": "net", "type"', 6, id="cut short"),
        pytest.param(b"[]", 6, id="no object"),
        pytest.param(b"[" * 100_000, 6, id="a hundred thousand deep"),
        pytest.param(b'{"cniVersion": "1.1.0", "x": "' + b"x" * 10_000_000 + b'"}', 6, id="10 MB"),
    ],
)  # fmt: skip
def test_stdin_that_is_no_configuration(lab: Lab, stdin: bytes, code: int) -> None:
    exit_code, error = raw(lab, stdin)
    assert (exit_code, error["code"]) == (1, code), error
    require_nothing(lab)


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        *(
            pytest.param({name: None}, 4, name, id=f"no {name}")
            for name in ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME")
        ),
        pytest.param({"CNI_CONTAINERID": "../c1"}, 4, "CNI_CONTAINERID", id="container ID with ../"),
        pytest.param({"CNI_CONTAINERID": "-c1"}, 4, "CNI_CONTAINERID", id="container ID begins with a dash"),
        pytest.param({"CNI_IFNAME": "../eth0"}, 4, "CNI_IFNAME", id="ifname with ../"),
        pytest.param({"CNI_IFNAME": "a" * 16}, 4, "CNI_IFNAME", id="ifname too long"),
        pytest.param({"CNI_IFNAME": "eth 0"}, 4, "CNI_IFNAME", id="ifname with a space"),
        pytest.param({"CNI_NETNS": "/etc/passwd"}, 4, "CNI_NETNS", id="netns is a file"),
        pytest.param({"CNI_NETNS": "/nowhere"}, 4, "CNI_NETNS", id="netns is not there"),
        pytest.param({"CNI_NETNS": "/proc/1/ns/mnt"}, 4, "CNI_NETNS", id="netns is a mount namespace"),
        pytest.param({"CNI_NETNS": "/run/netns/../../etc/hostname"}, 4, "CNI_NETNS", id="netns leads elsewhere"),
        pytest.param({"CNI_NETNS": "/dev/null"}, 4, "CNI_NETNS", id="netns is a device"),
        pytest.param({"CNI_NETNS": "NODE"}, 4, "CNI_NETNS", id="netns is the node's own"),
        pytest.param({"CNI_NETNS": "SWITCH"}, 4, "CNI_NETNS", id="netns is the switch's"),
        pytest.param({"CNI_ARGS": "MAC=zz"}, 7, "MAC", id="a MAC that is none"),
        pytest.param({"CNI_ARGS": "MAC=00:00:00:00:00:00"}, 7, "MAC", id="MAC zero"),
        pytest.param({"CNI_ARGS": "MAC=01:00:5e:00:00:01"}, 7, "MAC", id="MAC multicast"),
        pytest.param({"CNI_ARGS": "IP=10.77.0.300"}, 7, "IP", id="an address that is none"),
    ],
)
def test_variables_outside_the_specification(lab: Lab, changes: dict[str, str | None], code: int, named: str) -> None:
    places = {"NODE": lab.node.namespace.path, "SWITCH": lab.node.switch.path}
    changes = {name: str(places.get(value or "", value)) if value else value for name, value in changes.items()}
    exit_code, error = raw(lab, good(lab), **changes)
    assert (exit_code, error["code"]) == (1, code), error
    assert named in error["msg"] + error.get("details", "")
    require_nothing(lab)


def test_a_namespace_by_way_of_dots_is_that_namespace(lab: Lab) -> None:
    """It is the descriptor that counts, not the text."""
    guest = lab.guest()
    path = f"/run/netns/../netns/{guest.name}"
    exit_code, result = raw(lab, good(lab), CNI_NETNS=path)
    assert exit_code == 0, result
    assert "eth0" in guest.links()


def test_a_pod_cannot_name_another_namespace_or_vm(lab: Lab) -> None:
    pod = {"K8S_POD_NAMESPACE": "evil", "K8S_POD_NAME": "pod"}
    for claim in ({"namespace": "bank"}, {"vm": "vault"}, {"namespace": "bank", "vm": "vault", "interface": "eth0"}):
        answer = lab.add("c1", lab.guest(), cni_args=pod, args={"cni": claim})
        assert answer.error == 7, answer
    assert lab.add("c2", lab.guest(), cni_args=pod).exit_code == 0
    assert [str(interface.key) for interface in lab.objects.interfaces.list()] == ["evil/pod-eth0"]


def test_a_taken_link_name_is_refused_and_nothing_of_the_call_is_kept(lab: Lab) -> None:
    guest = lab.guest()
    guest.ip("link add eth0 type veth peer name other")
    answer = lab.add("c1", guest, vm="web")
    assert answer.exit_code == 1
    assert "eth0" in answer.result["msg"]
    assert lab.holder("web-eth0") is None
    require_nothing(lab)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param({"verb": "fly"}, 6, id="unknown verb"),
        pytest.param({"verb": "attach"}, 6, id="nothing but a verb"),
        pytest.param({"verb": "attach", "vm": "web", "interface": "eth0", "kind": "tap", "tap": "a" * 16}, 7,
                     id="a tap's name too long"),
        pytest.param({"verb": "attach", "vm": "web", "interface": "eth0", "kind": "netns", "netns": "/x"}, 6,
                     id="no descriptor"),
        pytest.param({"verb": "attach", "vm": "web", "interface": "eth0", "kind": "host", "network": "lab",
                      "ips": ["ten"]}, 7, id="an address that is none"),
        pytest.param({"verb": "attach", "vm": "web", "interface": "eth0", "kind": "host", "network": "none"}, 107,
                     id="no such Network"),
        pytest.param({"verb": "detach", "vm": "web"}, 107, id="not attached"),
    ],
)  # fmt: skip
def test_requests_that_no_command_line_of_ours_sends(lab: Lab, request_: dict[str, Any], code: int) -> None:
    verb = request_.pop("verb")
    with pytest.raises(Refused) as refused:
        lab.ask(verb, **request_)
    assert refused.value.code == code, refused.value
    require_nothing(lab)


def test_a_second_agent_of_one_run_directory_refuses_to_start(lab: Lab, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = lab.node.namespace.popen(sys.executable, "-m", "homeport_agent", *lab.node.agent.options, log=log)
    assert process.wait(30) == 1
    assert "another agent runs with --run-dir" in log.read_text()
    assert lab.add("c1", lab.guest()).exit_code == 0
