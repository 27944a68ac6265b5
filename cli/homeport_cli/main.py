"""The command `homeport`: its verbs, and the rim where errors become words and exit codes.

0 done   1 refused or failed   2 usage or invalid manifest   3 not found   4 store or agent out of reach
5 conflict: in use, held, owned   of `policy trace`: 10 denied   11 oracle and kernel disagree
"""

import os
import sys
from typing import Any

import click
from click.shell_completion import get_completion_class

from homeport_api.errors import HomeportError
from homeport_cli.agent import agent
from homeport_cli.apply import apply
from homeport_cli.attach import attach, detach
from homeport_cli.delete import delete
from homeport_cli.doctor import doctor
from homeport_cli.failure import Exit, exit_code, lines
from homeport_cli.get import describe, get
from homeport_cli.install import install_cni, install_qemu_ifup, install_service
from homeport_cli.ipam import ipam
from homeport_cli.options import common_options
from homeport_cli.policy import policy
from homeport_cli.session import opened
from homeport_cli.store import store


class Verbs(click.Group):
    """Turns Homeport's errors into lines on stderr and an exit code, wherever the group is called from."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HomeportError as error:
            for line in lines(error):
                click.echo(f"Error: {line}", err=True)
            ctx.exit(exit_code(error))


EXIT_CODES = (
    "Exit codes: 0 done, 1 refused or failed, 2 usage or invalid manifest, 3 not found, 4 store or agent out of reach, "
    "5 conflict (in use, held, owned)."
)


@click.group(
    cls=Verbs, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="homeport", prog_name="homeport")
@common_options
def cli() -> None:
    """A place on the network that stays with the virtual machine.

    Options stand before or after the verb. Option, environment variable and /etc/homeport/config.toml are looked at in
    this order.
    """


@cli.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes this command; source it in your shell."""
    kind = get_completion_class(shell)
    assert kind is not None  # click knows each of the choices
    click.echo(kind(cli, {}, "homeport", "_HOMEPORT_COMPLETE").source())


for verb in (
    agent,
    apply,
    attach,
    delete,
    describe,
    detach,
    doctor,
    get,
    install_cni,
    install_qemu_ifup,
    install_service,
    ipam,
    policy,
    store,
):
    cli.add_command(verb)


def main() -> None:
    """The console script."""
    if "CNI_COMMAND" in os.environ:
        click.echo(
            "Error: this is Homeport's command line, and it was called as a CNI plugin. The plugin of the same name is "
            "another file: `homeport install-cni --bin-dir DIR` puts it into the runtime's plugin directory",
            err=True,
        )
        sys.exit(Exit.USAGE)
    with opened(os.environ) as session:
        cli.main(obj=session, prog_name="homeport")
