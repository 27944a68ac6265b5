"""Objects by the names users give their kinds. The columns they are shown in are in `columns`."""

from collections.abc import Iterator, Sequence

import click

from homeport_api import wire
from homeport_api.errors import BadInput, NotFound
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.manifest import kind_by_name
from homeport_api.network import Network
from homeport_api.networkpolicy import Namespace, NetworkPolicy, PolicyKey, PolicyKind
from homeport_api.virtualmachine import VirtualMachine
from homeport_api.wire import KINDS, AnyKind, AnyObject
from homeport_cli.facts import with_status
from homeport_cli.session import Session
from homeport_store import keys

POLICIES: tuple[AnyKind, ...] = (wire.NETWORK_POLICY, wire.MULTI_NETWORK_POLICY)
_POLICY_WORDS = ("policies", "policy", "pol")


def _to_kinds(context: click.Context, parameter: click.Parameter, word: str) -> tuple[AnyKind, ...]:
    if word.lower() in _POLICY_WORDS:
        return POLICIES
    kind = kind_by_name(word)
    if kind is None:
        known = ", ".join(known.plural for known in KINDS)
        raise click.BadParameter(f"{word!r} is no kind; known are {known}", context, parameter)
    return (kind,)


def _to_kind(context: click.Context, parameter: click.Parameter, word: str) -> AnyKind:
    kinds = _to_kinds(context, parameter, word)
    if len(kinds) == 1:
        return kinds[0]
    names = " or ".join(kind.name.lower() for kind in kinds)
    raise click.BadParameter(f"{word!r} are of two kinds: write {names}", context, parameter)


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for kind in KINDS for name in kind.names if name.startswith(incomplete)]


kind_argument = click.argument("kind", callback=_to_kind, shell_complete=_complete)
"""`networks`, `network`, `net`, …"""
kinds_argument = click.argument("kind", callback=_to_kinds, shell_complete=_complete)
"""The same, as a tuple of one; and `policies`: both kinds of them."""


def get_objects(session: Session, kinds: Sequence[AnyKind], name: str) -> tuple[AnyObject, ...]:
    """Those of the name, at least one. Raises NotFound, naming what is there instead when it is little."""
    key = InterfaceKey(session.settings.namespace, name)
    found = tuple(item for kind in kinds if (item := _find(session, kind, key)) is not None)
    if not found:
        where = f" in namespace {key.namespace}" if kinds[0].namespaced else ""
        known = [item.meta.name for kind in kinds for item in list_objects(session, kind, key.namespace)]
        instead = f"; there are {', '.join(known)}" if 0 < len(known) <= 10 else ""
        raise NotFound(f"{' or '.join(kind.name for kind in kinds)} {name} does not exist{where}{instead}")
    return found


def _find(session: Session, kind: AnyKind, key: InterfaceKey) -> AnyObject | None:
    objects = session.objects
    if kind is wire.NETWORK:
        network = objects.networks.find(key.name)
        return session.networks_with_status((network,))[0] if network else None
    if kind is wire.INTERFACE:
        return objects.interfaces.find(key)
    if kind is wire.VIRTUAL_MACHINE:
        return objects.machines.find(key)
    if kind is wire.NAMESPACE:
        return objects.namespaces.find(key.name)
    policy = objects.policies.find(PolicyKey(key.namespace, PolicyKind(kind.name), key.name))
    return with_status(objects, (policy,))[0] if policy else None


def list_objects(session: Session, kind: AnyKind, namespace: str | None) -> Sequence[AnyObject]:
    """Those of one namespace; None: of all."""
    objects = session.objects
    if kind is wire.NETWORK:
        return session.networks_with_status(objects.networks.list())
    if kind is wire.INTERFACE:
        return objects.interfaces_in(namespace)
    if kind is wire.VIRTUAL_MACHINE:
        return objects.machines_in(namespace)
    if kind is wire.NAMESPACE:
        return objects.namespaces.list()
    return with_status(objects, list(_readable(session, kind, namespace)))


def _readable(session: Session, kind: AnyKind, namespace: str | None) -> Iterator[NetworkPolicy]:
    """Policies of one kind. One that cannot be read is told of, and does not hide the others."""
    policies = session.objects.policies
    for record in session.store.list(keys.POLICIES if namespace is None else keys.policies_of(namespace)).records:
        if keys.split(record.key, keys.POLICIES)[1:2] != (kind.name,):
            continue
        try:
            yield policies.read(record)
        except BadInput as error:
            click.echo(f"Warning: not shown: {error}", err=True)


def kind_word(item: AnyObject) -> str:
    """What its kind is called in messages, as kubectl does it."""
    return (item.kind if isinstance(item, NetworkPolicy) else type(item).__name__).lower()


def show(item: AnyObject) -> dict[str, object]:
    """The object as a manifest."""
    match item:
        case Network():
            return wire.NETWORK.show(item)
        case Interface():
            return wire.INTERFACE.show(item)
        case VirtualMachine():
            return wire.VIRTUAL_MACHINE.show(item)
        case NetworkPolicy():
            return wire.POLICY_KINDS[item.kind].show(item)
        case Namespace():
            return wire.NAMESPACE.show(item)
