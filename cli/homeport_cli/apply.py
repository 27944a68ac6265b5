"""`apply`: makes the store say what manifests say. What that takes is planned in `homeport_api.apply`."""

import sys
from uuid import uuid4

import click

from homeport_api.apply import Outcome, Step, World, plan_apply
from homeport_api.errors import AddressOwned, AlreadyExists, HomeportError
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.manifest import read_manifest
from homeport_api.network import Network
from homeport_api.networkpolicy import Namespace, NetworkPolicy
from homeport_api.validate_network import not_enforced, same_domain
from homeport_api.virtualmachine import VirtualMachine
from homeport_api.wire import OWNER, AnyObject
from homeport_cli.documents import read_documents
from homeport_cli.kinds import kind_word
from homeport_cli.options import common_options, pass_session
from homeport_cli.session import Session
from homeport_cli.workload import save_machine
from homeport_ipam.status import left_outside, owned_addresses
from homeport_store import keys
from homeport_store.zones import ensure_zones

NAMED = 5
"""As many addresses a warning names."""

filenames_option = click.option(
    "-f",
    "--filename",
    "names",
    multiple=True,
    required=True,
    metavar="PATH",
    type=click.Path(path_type=str),
    help="Manifest file, directory of manifests, or - for standard input; may be given often.",
)


@click.command("apply")
@filenames_option
@common_options
@pass_session
def apply(session: Session, names: tuple[str, ...]) -> None:
    """Create or change the objects of manifests.

    Nothing is changed when any of them is invalid; all errors are told at once.
    """
    manifest = read_manifest(read_documents(names, sys.stdin), session.settings.namespace)
    for warning in manifest.warnings:
        click.echo(f"Warning: {warning}", err=True)
    world = world_of(session, manifest.objects)
    steps = plan_apply(world, manifest.objects, session.clock(), lambda: str(uuid4()))
    networks = [step.value for step in steps if isinstance(step.value, Network)]
    for network in networks:
        _refuse_owned_gateways(session, network, world.networks.get(network.name))
    ensure_zones(session.store, {domain for network in networks if (domain := network.l2_domain) is not None})
    done = 0
    try:
        for step in steps:
            _take(session, step)
            done += 1
            _tell(step)
            if isinstance(step.value, Network) and (old := world.networks.get(step.value.name)) is not None:
                _tell_left_outside(session, old, step.value)
    except HomeportError:
        if done:
            click.echo(f"{done} of {len(steps)} objects were applied before this:", err=True)
        raise


def world_of(session: Session, wanted: tuple[AnyObject, ...]) -> World:
    """What the store has now, as far as a plan for these objects needs it."""
    objects = session.objects
    namespaces = {item.meta.namespace for item in wanted if isinstance(item, Interface | VirtualMachine)}
    governed = {item.meta.namespace for item in wanted if isinstance(item, NetworkPolicy)}
    labelled = any(isinstance(item, Namespace) for item in wanted)
    return World(
        {network.name: network for network in objects.networks.list()},
        {item.key: item for namespace in namespaces for item in objects.interfaces_in(namespace)},
        {
            InterfaceKey(item.meta.namespace, item.meta.name): item
            for namespace in namespaces
            for item in objects.machines_in(namespace)
        },
        {item.key: item for namespace in governed for item in objects.policies_in(namespace)},
        {item.name: item for item in (objects.namespaces.list() if labelled else ())},
    )


def _take(session: Session, step: Step) -> None:
    """Writes one object, compared with what the plan saw. An Interface claims its addresses in the same transaction."""
    match step.value:
        case Interface():
            session.allocator.reserve(step.value)
        case Network() if step.outcome is not Outcome.UNCHANGED:
            _save_network(session, step.value)
        case NetworkPolicy() if step.outcome is not Outcome.UNCHANGED:
            session.objects.policies.save(step.value)
        case Namespace() if step.outcome is not Outcome.UNCHANGED:
            session.objects.namespaces.save(step.value)
        case VirtualMachine():
            save_machine(session, step.value, unchanged=step.outcome is Outcome.UNCHANGED)


def _refuse_owned_gateways(session: Session, network: Network, old: Network | None) -> None:
    """A new gateway that a guest owns would be told to all others as the way out."""
    known = (old.spec.gateway4, old.spec.gateway6) if old else ()
    for gateway in (network.spec.gateway4, network.spec.gateway6):
        if gateway is None or gateway in known or network.l2_domain is None:
            continue
        record = session.store.get(keys.address(network.l2_domain, gateway))
        if record is not None:
            owner = OWNER.loads(record.value).interface
            raise AddressOwned(
                f"Network {network.name}: gateway {gateway} is the address of Interface {owner}: release it there "
                f"(homeport ipam release {gateway}), or name another gateway"
            )


def _save_network(session: Session, network: Network) -> None:
    """Two at once could each find the place of the other free; so each looks again after it wrote, and the one that
    came later goes."""
    networks = session.objects.networks
    saved = networks.save(network)
    rival = same_domain(saved, networks.list())
    if network.meta.revision == 0 and rival is not None and rival.meta.revision < saved.meta.revision:
        networks.delete(saved)
        raise AlreadyExists(f"Network {network.name} has the uplink and VLAN of Network {rival.name}, made meanwhile")


def _tell_left_outside(session: Session, old: Network, new: Network) -> None:
    """What was given out stays with whoever has it, also where a pool was made smaller than that."""
    domain = new.l2_domain
    if domain is None or new.spec.ipam.pools == old.spec.ipam.pools:
        return
    records = {record.key: record for record in session.store.list(keys.addresses_of(domain)).records}
    left = left_outside(old, new, owned_addresses(records.values(), domain))
    if not left:
        return
    own = {interface.key for interface in session.objects.interfaces_on(new.name)}  # a trunk may have the domain too
    owners = {address: OWNER.loads(records[keys.address(domain, address)].value).interface for address in left}
    told = [f"{address} (Interface {owner})" for address, owner in owners.items() if owner in own]
    if told:
        more = f" and {len(told) - NAMED} more" if len(told) > NAMED else ""
        lie = "address in use lies" if len(told) == 1 else "addresses in use lie"
        click.echo(
            f"Warning: network/{new.name}: {len(told)} {lie} outside its pools now, and whoever has one keeps it until "
            f"the Interface is deleted or the address released: {', '.join(told[:NAMED])}{more}",
            err=True,
        )


def _tell(step: Step) -> None:
    value = step.value
    kind = kind_word(value)
    name = f"{value.meta.namespace}/{value.meta.name}" if value.meta.namespace else value.meta.name
    click.echo(f"{kind}/{name} {step.outcome}")
    match value:
        case Network():
            fields = not_enforced(value)
        case VirtualMachine():
            fields = ("spec.interfaces[].default",) if any(each.default for each in value.interfaces) else ()
        case Interface() | NetworkPolicy() | Namespace():
            fields = ()
    if fields:
        click.echo(f"Warning: {kind}/{name}: stored, and without effect in this version: {', '.join(fields)}", err=True)
