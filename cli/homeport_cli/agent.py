"""`agent`: becomes the agent of this node, in the foreground. Another program, so this one is replaced by it."""

import os
import sys

import click

from homeport_api.errors import HomeportError
from homeport_cli.options import agent_options, common_options, pass_session
from homeport_cli.session import Session
from homeport_cli.settings import SETTINGS

USED_HERE_ONLY = {"namespace"}


@click.command("agent")
@agent_options
@common_options
@pass_session
def agent(session: Session) -> None:
    """Run the agent of this node, in the foreground."""
    arguments = agent_arguments(session)
    try:
        os.execv(sys.executable, arguments)  # noqa: S606 (no shell, on purpose)
    except OSError as error:
        raise HomeportError(f"cannot start the agent: {sys.executable}: {error.strerror}") from error


def agent_arguments(session: Session) -> list[str]:
    """The agent's command line: every setting that somebody set, whether by option, environment or file."""
    explicit = session.settings.explicit
    options = [
        part
        for setting in SETTINGS
        if setting.name in explicit and setting.name not in USED_HERE_ONLY
        for part in (f"--{setting.name}", explicit[setting.name])
    ]
    return [sys.executable, "-m", "homeport_agent", *options]
