"""From one NIC of a call to the Interface it means, existing or to be made, and its Network. Pure.

named by the call (interface_object) ──► must exist
index (namespace, VM, interface)     ──► exists
neither                              ──► made, with the first derived name that no other identity has
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from uuid import UUID

from homeport_api.attachment import Identity, NicRequest
from homeport_api.errors import Invalid, NotFound
from homeport_api.interface import Interface, InterfaceKey, InterfaceSpec, InterfaceStatus, interface_names
from homeport_api.meta import ObjectMeta
from homeport_api.names import parse_identity_name, parse_label_name
from homeport_api.network import Network
from homeport_ipam.pool import Randomness
from homeport_ipam.snapshot import Snapshot
from homeport_store import keys


@dataclass(frozen=True, slots=True)
class IndexKey:
    """An index key to be written, with the revision it has now. `lost` is the Interface it points to now, when that is
    not there: it must still not be there when the key is written."""

    key: str
    revision: int
    lost: InterfaceKey | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """`present` is the stored Interface, None for one to be made; `interface` is either. `index` is what to write, None
    for nothing. `vm` and `interface_name` are what its choices are made from."""

    interface: Interface
    present: Interface | None
    network: Network
    vm: str
    interface_name: str
    ephemeral: bool
    index: IndexKey | None = None


def resolve(
    snapshot: Snapshot, request: NicRequest, random: Randomness, now: float, made: Collection[InterfaceKey] = ()
) -> Resolved:
    """`made` are the Interfaces that this call makes for its other NICs: their names are taken. Raises NotFound for a
    named Interface or a Network that does not exist, Invalid for contradictions."""
    if request.interface_object is not None:
        return _named(snapshot, request, request.interface_object)
    who = request.identity
    path = keys.index(who.namespace, who.vm, who.interface)
    pointer = snapshot.pointer(who.namespace, who.vm, who.interface)
    present = snapshot.interface(pointer.interface) if pointer else None
    if present is not None:
        return _existing(snapshot, request, present, None)
    index = IndexKey(path, pointer.revision if pointer else 0, pointer.interface if pointer else None)
    for name in interface_names(who.vm, who.interface):
        key = InterfaceKey(who.namespace, name)
        if key in made:
            continue
        other = snapshot.interface(key)
        if other is None:
            return _new(snapshot, request, key, index, random, now)
        if (other.spec.vm, other.spec.interface) == (who.vm, who.interface):
            return _existing(snapshot, request, other, replace(index, lost=None))
    raise Invalid(
        f"VM {who.namespace}/{who.vm}, interface {who.interface}: the names an Interface could have for it "
        f"({', '.join(interface_names(who.vm, who.interface))}) belong to others: give the interface another name"
    )


def _named(snapshot: Snapshot, request: NicRequest, name: str) -> Resolved:
    """Never ephemeral by this call; its choices follow the VM it was made for, else its own name."""
    key = InterfaceKey(request.identity.namespace, name)
    present = snapshot.interface(key)
    if present is None:
        raise NotFound(f"Interface {key} does not exist: make it first, or name a Network instead")
    vm, interface = present.spec.vm, present.spec.interface
    network = _network_of(snapshot, request, present)
    return Resolved(present, present, network, vm or "", interface or name, ephemeral=False)


def _existing(snapshot: Snapshot, request: NicRequest, present: Interface, index: IndexKey | None) -> Resolved:
    who = request.identity
    if who.ephemeral and not present.status.ephemeral:
        raise Invalid(
            f"{who.namespace}/{who.vm}, interface {who.interface}, has the lasting Interface {present.key}, and this "
            f"container is no VM of Homeport's: name it (interface: {present.meta.name}) if that is what it shall have"
        )
    network = _network_of(snapshot, request, present)
    return Resolved(present, present, network, who.vm, who.interface, who.ephemeral, index)


def _new(
    snapshot: Snapshot, request: NicRequest, key: InterfaceKey, index: IndexKey, random: Randomness, now: float
) -> Resolved:
    who = request.identity
    _check_names(who)
    if request.network is None:
        raise NotFound(f"{_describe(who)} has no Interface yet: name the Network it shall be on")
    network = _network(snapshot, request.network)
    made = Interface(
        ObjectMeta(key.name, key.namespace, str(UUID(int=random.getrandbits(128), version=4)), created=now),
        InterfaceSpec(request.network, vm=who.vm, interface=who.interface),
        InterfaceStatus(ephemeral=who.ephemeral),
    )
    return Resolved(made, None, network, who.vm, who.interface, who.ephemeral, index)


def _check_names(who: Identity) -> None:
    """A record with any other name could be written and never be read again, whoever the caller is."""
    for name, parse, text in (
        ("namespace", parse_label_name, who.namespace),
        ("VM", parse_identity_name, who.vm),
        ("interface", parse_identity_name, who.interface),
    ):
        try:
            parse(text)
        except ValueError as error:
            raise Invalid(f"{name}: {error}") from error


def _network_of(snapshot: Snapshot, request: NicRequest, interface: Interface) -> Network:
    if request.network is not None and request.network != interface.spec.network:
        raise Invalid(
            f"Interface {interface.key} is on Network {interface.spec.network}, the call says {request.network}: name "
            "the same, or delete the Interface first"
        )
    return _network(snapshot, interface.spec.network)


def _network(snapshot: Snapshot, name: str) -> Network:
    network = snapshot.network(name)
    if network is None:
        raise NotFound(f"Network {name} does not exist: apply it first")
    return network


def _describe(who: Identity) -> str:
    return f"VM {who.namespace}/{who.vm}, interface {who.interface},"
