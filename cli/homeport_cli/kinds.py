"""Objects by the names users give their kinds: reading them, and the columns they are shown in."""

from collections.abc import Iterable, Sequence

import click

from homeport_api import wire
from homeport_api.errors import NotFound
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.manifest import kind_by_name
from homeport_api.network import Network
from homeport_api.networkpolicy import Namespace, NetworkPolicy
from homeport_api.virtualmachine import VirtualMachine
from homeport_api.wire import KINDS, AnyKind, AnyObject
from homeport_cli.output import Table, age, count
from homeport_cli.session import Session


def _to_kind(context: click.Context, parameter: click.Parameter, word: str) -> AnyKind:
    kind = kind_by_name(word)
    if kind is None:
        known = ", ".join(known.plural for known in KINDS)
        raise click.BadParameter(f"{word!r} is no kind; known are {known}", context, parameter)
    return kind


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for kind in KINDS for name in kind.names if name.startswith(incomplete)]


kind_argument = click.argument("kind", callback=_to_kind, shell_complete=_complete)
"""`networks`, `network`, `net`, …"""


def get_object(session: Session, kind: AnyKind, name: str) -> AnyObject:
    """Raises NotFound, naming what is there instead when it is little."""
    objects, key = session.objects, InterfaceKey(session.settings.namespace, name)
    found: AnyObject | None
    if kind is wire.NETWORK:
        network = objects.networks.find(name)
        found = session.networks_with_status((network,))[0] if network else None
    elif kind is wire.INTERFACE:
        found = objects.interfaces.find(key)
    else:
        found = objects.machines.find(key)
    if found is None:
        where = f" in namespace {key.namespace}" if kind.namespaced else ""
        known = [item.meta.name for item in list_objects(session, kind, key.namespace)]
        instead = f"; there are {', '.join(known)}" if 0 < len(known) <= 10 else ""
        raise NotFound(f"{kind.name} {name} does not exist{where}{instead}")
    return found


def list_objects(session: Session, kind: AnyKind, namespace: str | None) -> Sequence[AnyObject]:
    """Those of one namespace; None: of all."""
    objects = session.objects
    if kind is wire.NETWORK:
        return session.networks_with_status(objects.networks.list())
    if kind is wire.INTERFACE:
        return objects.interfaces_in(namespace)
    return objects.machines_in(namespace)


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


def table(session: Session, kind: AnyKind, items: Sequence[AnyObject], *, namespaces: bool) -> Table:
    """`namespaces`: with a column for them."""
    now = session.clock()
    columns: tuple[str, ...]
    wide: tuple[str, ...]
    rows: list[tuple[str, ...]]
    if kind is wire.NETWORK:
        rows = [_network_row(item, now) for item in items if isinstance(item, Network)]
        return Table(_NETWORK, tuple(rows), frozenset(_NETWORK_WIDE))
    if kind is wire.INTERFACE:
        rows = [_interface_row(item, now) for item in items if isinstance(item, Interface)]
        columns, wide = _INTERFACE, _INTERFACE_WIDE
    else:
        interfaces = session.objects.interfaces_in(None if namespaces else session.settings.namespace)
        rows = [_machine_row(item, interfaces, now) for item in items if isinstance(item, VirtualMachine)]
        columns, wide = _MACHINE, ()
    if namespaces:
        columns = ("NAMESPACE", *columns)
        rows = [(item.meta.namespace, *row) for item, row in zip(items, rows, strict=True)]
    return Table(columns, tuple(rows), frozenset(wide))


_NETWORK = ("NAME", "UPLINK", "VLAN", "READY", "FREE", "IN USE", "AGE", "POOLS", "GATEWAY", "MTU", "CONDITIONS")
_NETWORK_WIDE = ("POOLS", "GATEWAY", "MTU", "CONDITIONS")
_INTERFACE = ("NAME", "NETWORK", "IP", "MAC", "PHASE", "NODE", "AGE", "VM", "INTERFACE", "EPOCH", "CONTAINER")
_INTERFACE_WIDE = ("VM", "INTERFACE", "EPOCH", "CONTAINER")
_MACHINE = ("NAME", "INTERFACES", "IP", "AGE")


def _network_row(network: Network, now: float) -> tuple[str, ...]:
    spec, status = network.spec, network.status
    ready = next((condition.status for condition in status.conditions if condition.type == "Ready"), "")
    others = [condition.type for condition in status.conditions if condition.type != "Ready"]
    return (
        network.name,
        spec.uplink or "",
        _vlan(network),
        ready,
        ", ".join(count(pool.free) for pool in status.pools),
        str(status.in_use),
        _age(network.meta.created, now),
        ", ".join(str(pool.cidr) for pool in spec.ipam.pools),
        _words(spec.gateway4, spec.gateway6),
        str(spec.mtu or ""),
        ", ".join(others),
    )


def _interface_row(interface: Interface, now: float) -> tuple[str, ...]:
    spec, status, holder = interface.spec, interface.status, interface.active_holder
    return (
        interface.meta.name,
        spec.network,
        _words(*(address.ip for address in status.addresses)),
        status.mac or "",
        status.phase.value,
        holder.node if holder else "",
        _age(interface.meta.created, now),
        spec.vm or "",
        spec.interface or "",
        str(status.epoch),
        holder.container_id if holder else "",
    )


def _machine_row(machine: VirtualMachine, interfaces: Iterable[Interface], now: float) -> tuple[str, ...]:
    own = [
        address.ip
        for interface in interfaces
        if (interface.meta.namespace, interface.spec.vm) == (machine.meta.namespace, machine.meta.name)
        for address in interface.status.addresses
    ]
    names = ", ".join(entry.name for entry in machine.interfaces)
    return (machine.meta.name, names, _words(*own), _age(machine.meta.created, now))


def _vlan(network: Network) -> str:
    l2 = network.spec.l2
    if l2.trunk is not None:
        native = f", native {l2.trunk.native_vlan}" if l2.trunk.native_vlan else ""
        return f"trunk {','.join(map(str, l2.trunk.vlans))}{native}"
    if network.isolated:
        return "isolated"
    return str(l2.vlan_id or "untagged")


def _age(created: float, now: float) -> str:
    return age(now - created) if created else ""


def _words(*values: object) -> str:
    return ", ".join(str(value) for value in values if value)
