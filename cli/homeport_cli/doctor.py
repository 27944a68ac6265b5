"""`doctor`: what works and what is broken between a VM and its Network, told by the agent."""

from collections.abc import Mapping
from typing import Any

import click

from homeport_api.errors import Unavailable
from homeport_cli.failure import Exit
from homeport_cli.options import common_options, output_option, pass_session
from homeport_cli.output import Form, print_data
from homeport_cli.session import Session, is_terminal

COLOURS = {"ok": "green", "warning": "yellow", "broken": "red", "skipped": "bright_black"}


@click.command("doctor")
@click.argument("vm", required=False)
@output_option
@common_options
@pass_session
@click.pass_context
def doctor(context: click.Context, session: Session, vm: str | None, form: Form) -> None:
    """Walk from the agent to the guest's port, and name the broken step and its remedy.

    With VM, its Interfaces too. Exit code 0 when nothing is broken, 1 when something is, 4 without an agent.
    """
    request = {"verb": "doctor", "namespace": session.settings.namespace}
    try:
        result = session.ask_agent(request if vm is None else {**request, "vm": vm})
        steps = result["steps"]
        code = Exit.REFUSED if any(step["state"] == "broken" for step in steps) else Exit.DONE
    except Unavailable as error:
        steps, code = [_no_agent(session, error)], Exit.UNREACHABLE
    if form in {Form.JSON, Form.YAML}:
        print_data({"steps": steps}, form)
    else:
        for step in steps:
            _tell(step)
    context.exit(code)


def _no_agent(session: Session, error: Unavailable) -> dict[str, str]:
    run_dir = session.settings.run_dir
    return {
        "name": "agent",
        "state": "broken",
        "detail": str(error),
        "remedy": f"start it (`systemctl start homeport`, or `homeport agent --run-dir {run_dir}`), as root; if it "
        "runs with another run directory, give that with --run-dir",
    }


def _tell(step: Mapping[str, Any]) -> None:
    state = str(step["state"])
    label = state.ljust(8)
    click.echo(f"{click.style(label, COLOURS.get(state)) if is_terminal() else label} {step['name']}: {step['detail']}")
    if step.get("remedy"):
        click.echo(f"{' ' * 9}remedy: {step['remedy']}")
