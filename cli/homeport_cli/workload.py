"""What policies know a VM by: the labels of its VirtualMachine, and what `attach --label` and `--port` say."""

from dataclasses import replace

import click

from homeport_api.errors import Conflict, Unavailable
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.names import parse_label_key, parse_label_value, parse_port_name
from homeport_api.virtualmachine import VirtualMachine, workload_of
from homeport_api.workload import NamedPort, Protocol, Workload
from homeport_cli.session import Session
from homeport_policy.facts import VM_LABEL
from homeport_store import keys
from homeport_store.protocol import Delete, Put


def save_machine(session: Session, machine: VirtualMachine, *, unchanged: bool) -> None:
    """The VM and what policies know it by, together; of one that is `unchanged`, only the latter. Raises Conflict when
    one of them was changed meanwhile."""
    objects, key = session.objects, InterfaceKey(machine.meta.namespace, machine.meta.name)
    old = objects.workloads.find(key)
    workload = workload_of(machine, old)
    writes: list[Put | Delete] = [] if unchanged else [objects.machines.put(machine)]
    conditions = [objects.machines.unchanged(machine)]
    if workload != old:
        writes.append(objects.workloads.put(workload))
        conditions.append(objects.workloads.unchanged(workload))
    if writes and not session.store.txn(conditions, writes).applied:
        raise Conflict(f"VirtualMachine {key} was changed by somebody else meanwhile: apply it again")


def forget_machine(session: Session, machine: VirtualMachine) -> None:
    """Its inverse. Raises Conflict when the VM was changed meanwhile."""
    machines, key = session.objects.machines, InterfaceKey(machine.meta.namespace, machine.meta.name)
    writes = (machines.remove(machine), Delete(keys.workload(key.namespace, key.name)))
    if not session.store.txn((machines.unchanged(machine),), writes).applied:
        raise Conflict(f"VirtualMachine {key} was changed by somebody else meanwhile: try again")


def save_workload(session: Session, vm: str, labels: tuple[str, ...], ports: tuple[str, ...]) -> None:
    """To be called before the attach, so that policies select the VM from its first packet. What is not given stays as
    an earlier attach or the VirtualMachine has it."""
    if not labels and not ports:
        return
    objects, key = session.objects, InterfaceKey(session.settings.namespace, vm)
    old = objects.workloads.find(key)
    known = old or Workload(key.namespace, key.name)
    if old is None and (machine := objects.machines.find(key)) is not None:
        known = workload_of(machine, None)
    wanted = replace(
        known,
        labels=dict(read_label(text) for text in labels) if labels else known.labels,
        ports=tuple(read_port(text) for text in ports) if ports else known.ports,
    )
    if wanted != old:
        objects.workloads.save(wanted)


def forget_workload(session: Session, vm: str) -> None:
    """After a detach of everything, where no VirtualMachine says what it is. The guest is off the network by then, so a
    store that is away is only told."""
    objects, key = session.objects, InterfaceKey(session.settings.namespace, vm)
    try:
        if objects.machines.find(key) is None and (old := objects.workloads.find(key)) is not None:
            objects.workloads.delete(old)
    except Unavailable as error:
        click.echo(f"Warning: the labels of {vm} stay in the store, which is out of reach: {error}", err=True)


def known_as(key: InterfaceKey, workload: Workload | None, *, vm: bool) -> Workload:
    """What policies know a VM or pod by, of which that is the record, if there is one."""
    known = workload or Workload(key.namespace, key.name)
    return replace(known, labels={**known.labels, VM_LABEL: key.name}) if vm else known


def key_of(interface: Interface) -> InterfaceKey:
    """Whose an Interface is; one without a VM is its own workload."""
    return InterfaceKey(interface.meta.namespace, interface.spec.vm or interface.meta.name)


def workload_of_interface(interface: Interface, workload: Workload | None) -> Workload:
    return known_as(key_of(interface), workload, vm=interface.spec.vm is not None and not interface.status.ephemeral)


def written_port(port: NamedPort) -> str:
    """As `--port` takes it."""
    return f"{port.name}={port.number}/{port.protocol.lower()}"


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
        named = NamedPort(parse_port_name(name), int(number), Protocol(protocol.upper() or "TCP"))
    except ValueError:
        named = None
    if named is None or not 1 <= named.number <= 65535:
        raise ValueError(f"{text!r} is not a named port: write NAME=NUMBER/PROTOCOL, like http=80/tcp")
    return named
