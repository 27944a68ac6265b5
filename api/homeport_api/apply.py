"""What it takes to make the store say what manifests say. Pure: existing and wanted objects in, steps out.

Nothing of a manifest is applied when one object of it is refused, so everything is judged before the first step.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

from homeport_api.errors import AlreadyExists, Conflict, FieldError, HomeportError, Invalid, NotFound
from homeport_api.interface import Interface, InterfaceKey, InterfaceSpec
from homeport_api.meta import ObjectMeta
from homeport_api.network import Network
from homeport_api.networkpolicy import Namespace, NetworkPolicy, PolicyKey
from homeport_api.validate_interface import interface_changes
from homeport_api.validate_network import network_changes, one_gateway, same_domain
from homeport_api.virtualmachine import VirtualMachine, interfaces_of
from homeport_api.wire import AnyObject

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """What exists, as far as a plan needs it: all Networks and Namespaces, and the Interfaces, VMs and policies of the
    namespaces concerned."""

    networks: Mapping[str, Network]
    interfaces: Mapping[InterfaceKey, Interface]
    machines: Mapping[InterfaceKey, VirtualMachine]
    policies: Mapping[PolicyKey, NetworkPolicy] = field(default_factory=dict)
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)


class Outcome(StrEnum):
    """What a step does, in the words kubectl has for it."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Step:
    """One object as it is to be, with the revision it replaces; 0 when it is new. An Interface's status is kept."""

    outcome: Outcome
    value: AnyObject


def plan_apply(world: World, wanted: Sequence[AnyObject], now: float, new_uid: Callable[[], str]) -> tuple[Step, ...]:
    """The steps in the order to take them: Networks, Namespaces, policies, Interfaces, VMs. A policy comes before whom
    it selects, and may name a Network that does not exist; a VM comes after the Interfaces made of it.

    Raises Invalid for what can never be, Conflict for what is held, AlreadyExists for a place that is taken, NotFound
    for a Network that is missing; with several sorts of errors, Invalid with all of them."""
    plan = _Plan(world, now, new_uid)
    for network in _only(wanted, Network):
        plan.network(network)
    for namespace in _only(wanted, Namespace):
        plan.namespace(namespace)
    for policy in _only(wanted, NetworkPolicy):
        plan.policy(policy)
    for interface in _only(wanted, Interface):
        plan.interface(interface, f"Interface {interface.key}")
    for machine in _only(wanted, VirtualMachine):
        plan.machine(machine)
    plan.raise_refusals()
    return plan.steps()


class _Plan:
    def __init__(self, world: World, now: float, new_uid: Callable[[], str]) -> None:
        self._world = world
        self._networks = dict(world.networks)
        self._interfaces = dict(world.interfaces)
        self._written: dict[tuple[type, object], AnyObject] = {}
        self._now = now
        self._new_uid = new_uid
        self._refusals: list[tuple[type[HomeportError], FieldError]] = []

    def network(self, wanted: Network) -> None:
        where = f"Network {wanted.name}"
        old = self._networks.get(wanted.name)
        if old is not None:
            self._refuse(Invalid, where, network_changes(old, wanted))
        other = same_domain(wanted, self._networks.values())
        if other is not None:
            message = f"is the place of Network {other.name} already: two Networks cannot share an uplink and a VLAN"
            self._refuse(AlreadyExists, where, [FieldError("spec.l2NetworkConfig.vlanID", message)])
        shared = one_gateway(wanted, self._networks.values())
        self._refuse(Invalid, where, (FieldError(f"spec.{error.path}", error.message) for error in shared))
        new = Network(self._meta(old.meta if old else None, wanted.meta), wanted.spec)
        self._networks[new.name] = self._written[Network, new.name] = new

    def namespace(self, wanted: Namespace) -> None:
        old = self._world.namespaces.get(wanted.name)
        new = Namespace(self._meta(old.meta if old else None, wanted.meta))
        self._written[Namespace, new.name] = new

    def policy(self, wanted: NetworkPolicy) -> None:
        old = self._world.policies.get(wanted.key)
        new = replace(wanted, meta=self._meta(old.meta if old else None, wanted.meta))
        self._written[NetworkPolicy, new.key] = new

    def interface(self, wanted: Interface, where: str) -> None:
        self._need_network(wanted.spec.network, where, "spec.networkName")
        old = self._interfaces.get(wanted.key)
        if old is None:
            new = Interface(self._meta(None, wanted.meta), wanted.spec)
        else:
            new = Interface(self._meta(old.meta, wanted.meta), _with_identity(wanted.spec, old.spec), old.status)
            for error in interface_changes(old, new):
                held = error.path in {"spec.ipAddresses", "spec.macAddress"}
                self._refuse(Conflict if held else Invalid, where, [error])
            new = replace(new, status=replace(old.status, orphaned=None))
        self._interfaces[new.key] = self._written[Interface, new.key] = new

    def machine(self, wanted: VirtualMachine) -> None:
        key = InterfaceKey(wanted.meta.namespace, wanted.meta.name)
        where = f"VirtualMachine {key}"
        nearby = [one for one in self._interfaces.values() if one.meta.namespace == key.namespace]
        try:
            interfaces = interfaces_of(wanted, nearby)
        except AlreadyExists as error:
            self._refuse(AlreadyExists, where, [FieldError("spec.interfaces", str(error))])
            return
        for at, interface in enumerate(interfaces):
            self.interface(self._merged(interface), f"{where} spec.interfaces[{at}]")
        old = self._world.machines.get(key)
        self._written[VirtualMachine, key] = VirtualMachine(
            self._meta(old.meta if old else None, wanted.meta), wanted.interfaces, wanted.spec
        )

    def steps(self) -> tuple[Step, ...]:
        """One for each object, also where a VM's manifest and an Interface's own both speak of it."""
        return tuple(Step(self._outcome(value), value) for value in self._written.values())

    def raise_refusals(self) -> None:
        kinds = {kind for kind, _ in self._refusals}
        errors = [error for _, error in self._refusals]
        if kinds == {Invalid} or len(kinds) > 1:
            raise Invalid(errors)
        for kind in kinds:
            raise kind("\n".join(map(str, errors)))

    def _merged(self, made: Interface) -> Interface:
        """What the VM's manifest leaves open stays as the Interface, perhaps a reservation of this name, has it."""
        old = self._interfaces.get(made.key)
        if old is None:
            return made
        addressed = made.spec if made.spec.addresses else old.spec
        spec = replace(
            made.spec,
            addresses=addressed.addresses,
            bare_addresses=addressed.bare_addresses,
            mac=made.spec.mac or old.spec.mac,
            allowed=old.spec.allowed,
            trusted=old.spec.trusted,
        )
        return Interface(old.meta, spec)

    def _outcome(self, value: AnyObject) -> Outcome:
        old: AnyObject | None
        match value:
            case Network():
                old = self._world.networks.get(value.name)
            case Interface():
                old = self._world.interfaces.get(value.key)
            case VirtualMachine():
                old = self._world.machines.get(InterfaceKey(value.meta.namespace, value.meta.name))
            case NetworkPolicy():
                old = self._world.policies.get(value.key)
            case Namespace():
                old = self._world.namespaces.get(value.name)
        if old is None:
            return Outcome.CREATED
        return Outcome.UNCHANGED if old == value else Outcome.CONFIGURED

    def _need_network(self, name: str, where: str, path: str) -> None:
        if name not in self._networks:
            message = f"Network {name} does not exist: apply it first, or together with this"
            self._refuse(NotFound, where, [FieldError(path, message)])

    def _refuse(self, kind: type[HomeportError], where: str, errors: Iterable[FieldError]) -> None:
        self._refusals += [(kind, FieldError(f"{where} {error.path}", error.message)) for error in errors]

    def _meta(self, old: ObjectMeta | None, wanted: ObjectMeta) -> ObjectMeta:
        if old is None:
            return replace(wanted, uid=self._new_uid(), created=self._now, revision=0)
        return replace(old, labels=wanted.labels, annotations=wanted.annotations)


def _only(wanted: Iterable[AnyObject], kind: type[T]) -> Iterator[T]:
    return (one for one in wanted if isinstance(one, kind))


def _with_identity(wanted: InterfaceSpec, old: InterfaceSpec) -> InterfaceSpec:
    """A reservation's manifest may leave open whose it is; once a VM has taken it, applying it again keeps that."""
    return replace(wanted, vm=old.vm, interface=old.interface) if wanted.vm is None else wanted
