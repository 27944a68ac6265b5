"""Ends of holders and releases of addresses, planned as compare-and-delete of exactly what was judged. Pure.

    end        the holder of one attachment ends; an ephemeral Interface goes with it, any other keeps all it owns
    remove     an Interface goes: its addresses (to rest; learned ones are free at once), MAC and index with it
    give up    an Interface loses addresses and stays

Each release has a journal entry with its reason in the same transaction, but for what a guest takes and drops by
itself, as often as it likes: of that there is a line in the agent's log. What has moved on meanwhile (another holder,
another uid, another owner of the key) is left alone.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from homeport_api import wire
from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.attachment import Attachment, AttachmentKey, Nic, Source
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.network import Network
from homeport_api.owner import Owner, OwnerKind
from homeport_ipam import holders
from homeport_ipam.journal import RELEASE, Release, entry_key
from homeport_ipam.pool import Randomness
from homeport_ipam.snapshot import Snapshot
from homeport_ipam.transaction import Draft, Transaction
from homeport_store import keys

WRITES_A_TRANSACTION, WRITES_A_NIC = 108, 9
"""An ephemeral NIC takes up to nine writes, and one for each address that its guest took: so a call of 24 ends in two
transactions or more. The attachment goes last."""


@dataclass(frozen=True, slots=True)
class EndStep:
    """`ended` are the Interfaces whose holder it ends; `more` says that the attachment needs another step."""

    transaction: Transaction
    ended: tuple[InterfaceKey, ...]
    more: bool


def plan_end(
    snapshot: Snapshot,
    attachment: Attachment,
    epochs: Mapping[InterfaceKey, int] | None,
    reason: str,
    now: float,
    random: Randomness,
) -> EndStep | None:
    """The next step in ending an attachment. `epochs`, where known, are those of the attachment that was ended: NICs of
    a later one of the same key are left alone, and None comes back when there are no others."""
    mine = [nic for nic in attachment.nics if epochs is None or nic.epoch <= epochs.get(nic.interface, -1)]
    if not mine and attachment.nics:
        return None
    now_ending = mine[: _how_many_fit(snapshot, mine)]
    draft = Draft()
    ended = tuple(
        nic.interface for nic in now_ending if _end_nic(snapshot, draft, attachment, nic, reason, now, random)
    )
    left = tuple(nic for nic in attachment.nics if nic not in now_ending)
    key = keys.attachment(attachment.key)
    draft.guard(key, attachment.revision)
    if left:
        draft.put(key, wire.ATTACHMENT.dumps(replace(attachment, nics=left)))
    else:
        draft.delete(key)
    return EndStep(draft.finish(), ended, more=len(mine) > len(now_ending))


def _how_many_fit(snapshot: Snapshot, nics: Sequence[Nic]) -> int:
    writes = 0
    for count, nic in enumerate(nics):
        interface = snapshot.interface(nic.interface)
        writes += WRITES_A_NIC + (len(interface.status.learned) if interface else 0)
        if count and writes > WRITES_A_TRANSACTION:
            return count
    return len(nics)


def find_unrecorded(snapshot: Snapshot, key: AttachmentKey, epochs: Mapping[InterfaceKey, int]) -> Attachment | None:
    """An attachment whose record was lost, as the Interfaces say that it still holds up to these epochs; None where
    they do not."""
    nics: list[Nic] = []
    boot_id = ""
    for each, epoch in epochs.items():
        interface = snapshot.interface(each)
        holder = holders.find_holder(interface.status, key) if interface is not None else None
        if interface is None or holder is None or interface.status.epoch > epoch:
            continue
        boot_id = holder.boot_id
        nics.append(Nic(each, interface.meta.uid, interface.status.epoch, interface.spec.network, holder.ifname))
    return Attachment(key, Source.CNI, boot_id, tuple(nics)) if nics else None


def _end_nic(
    snapshot: Snapshot,
    draft: Draft,
    attachment: Attachment,
    nic: Nic,
    reason: str,
    now: float,
    random: Randomness,
) -> bool:
    """False when the Interface has gone or moved on: then nothing of it is touched."""
    interface = snapshot.interface(nic.interface)
    # Guarded even when left alone: that it has gone or moved on may be nothing but a stale view.
    draft.guard(keys.interface(nic.interface), interface.meta.revision if interface else 0)
    if interface is None or interface.meta.uid != nic.uid:
        return False
    holder = holders.find_holder(interface.status, attachment.key)
    if holder is None or holder.boot_id != attachment.boot_id:
        return False
    status = holders.end(interface.status, attachment.key)
    if status.ephemeral and not status.holders:
        draft_removal(snapshot, draft, interface, reason, now, random)
        return True
    draft.put(keys.interface(interface.key), wire.INTERFACE.stored.dumps(replace(interface, status=status)))
    return True


def draft_removal(
    snapshot: Snapshot, draft: Draft, interface: Interface, reason: str, now: float, random: Randomness
) -> None:
    """The Interface goes with all it owns. Who may do that is decided elsewhere. What is found not to be its own is
    guarded too, or a stale view would leave it behind."""
    draft.guard(keys.interface(interface.key), interface.meta.revision)
    draft.delete(keys.interface(interface.key))
    if interface.spec.vm is not None and interface.spec.interface is not None:
        pointer = snapshot.pointer(interface.meta.namespace, interface.spec.vm, interface.spec.interface)
        path = keys.index(interface.meta.namespace, interface.spec.vm, interface.spec.interface)
        draft.guard(path, pointer.revision if pointer else 0)
        if pointer is not None and pointer.interface == interface.key:
            draft.delete(path)
    network = snapshot.network(interface.spec.network)
    draft.guard(keys.network(interface.spec.network), network.meta.revision if network else 0)
    if network is not None:
        addresses = _drop_addresses(snapshot, draft, interface, network, interface.status.owned)
        _drop_mac(snapshot, draft, interface, network)
        _note(draft, interface, network, addresses, reason, now, random, mac=True)


def draft_surrender(
    snapshot: Snapshot,
    draft: Draft,
    interface: Interface,
    network: Network,
    addresses: Collection[IpAddress],
    reason: str,
    now: float,
    random: Randomness,
) -> Interface:
    """The Interface loses these addresses and stays; it is returned as it will be, and written by the caller."""
    gone = _drop_addresses(snapshot, draft, interface, network, addresses)
    _note(draft, interface, network, gone, reason, now, random, mac=False)
    return _without(interface, addresses)


def draft_eviction(
    snapshot: Snapshot, draft: Draft, interface: Interface, network: Network, address: IpAddress
) -> Interface:
    """The Interface loses an address that its guest took, for another that it takes; as `draft_surrender`, but without
    an entry in the journal, which a guest that changes its addresses all the time would fill."""
    _drop_addresses(snapshot, draft, interface, network, (address,))
    return _without(interface, (address,))


def _without(interface: Interface, addresses: Collection[IpAddress]) -> Interface:
    kept = tuple(address for address in interface.status.addresses if address.ip not in addresses)
    learned = tuple(each for each in interface.status.learned if each.address not in addresses)
    return replace(interface, status=replace(interface.status, addresses=kept, learned=learned))


def draft_mac_surrender(snapshot: Snapshot, draft: Draft, interface: Interface, network: Network) -> Interface:
    """The Interface loses its MAC and stays, as `draft_surrender`."""
    _drop_mac(snapshot, draft, interface, network)
    return replace(interface, status=replace(interface.status, mac=None))


def _drop_addresses(
    snapshot: Snapshot, draft: Draft, interface: Interface, network: Network, addresses: Collection[IpAddress]
) -> tuple[IpAddress, ...]:
    """Deletes the keys that are this Interface's own; returns their addresses."""
    domain = network.l2_domain
    if domain is None:
        return ()
    gone: list[IpAddress] = []
    for address in addresses:
        claim = snapshot.address(domain, address)
        if claim is None or not claim.by(interface.key, interface.meta.uid):
            draft.guard(keys.address(domain, address), claim.revision if claim else 0)
            continue
        draft_key_removal(draft, domain, address, claim.owner, claim.revision)
        gone.append(address)
    return tuple(gone)


def draft_key_removal(draft: Draft, domain: L2Domain, address: IpAddress, owner: Owner, revision: int) -> None:
    """One address key goes, and the address rests in its former owner's name. A learned one does not rest: Homeport
    gives it to nobody, and who comes next comes first."""
    draft.guard(keys.address(domain, address), revision)
    draft.delete(keys.address(domain, address))
    if owner.kind is not OwnerKind.LEARNED:
        draft.rest(keys.rest(domain, address), wire.OWNER.dumps(owner))


def _drop_mac(snapshot: Snapshot, draft: Draft, interface: Interface, network: Network) -> None:
    mac = interface.status.mac
    if mac is None:
        return
    claim = snapshot.macs(network.mac_domain, mac).get(network.mac_scope)
    key = keys.mac(network.mac_domain, mac, network.mac_scope)
    draft.guard(key, claim.revision if claim else 0)
    if claim is not None and claim.by(interface.key, interface.meta.uid):
        draft.delete(key)


def _note(
    draft: Draft,
    interface: Interface,
    network: Network,
    addresses: tuple[IpAddress, ...],
    reason: str,
    now: float,
    random: Randomness,
    *,
    mac: bool,
) -> None:
    entry = Release(
        now,
        interface.key,
        interface.meta.uid,
        network.name,
        reason,
        interface.meta.created,
        network.l2_domain,
        addresses,
        interface.status.mac if mac else None,
    )
    draft.put(entry_key(now, random), RELEASE.dumps(entry))
