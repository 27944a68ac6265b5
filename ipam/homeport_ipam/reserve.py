"""An Interface as a user writes it, before or between attaches: a reservation. Planned; pure.

What its spec asks for is claimed at once, so that nobody is given it meanwhile; what it leaves open is chosen at its
first attach. What the spec asked for before and no longer does is released (to rest, with a journal entry). None of
that changes while an active holder uses it.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from uuid import UUID

from homeport_api import wire
from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.attachment import Identity, NicRequest
from homeport_api.errors import AlreadyExists, Invalid, NotAllowed, NotFound
from homeport_api.interface import AllowedAddress, Interface, InterfaceSpec, InterfaceStatus
from homeport_api.network import Network
from homeport_api.validate_interface import interface_changes
from homeport_ipam.asked import asked_for
from homeport_ipam.choose import Choice, Claimant
from homeport_ipam.pool import Randomness, gateway_of
from homeport_ipam.release import draft_mac_surrender, draft_surrender
from homeport_ipam.snapshot import Snapshot
from homeport_ipam.transaction import Draft, Transaction
from homeport_store import keys

REASON = "the spec asks for it no longer"


@dataclass(frozen=True, slots=True)
class Reservation:
    """`transaction` None: it is so already. `interface` is as it will be."""

    transaction: Transaction | None
    interface: Interface


def plan_reserve(snapshot: Snapshot, written: Interface, now: float, random: Randomness, cluster: str) -> Reservation:
    """`written` is a manifest: its status, uid and revision count for nothing. Raises NotFound without its Network,
    AlreadyExists when its VM's interface has another Interface, Invalid for what may not change, NotAllowed for an
    address that it may not be allowed, and what claiming raises."""
    network = snapshot.network(written.spec.network)
    if network is None:
        raise NotFound(f"Network {written.spec.network} does not exist: apply it first")
    stored = snapshot.interface(written.key)
    before = stored or _made(written, now, random)
    if errors := interface_changes(before, written):
        raise Invalid(errors)
    draft = Draft()
    _check_allowed(snapshot, draft, written, network, stored.spec.allowed if stored else ())
    freed = _release_changed(snapshot, draft, before, written.spec, network, now, random)
    meta = replace(before.meta, labels=written.meta.labels, annotations=written.meta.annotations)
    interface = replace(freed, meta=meta, spec=written.spec)
    name = str(interface.key)
    nic = NicRequest(Identity(written.meta.namespace, "", ""), link="")
    asked = asked_for(interface, nic, name)
    vm, own = interface.spec.vm or "", interface.spec.interface or interface.meta.name
    who = Claimant(interface.key, interface.meta.uid, vm, own)
    choice = Choice(snapshot, random, cluster, draft)
    addresses = choice.addresses(network, who, interface, asked, choose=False)
    given = {address.ip for address in addresses}
    status = replace(
        interface.status,
        addresses=addresses,
        learned=tuple(each for each in interface.status.learned if each.address not in given),
        mac=choice.mac(network, who, interface, asked) if asked.mac or interface.status.mac else None,
        orphaned=None,
    )
    settled = replace(interface, status=status)
    _draft_index(snapshot, draft, settled)
    if settled == stored and draft.empty:
        return Reservation(None, settled)
    draft.guard(keys.interface(settled.key), stored.meta.revision if stored else 0)
    draft.wish(keys.network(network.name), network.meta.revision)
    draft.put(keys.interface(settled.key), wire.INTERFACE.stored.dumps(settled))
    return Reservation(draft.finish(), settled)


def _check_allowed(
    snapshot: Snapshot, draft: Draft, written: Interface, network: Network, before: Collection[AllowedAddress]
) -> None:
    """What it is allowed anew is not the gateway's, unless it is a router, and nobody's in another namespace: those
    would be spoken for by whoever may write in this one."""
    for each in written.spec.allowed:
        if each in before:
            continue
        is_gateway = each.vlan is None and each.address == gateway_of(network, each.address.version)
        if is_gateway and "router" not in written.spec.trusted:
            raise NotAllowed(
                f"Interface {written.key} may not be allowed {each.address}: it is the gateway of Network "
                f"{network.name}, and the guest is not trusted as a router"
            )
        domain = network.l2_domain if each.vlan is None else L2Domain(f"{network.spec.uplink}:{each.vlan}")
        claim = snapshot.address(domain, each.address) if domain is not None else None
        if claim is not None and claim.owner.interface.namespace != written.meta.namespace:
            raise NotAllowed(
                f"Interface {written.key} may not be allowed {each.address}: it belongs to Interface "
                f"{claim.owner.interface}, of another namespace"
            )
        if domain is not None:
            draft.wish(keys.address(domain, each.address), claim.revision if claim else 0)


def _made(written: Interface, now: float, random: Randomness) -> Interface:
    uid = str(UUID(int=random.getrandbits(128), version=4))
    return replace(written, meta=replace(written.meta, uid=uid, created=now, revision=0), status=InterfaceStatus())


def _release_changed(
    snapshot: Snapshot,
    draft: Draft,
    before: Interface,
    spec: InterfaceSpec,
    network: Network,
    now: float,
    random: Randomness,
) -> Interface:
    """Gives up what it owns only because its spec said so, or what its spec now wants otherwise."""
    was, wants = _addresses(before.spec), _addresses(spec)
    stale = [
        owned.ip
        for owned in before.status.addresses
        if owned.ip not in wants and (owned.ip in was or any(ip.version == owned.version for ip in wants))
    ]
    after = before
    if stale:
        after = draft_surrender(snapshot, draft, after, network, stale, REASON, now, random)
    mac = before.status.mac
    if mac is not None and mac != spec.mac and (spec.mac is not None or before.spec.mac == mac):
        after = draft_mac_surrender(snapshot, draft, after, network)
    return after


def _addresses(spec: InterfaceSpec) -> set[IpAddress]:
    return {address.ip for address in spec.addresses} | set(spec.bare_addresses)


def _draft_index(snapshot: Snapshot, draft: Draft, interface: Interface) -> None:
    vm, own = interface.spec.vm, interface.spec.interface
    if vm is None or own is None:
        return
    path = keys.index(interface.meta.namespace, vm, own)
    pointer = snapshot.pointer(interface.meta.namespace, vm, own)
    if pointer is not None and pointer.interface == interface.key:
        return
    if pointer is not None and snapshot.interface(pointer.interface) is not None:
        raise AlreadyExists(
            f"interface {own} of VM {interface.meta.namespace}/{vm} has Interface {pointer.interface} already: change "
            "that one, or delete it first"
        )
    draft.guard(path, pointer.revision if pointer else 0)
    if pointer is not None:
        draft.guard(keys.interface(pointer.interface), 0)
    draft.put(path, wire.INDEX.dumps(interface.key))
