"""The columns that each kind of object is shown in."""

from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

from homeport_api import wire
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.meta import Condition
from homeport_api.network import Network
from homeport_api.networkpolicy import Direction, Namespace, NetworkPolicy, PolicyKind
from homeport_api.selector import Operator, Requirement, Selector
from homeport_api.virtualmachine import VirtualMachine
from homeport_api.wire import AnyKind, AnyObject
from homeport_api.workload import Workload
from homeport_cli.output import Form, Table, age, count
from homeport_cli.session import Session
from homeport_cli.workload import key_of, known_as, workload_of_interface, written_port
from homeport_policy.status import ENFORCED


def table(
    session: Session, kinds: Sequence[AnyKind], items: Sequence[AnyObject], form: Form, *, namespaces: bool
) -> Table:
    """`namespaces`: with a column for them. Of several kinds, which are policies: with one for the kind."""
    now = session.clock()
    columns: tuple[str, ...]
    wide: tuple[str, ...] = ()
    workloads: Mapping[InterfaceKey, Workload] = {}
    if form is Form.WIDE and kinds[0] in (wire.INTERFACE, wire.VIRTUAL_MACHINE):
        workloads = {each.key: each for each in session.objects.workloads.list()}
    rows: list[tuple[str, ...]]
    if kinds[0] is wire.NETWORK:
        rows = [_network_row(item, now) for item in items if isinstance(item, Network)]
        columns, wide = _NETWORK, _NETWORK_WIDE
    elif kinds[0] is wire.INTERFACE:
        rows = [_interface_row(item, workloads, now) for item in items if isinstance(item, Interface)]
        columns, wide = _INTERFACE, _INTERFACE_WIDE
    elif kinds[0] is wire.VIRTUAL_MACHINE:
        interfaces = session.objects.interfaces_in(None if namespaces else session.settings.namespace)
        rows = [_machine_row(item, interfaces, workloads, now) for item in items if isinstance(item, VirtualMachine)]
        columns, wide = _MACHINE, _WORKLOAD
    elif kinds[0] is wire.NAMESPACE:
        rows = [_namespace_row(item, now) for item in items if isinstance(item, Namespace)]
        columns = _NAMESPACE
    else:
        policies = [item for item in items if isinstance(item, NetworkPolicy)]
        rows = [_policy_row(item, now) for item in policies]
        columns, wide = _POLICY, _POLICY_WIDE
        if len(kinds) > 1:
            columns = (columns[0], "KIND", *columns[1:])
            rows = [(row[0], item.kind, *row[1:]) for item, row in zip(policies, rows, strict=True)]
    if namespaces:
        columns = ("NAMESPACE", *columns)
        rows = [(item.meta.namespace, *row) for item, row in zip(items, rows, strict=True)]
    return Table(columns, tuple(rows), frozenset(wide))


_NETWORK = ("NAME", "UPLINK", "VLAN", "READY", "FREE", "IN USE", "AGE", "POOLS", "GATEWAY", "MTU", "CONDITIONS")
_NETWORK_WIDE = ("POOLS", "GATEWAY", "MTU", "CONDITIONS")
_WORKLOAD = ("LABELS", "PORTS")
_INTERFACE_WIDE = ("VM", "INTERFACE", "EPOCH", "CONTAINER", *_WORKLOAD)
_INTERFACE = ("NAME", "NETWORK", "IP", "MAC", "PHASE", "NODE", "AGE", *_INTERFACE_WIDE)
_MACHINE = ("NAME", "INTERFACES", "IP", "AGE", *_WORKLOAD)
_POLICY = (
    *("NAME", "POD-SELECTOR", "TYPES", "NETWORKS", "INTERFACES", "ENFORCED", "AGE"),
    *("INGRESS", "EGRESS", "CONDITIONS"),
)
_POLICY_WIDE = ("INGRESS", "EGRESS", "CONDITIONS")
_NAMESPACE = ("NAME", "LABELS", "AGE")


def _network_row(network: Network, now: float) -> tuple[str, ...]:
    spec, status = network.spec, network.status
    return (
        network.name,
        spec.uplink or "",
        _vlan(network),
        _state(status.conditions, "Ready"),
        ", ".join(count(pool.free) for pool in status.pools),
        str(status.in_use),
        _age(network.meta.created, now),
        ", ".join(str(pool.cidr) for pool in spec.ipam.pools),
        _words(spec.gateway4, spec.gateway6),
        str(spec.mtu or ""),
        _others(status.conditions, "Ready"),
    )


def _workload_cells(workload: Workload) -> tuple[str, str]:
    return _labels(workload.labels), ", ".join(map(written_port, workload.ports))


def _interface_row(interface: Interface, workloads: Mapping[InterfaceKey, Workload], now: float) -> tuple[str, ...]:
    spec, status, holder = interface.spec, interface.status, interface.active_holder
    return (
        interface.meta.name,
        spec.network,
        _words(*status.owned),
        status.mac or "",
        status.phase.value,
        holder.node if holder else "",
        _age(interface.meta.created, now),
        spec.vm or "",
        spec.interface or "",
        str(status.epoch),
        holder.container_id if holder else "",
        *_workload_cells(workload_of_interface(interface, workloads.get(key_of(interface)))),
    )


def _machine_row(
    machine: VirtualMachine,
    interfaces: Iterable[Interface],
    workloads: Mapping[InterfaceKey, Workload],
    now: float,
) -> tuple[str, ...]:
    key = InterfaceKey(machine.meta.namespace, machine.meta.name)
    own = [
        address
        for interface in interfaces
        if (interface.meta.namespace, interface.spec.vm) == (machine.meta.namespace, machine.meta.name)
        for address in interface.status.owned
    ]
    names = ", ".join(entry.name for entry in machine.interfaces)
    cells = _workload_cells(known_as(key, workloads.get(key), vm=True))
    return (machine.meta.name, names, _words(*own), _age(machine.meta.created, now), *cells)


def _policy_row(policy: NetworkPolicy, now: float) -> tuple[str, ...]:
    return (
        policy.meta.name,
        _selector(policy.spec.selector),
        ", ".join(direction for direction in Direction if direction in policy.spec.types),
        _networks(policy),
        str(policy.status.interfaces),
        _state(policy.status.conditions, ENFORCED),
        _age(policy.meta.created, now),
        str(len(policy.spec.ingress)),
        str(len(policy.spec.egress)),
        _others(policy.status.conditions, ENFORCED),
    )


def _namespace_row(namespace: Namespace, now: float) -> tuple[str, ...]:
    return (namespace.name, _labels(namespace.meta.labels), _age(namespace.meta.created, now))


def _networks(policy: NetworkPolicy) -> str:
    """Those it names; a NetworkPolicy that names none is for any that takes such ones."""
    if policy.kind is PolicyKind.NETWORK_POLICY and not policy.networks:
        return "*"
    return ", ".join("/".join(filter(None, network)) for network in policy.networks)


def _selector(selector: Selector) -> str:
    """As kubectl writes one, and accepts one."""
    return ",".join(filter(None, (_labels(dict(selector.labels)), *map(_requirement, selector.requirements))))


def _requirement(requirement: Requirement) -> str:
    key, values = requirement.key, ",".join(requirement.values)
    match requirement.operator:
        case Operator.IN:
            return f"{key} in ({values})"
        case Operator.NOT_IN:
            return f"{key} notin ({values})"
        case Operator.EXISTS:
            return key
        case Operator.DOES_NOT_EXIST:
            return f"!{key}"
        case _ as never:
            assert_never(never)


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def _vlan(network: Network) -> str:
    l2 = network.spec.l2
    if l2.trunk is not None:
        native = f", native {l2.trunk.native_vlan}" if l2.trunk.native_vlan else ""
        return f"trunk {','.join(map(str, l2.trunk.vlans))}{native}"
    if network.isolated:
        return "isolated"
    return str(l2.vlan_id or "untagged")


def _state(conditions: Iterable[Condition], kind: str) -> str:
    return next((condition.status for condition in conditions if condition.type == kind), "")


def _others(conditions: Iterable[Condition], kind: str) -> str:
    return ", ".join(condition.type for condition in conditions if condition.type != kind)


def _age(created: float, now: float) -> str:
    return age(now - created) if created else ""


def _words(*values: object) -> str:
    """Four of them, and how many more there are: a guest may have taken sixteen addresses. `describe` has them all."""
    words = [str(value) for value in values if value]
    more = [f"and {len(words) - 4} more"] if len(words) > 4 else []
    return ", ".join(words[:4] + more)
