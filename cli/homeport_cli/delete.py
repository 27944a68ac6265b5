"""`delete`: objects go when nothing uses them."""

from collections.abc import Sequence
from dataclasses import replace

import click

from homeport_api.errors import HomeportError, InUse, NotFound
from homeport_api.interface import InterfaceKey
from homeport_api.network import Network
from homeport_api.networkpolicy import PolicyKey, PolicyKind
from homeport_api.wire import INTERFACE, NAMESPACE, NETWORK, VIRTUAL_MACHINE, AnyKind
from homeport_cli.kinds import kind_argument
from homeport_cli.options import common_options, pass_session
from homeport_cli.session import Session
from homeport_cli.workload import forget_machine
from homeport_store import keys
from homeport_store.protocol import Delete, PrefixEmpty, Unchanged

SHOWN = 5


@click.command("delete")
@kind_argument
@click.argument("names", nargs=-1, required=True)
@common_options
@pass_session
def delete(session: Session, kind: AnyKind, names: Sequence[str]) -> None:
    """Delete objects.

    A Network that Interfaces name and an Interface that is held are refused. The Interfaces of a deleted VirtualMachine
    keep their addresses for their Network's reclaimAfter, in case it is made again. With a Namespace go its labels
    only.
    """
    failures: list[HomeportError] = []
    for name in names:
        try:
            _delete(session, kind, name)
        except (InUse, NotFound) as error:
            failures.append(error)
        else:
            click.echo(f"{kind.name.lower()}/{name} deleted")
    for failure in failures[1:]:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        raise failures[0]


def _delete(session: Session, kind: AnyKind, name: str) -> None:
    key = InterfaceKey(session.settings.namespace, name)
    if kind is NETWORK:
        _delete_network(session, session.objects.networks.get(name))
    elif kind is INTERFACE:
        session.allocator.delete_interface(key, "deleted by a user")
    elif kind is VIRTUAL_MACHINE:
        _delete_machine(session, key)
    elif kind is NAMESPACE:
        session.objects.namespaces.delete(session.objects.namespaces.get(name))
    else:
        policies = session.objects.policies
        policies.delete(policies.get(PolicyKey(key.namespace, PolicyKind(kind.name), name)))


def _delete_network(session: Session, network: Network) -> None:
    """Refused while an Interface names it. One that is attached in this very moment is caught by the transaction where
    its address stands in a domain of the Network's own; any other is looked for again, and the Network put back."""
    objects = session.objects
    _require_unused(session, network)
    conditions: list[Unchanged | PrefixEmpty] = [objects.networks.unchanged(network)]
    domain = network.l2_domain
    shared = [other for other in objects.networks.list() if other.l2_domain == domain and other.name != network.name]
    if domain is not None and not shared:
        conditions.append(PrefixEmpty(keys.addresses_of(domain)))
    writes = [objects.networks.remove(network), *(Delete(key) for key in _reports(session, network.name))]
    if not session.store.txn(conditions, writes).applied:
        raise InUse(
            f"Network {network.name} was changed meanwhile, or addresses of it have owners: look with `homeport ipam "
            "show` and `homeport ipam fsck`, then try again"
        )
    try:
        _require_unused(session, network)
    except InUse:
        objects.networks.save(replace(network, meta=replace(network.meta, revision=0)))
        raise


def _require_unused(session: Session, network: Network) -> None:
    users = session.objects.interfaces_on(network.name)
    if users:
        names = ", ".join(str(interface.key) for interface in users[:SHOWN])
        more = f" and {len(users) - SHOWN} more" if len(users) > SHOWN else ""
        raise InUse(f"Network {network.name} is in use by Interface {names}{more}: delete those first")


def _reports(session: Session, network: str) -> list[str]:
    return [
        keys.report(report.node, report.network) for report in session.objects.reports() if report.network == network
    ]


def _delete_machine(session: Session, key: InterfaceKey) -> None:
    """The Interfaces are marked before the object goes: should this end in the middle, a repeat still finds the object
    and does the rest. What policies know the VM by goes with it."""
    machine = session.objects.machines.get(key)
    kept = session.allocator.orphan(key.namespace, key.name)
    forget_machine(session, machine)
    if kept:
        names = ", ".join(interface.name for interface in kept)
        click.echo(f"Interfaces {names} keep their addresses until their Network's reclaimAfter has passed", err=True)
