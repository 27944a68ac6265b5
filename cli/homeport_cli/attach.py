"""`attach` and `detach`: a guest's link by hand, through the agent of this node."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from homeport_api.addresses import parse_mac
from homeport_api.errors import FieldError, Invalid
from homeport_api.names import (
    parse_identity_name,
    parse_link_name,
)
from homeport_api.scalars import read_host_address
from homeport_cli.failure import Exit
from homeport_cli.options import common_options, pass_session
from homeport_cli.output import Form, print_data
from homeport_cli.session import Session
from homeport_cli.workload import forget_workload, read_label, read_port, save_workload

NAMED_NAMESPACES = Path("/run/netns")


@click.command("attach")
@click.argument("vm")
@click.option("--network", metavar="NETWORK", help="The Network to join.")
@click.option(
    "--interface-object", metavar="NAME", help="An existing Interface of the namespace, in place of --network."
)
@click.option("--interface", metavar="NAME", default="eth0", show_default=True, help="The VM's own name for it.")
@click.option("--tap", metavar="LINK", help="A tap that a hypervisor holds open; it moves into the switch.")
@click.option("--netns", metavar="PATH", help="A network namespace, or the name of one in /run/netns.")
@click.option("--host", is_flag=True, help="The node's own network namespace.")
@click.option("--ip", "ips", multiple=True, metavar="ADDRESS", help="Ask for this address; may be given often.")
@click.option("--mac", metavar="MAC", help="Ask for this MAC.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label policies select the VM by.")
@click.option("--port", "ports", multiple=True, metavar="NAME=NUMBER/PROTOCOL", help="A port policies may name.")
@click.option("--take-over", is_flag=True, help="Take the Interface from its present holder.")
@click.option("--standby", is_flag=True, help="Join as the target of a migration.")
@click.option("--activate", is_flag=True, help="Make a standby the active one.")
@common_options
@pass_session
def attach(session: Session, /, vm: str, tap: str | None, netns: str | None, host: bool, **options: Any) -> None:
    """Give a VM its Interface on a Network, and print the CNI result.

    The Interface is made when it is missing, and keeps its addresses from then on. A repeat with the same link answers
    the same.
    """
    _refuse_migration(standby=options["standby"], activate=options["activate"])
    _check(vm, tap, netns, host, options)
    request: dict[str, Any] = {
        "verb": "attach",
        "vm": vm,
        "namespace": session.settings.namespace,
        "interface": options["interface"],
        "network": options["network"],
        "interfaceObject": options["interface_object"],
        "kind": "tap" if tap else "netns" if netns else "host",
        "tap": tap,
        "netns": str(_path(netns)) if netns else None,
        "ips": list(options["ips"]),
        "mac": options["mac"],
        "takeOver": options["take_over"],
    }
    save_workload(session, vm, options["labels"], options["ports"])
    with _opened(netns) as descriptors:
        result = session.ask_agent({name: value for name, value in request.items() if value is not None}, descriptors)
    print_data(result, Form.JSON)


@click.command("detach")
@click.argument("vm")
@click.option("--interface", metavar="NAME", help="Only this one; all of the VM's by default.")
@common_options
@pass_session
def detach(session: Session, vm: str, interface: str | None) -> None:
    """End what `attach` made. The VM's Interfaces keep their addresses.

    A tap that is still open goes back to where it came from.
    """
    request = {"verb": "detach", "vm": vm, "namespace": session.settings.namespace}
    result = session.ask_agent(request if interface is None else {**request, "interface": interface})
    if interface is None:
        forget_workload(session, vm)
    for name in result["detached"]:
        click.echo(f"{session.settings.namespace}/{vm} {name} detached")


def _refuse_migration(**flags: bool) -> None:
    for name, given in flags.items():
        if given:
            click.echo(f"Error: --{name} comes with migration, which this version does not have yet", err=True)
            click.get_current_context().exit(Exit.USAGE)


def _check(vm: str, tap: str | None, netns: str | None, host: bool, options: dict[str, Any]) -> None:
    errors: list[FieldError] = []
    if sum((tap is not None, netns is not None, host)) != 1:
        errors.append(FieldError("--tap, --netns, --host", "give exactly one of them: where the guest's link is"))
    if (options["network"] is None) == (options["interface_object"] is None):
        errors.append(FieldError("--network, --interface-object", "give exactly one of them: what to join"))
    checks: list[tuple[str, Callable[[str], object], str]] = [
        ("VM", parse_identity_name, vm),
        ("--interface", parse_identity_name, options["interface"]),
    ]
    checks += [("--ip", read_host_address, ip) for ip in options["ips"]]
    checks += [("--label", read_label, label) for label in options["labels"]]
    checks += [("--port", read_port, port) for port in options["ports"]]
    if tap is not None:
        checks.append(("--tap", parse_link_name, tap))
    if options["mac"] is not None:
        checks.append(("--mac", parse_mac, options["mac"]))
    for where, check, text in checks:
        try:
            check(text)
        except ValueError as error:
            errors.append(FieldError(where, str(error)))
    if errors:
        raise Invalid(errors)


def _path(netns: str) -> Path:
    return Path(netns) if "/" in netns else NAMED_NAMESPACES / netns


@contextmanager
def _opened(netns: str | None) -> Iterator[tuple[int, ...]]:
    """The namespace's descriptor, for the agent may live in another mount namespace. It judges what it is."""
    if netns is None:
        yield ()
        return
    try:
        descriptor = os.open(_path(netns), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Invalid([FieldError("--netns", f"{_path(netns)}: {error.strerror}")]) from error
    try:
        yield (descriptor,)
    finally:
        os.close(descriptor)
