"""A VM's labels and named ports, where no pod or VirtualMachine says them: `attach --label` and `--port`."""

import click

from homeport_api.errors import Unavailable
from homeport_api.interface import InterfaceKey
from homeport_api.names import parse_label_key, parse_label_name, parse_label_value
from homeport_api.workload import NamedPort, Protocol, Workload
from homeport_cli.session import Session


def save_workload(session: Session, vm: str, labels: tuple[str, ...], ports: tuple[str, ...]) -> None:
    """To be called before the attach, so that policies select the VM from its first packet. Without labels and ports,
    what an earlier attach wrote stays."""
    if not labels and not ports:
        return
    workloads, key = session.objects.workloads, InterfaceKey(session.settings.namespace, vm)
    old = workloads.find(key)
    wanted = Workload(
        key.namespace,
        key.name,
        dict(read_label(text) for text in labels),
        tuple(read_port(text) for text in ports),
        old.revision if old else 0,
    )
    if wanted != old:
        workloads.save(wanted)
    click.echo("Warning: labels and ports are stored, and without effect in this version", err=True)


def forget_workload(session: Session, vm: str) -> None:
    """After a detach of everything. The guest is off the network by then, so a store that is away is only told."""
    try:
        workloads = session.objects.workloads
        if (old := workloads.find(InterfaceKey(session.settings.namespace, vm))) is not None:
            workloads.delete(old)
    except Unavailable as error:
        click.echo(f"Warning: the labels of {vm} stay in the store, which is out of reach: {error}", err=True)


def read_label(text: str) -> tuple[str, str]:
    """KEY=VALUE. Raises ValueError."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not a label: write KEY=VALUE")
    return parse_label_key(key), parse_label_value(value)


def read_port(text: str) -> NamedPort:
    """NAME=NUMBER/PROTOCOL; TCP when that is left out. Raises ValueError."""
    name, _, rest = text.partition("=")
    number, _, protocol = rest.partition("/")
    try:
        named = NamedPort(parse_label_name(name), int(number), Protocol(protocol.upper() or "TCP"))
    except ValueError:
        named = None
    if named is None or not 1 <= named.number <= 65535:
        raise ValueError(f"{text!r} is not a named port: write NAME=NUMBER/PROTOCOL, like http=80/tcp")
    return named
