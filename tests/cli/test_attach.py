"""`attach`, `detach` and `doctor`: what crosses the agent's socket, over a real one."""

import json
from pathlib import Path

import pytest

from homeport_api.interface import InterfaceKey

from .harness import NETWORK, WEB, Cli, Listener

RESULT = {"cniVersion": "1.1.0", "ips": [{"address": "10.77.0.9/24"}]}


def test_the_result_is_printed_and_the_request_says_what_was_asked(cli: Cli, agent: Listener) -> None:
    agent.answer = {"ok": True, "result": RESULT}
    result = cli(
        "attach", "web", "--network", "lab", "--tap", "tap0", "--ip", "10.77.0.9", "--mac", "02:00:00:00:00:09"
    )
    assert json.loads(result.stdout) == RESULT
    assert agent.asked == [
        {
            "verb": "attach",
            "vm": "web",
            "namespace": "default",
            "interface": "eth0",
            "network": "lab",
            "kind": "tap",
            "tap": "tap0",
            "ips": ["10.77.0.9"],
            "mac": "02:00:00:00:00:09",
            "takeOver": False,
        }
    ]
    assert agent.inodes == [None]


def test_a_namespace_goes_as_a_descriptor(cli: Cli, agent: Listener) -> None:
    path = "/proc/self/ns/net"
    options = ("--interface-object", "web-eth1", "--interface", "eth1", "--take-over", "-n", "shop")
    assert cli("attach", "web", "--netns", path, *options).exit_code == 0
    assert agent.inodes == [Path(path).stat().st_ino]
    (asked,) = agent.asked
    assert (asked["kind"], asked["netns"], asked["namespace"]) == ("netns", path, "shop")
    assert (asked["interfaceObject"], asked["takeOver"], "network" in asked) == ("web-eth1", True, False)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        pytest.param(102, 5, id="held elsewhere"),
        pytest.param(103, 5, id="address owned by another"),
        pytest.param(107, 3, id="not found"),
        pytest.param(11, 4, id="try again later"),
        pytest.param(7, 2, id="invalid"),
        pytest.param(101, 1, id="pool exhausted"),
        pytest.param(104, 1, id="not allowed"),
        pytest.param(999, 1, id="unforeseen"),
        pytest.param(None, 1, id="no code"),
    ],
)
def test_a_refusal_is_the_agents_word_with_an_exit_code_of_its_own(
    cli: Cli, agent: Listener, code: int | None, exit_code: int
) -> None:
    agent.answer = {"ok": False, "code": code, "msg": "Interface web-eth0 is held by container c1"}
    result = cli("attach", "web", "--network", "lab", "--host")
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr == "Error: Interface web-eth0 is held by container c1\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param(["--network", "lab"], "--tap, --netns, --host: give exactly one of them", id="no link"),
        pytest.param(["--network", "lab", "--host", "--tap", "t"], "give exactly one of them", id="two links"),
        pytest.param(["--host"], "--network, --interface-object: give exactly one of them", id="no network"),
        pytest.param(
            ["--network", "lab", "--host", "--ip", "10.0.0.0/24"], "is the network's own address", id="address"
        ),
        pytest.param(["--network", "lab", "--host", "--mac", "01:00:00:00:00:01"], "is a multicast MAC", id="MAC"),
        pytest.param(["--network", "lab", "--tap", "../x"], "is not a link name", id="tap"),
        pytest.param(["--network", "lab", "--netns", "/nowhere"], "/nowhere: No such file or directory", id="netns"),
        pytest.param(["--network", "lab", "--host", "--label", "x"], "'x' is not a label: write KEY=VALUE", id="label"),
        pytest.param(["--network", "lab", "--host", "--port", "http=80/x"], "is not a named port", id="port"),
        pytest.param(
            ["--network", "lab", "--host", "--port", "no_name=80"],
            "is not a named port",
            id="port that no policy names",
        ),
        pytest.param(["--network", "lab", "--host", "--port", "http=0"], "is not a named port", id="port 0"),
        pytest.param(["--network", "lab", "--host", "--standby"], "--standby comes with migration", id="standby"),
        pytest.param(["--activate"], "--activate comes with migration", id="activate"),
    ],
)
def test_mistakes_do_not_reach_the_agent(cli: Cli, agent: Listener, arguments: list[str], error: str) -> None:
    result = cli("attach", "web", *arguments)
    assert result.exit_code == 2
    assert error in result.stderr
    assert agent.asked == []


def test_labels_and_ports_are_kept_until_everything_is_detached(cli: Cli, agent: Listener) -> None:
    options = ("--label", "app=web", "--port", "http=80/tcp", "--port", "dns=53/udp")
    attached = cli("attach", "web", "--network", "lab", "--host", *options)
    assert (attached.exit_code, attached.stderr) == (0, "")
    (workload,) = cli.objects.workloads.list()
    assert (workload.key, dict(workload.labels)) == (InterfaceKey("default", "web"), {"app": "web"})
    assert [(port.name, port.number, port.protocol) for port in workload.ports] == [
        ("http", 80, "TCP"),
        ("dns", 53, "UDP"),
    ]
    assert cli("attach", "web", "--network", "lab", "--host").exit_code == 0
    assert cli.objects.workloads.list() == (workload,)
    agent.answer = {"ok": True, "result": {"detached": ["eth0"]}}
    assert cli("detach", "web", "--interface", "eth0").stdout == "default/web eth0 detached\n"
    assert cli.objects.workloads.list() == (workload,)
    assert cli("detach", "web").exit_code == 0
    assert cli.objects.workloads.list() == ()


def test_what_is_not_given_again_stays(cli: Cli, agent: Listener) -> None:
    def attach(*options: str) -> tuple[dict[str, str], list[str]]:
        assert cli("attach", "web", "--network", "lab", "--host", *options).exit_code == 0
        (workload,) = cli.objects.workloads.list()
        return dict(workload.labels), [port.name for port in workload.ports]

    assert attach("--label", "app=web", "--label", "tier=front") == ({"app": "web", "tier": "front"}, [])
    assert attach("--port", "http=80") == ({"app": "web", "tier": "front"}, ["http"])
    assert attach("--label", "app=db") == ({"app": "db"}, ["http"])


def test_a_virtual_machine_keeps_its_labels_over_attach_and_detach(cli: Cli, agent: Listener) -> None:
    """Those of its manifest until --label says others, and never forgotten while the object is there."""
    vm = WEB.replace("name: web}", "name: web, labels: {app: web}}")
    assert cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{vm}").exit_code == 0
    cli.objects.workloads.delete(cli.objects.workloads.list()[0])
    assert cli("attach", "web", "--network", "lab", "--host", "--port", "http=80").exit_code == 0
    (workload,) = cli.objects.workloads.list()
    assert (dict(workload.labels), len(workload.ports)) == ({"app": "web"}, 1)
    assert cli("attach", "web", "--network", "lab", "--host", "--label", "app=db").exit_code == 0
    agent.answer = {"ok": True, "result": {"detached": ["eth0"]}}
    assert cli("detach", "web").exit_code == 0
    (workload,) = cli.objects.workloads.list()
    assert (dict(workload.labels), len(workload.ports)) == ({"app": "db"}, 1)


def test_without_an_agent_it_is_out_of_reach(cli: Cli, tmp_path: Path) -> None:
    result = cli("--run-dir", str(tmp_path), "attach", "web", "--network", "lab", "--host")
    assert result.exit_code == 4
    assert f"the agent does not answer at {tmp_path}/agent.sock" in result.stderr


STEPS = [
    {"name": "agent", "state": "ok", "detail": "answers", "remedy": ""},
    {"name": "network blue", "state": "broken", "detail": "uplink is missing", "remedy": "plug it in"},
]


def test_doctor_names_the_broken_step_and_its_remedy(cli: Cli, agent: Listener) -> None:
    agent.answer = {"ok": True, "result": {"steps": STEPS}}
    result = cli("doctor", "web")
    assert result.exit_code == 1
    assert result.stdout == (
        "ok       agent: answers\nbroken   network blue: uplink is missing\n         remedy: plug it in\n"
    )
    assert agent.asked == [{"verb": "doctor", "namespace": "default", "vm": "web"}]
    assert json.loads(cli("doctor", "-o", "json").stdout) == {"steps": STEPS}


def test_doctor_is_content_when_nothing_is_broken(cli: Cli, agent: Listener) -> None:
    agent.answer = {"ok": True, "result": {"steps": STEPS[:1]}}
    assert cli("doctor").exit_code == 0


def test_doctor_without_an_agent_says_that(cli: Cli, tmp_path: Path) -> None:
    result = cli("doctor", "--run-dir", str(tmp_path))
    assert result.exit_code == 4
    assert result.stdout.startswith("broken   agent: the agent does not answer")
    assert f"homeport agent --run-dir {tmp_path}" in result.stdout
