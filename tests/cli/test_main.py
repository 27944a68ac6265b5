"""The command as a process of its own, and what holds for every verb."""

import os
import subprocess
import sys

import click
import pytest

from homeport_cli.agent import agent_arguments
from homeport_cli.main import cli as command

from .harness import Cli


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "homeport_cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOMEPORT_CONFIG": "/dev/null", **environ},
    )


def test_called_as_a_plugin_it_names_the_installer() -> None:
    done = run(CNI_COMMAND="ADD")
    assert (done.returncode, done.stdout) == (2, "")
    assert "homeport install-cni" in done.stderr


def test_a_store_out_of_reach_is_said(tmp_path: os.PathLike[str]) -> None:
    done = run("--data-dir", os.fspath(tmp_path), "get", "networks")
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: no embedded etcd answers at {tmp_path}/etcd/client:0 (No such file or directory)")


def test_usage_errors_are_2() -> None:
    assert run("no-such-verb").returncode == 2
    assert run("get").returncode == 2


def test_the_agent_gets_what_was_set_and_nothing_else(cli: Cli) -> None:
    session = cli.session()
    session.environ = {**cli.environ, "HOMEPORT_NODE": "n1", "HOMEPORT_NAMESPACE": "shop"}
    session.given.options["rest"] = "5m"
    assert agent_arguments(session) == [sys.executable, "-m", "homeport_agent", "--node", "n1", "--rest", "5m"]


@pytest.mark.parametrize("verb", sorted(command.commands))
def test_every_verb_explains_itself(cli: Cli, verb: str) -> None:
    result = cli(verb, "--help")
    assert result.exit_code == 0
    assert command.commands[verb].get_short_help_str()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for(cli: Cli, shell: str) -> None:
    assert "_HOMEPORT_COMPLETE" in cli("completion", shell).stdout


def test_kinds_are_completed() -> None:
    get = command.commands["get"]
    kind = next(parameter for parameter in get.params if parameter.name == "kind")
    with click.Context(get) as context:
        assert [item.value for item in kind.shell_complete(context, "netw")] == [
            "networks",
            "network",
            "networkinterfaces",
            "networkinterface",
            "networkpolicies",
            "networkpolicy",
        ]
