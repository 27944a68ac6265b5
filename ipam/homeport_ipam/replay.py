"""What a node has on the wire, told to a store that was restored from before it. Planned; pure.

The node's journal says what is attached here, and the kernel bears it out; the store may know less (the attachment is
younger than the snapshot), something older (another epoch, another holder), or something contrary:

    the store says                                          then
    nothing of the Interface, address, MAC                  they are put back as the journal has them
    an older epoch or holder of the same Interface          this attachment holds it, at the higher epoch
    another object under the Interface's name, unheld       it gives way: what runs is younger than what was saved
    the address or MAC belongs to an unheld Interface       it loses it, with a journal entry
    any of these, held elsewhere                            a conflict: nothing is taken from what runs elsewhere

Without a restore the store is right in all of this, and only a record that was lost is put back (`plan_put_back`).
"""

from dataclasses import dataclass, field, replace

from homeport_api import wire
from homeport_api.addresses import IpInterface, L2Domain
from homeport_api.attachment import Attachment, Nic
from homeport_api.errors import HomeportError
from homeport_api.interface import Interface, InterfaceKey, InterfaceSpec
from homeport_api.meta import ObjectMeta
from homeport_api.network import Network
from homeport_api.owner import Owner, OwnerKind
from homeport_ipam import holders
from homeport_ipam.pool import Randomness
from homeport_ipam.release import draft_mac_surrender, draft_removal, draft_surrender
from homeport_ipam.snapshot import Claim, Snapshot
from homeport_ipam.transaction import Draft, Transaction
from homeport_store import keys

REASON = "another Interface was found using it when the store had been restored"


class Contradicted(HomeportError):
    """The restored store says that something else, which is held, owns what runs here. The text says what."""


@dataclass(frozen=True, slots=True)
class _Replay:
    snapshot: Snapshot
    attachment: Attachment
    nic: Nic
    network: Network
    now: float
    random: Randomness
    draft: Draft
    losers: dict[InterfaceKey, Interface] = field(default_factory=dict)
    """What each Interface that loses something has left: it may lose more, and one write says all of it."""


def plan_replay(
    snapshot: Snapshot, attachment: Attachment, nic: Nic, now: float, random: Randomness
) -> Transaction | None:
    """What puts one NIC of a living attachment back; None when the store knows it as it is. Raises Contradicted, and
    NotFound's parent HomeportError when the Network itself is missing (apply it, then replay again)."""
    network = snapshot.network(nic.network)
    if network is None:
        raise Contradicted(f"Network {nic.network} of Interface {nic.interface} is not in the restored store: apply it")
    replay = _Replay(snapshot, attachment, nic, network, now, random, Draft())
    interface = _interface(replay)
    addresses = tuple(address for address in nic.addresses if _claim_address(replay, address))
    if nic.mac is not None:
        _claim_mac(replay)
    _put_interface(replay, interface, addresses)
    _put_attachment(replay)
    return None if replay.draft.empty else replay.draft.finish()


def plan_put_back(snapshot: Snapshot, attachment: Attachment) -> Transaction | None:
    """Puts a living attachment's record back, or the NICs that it lost, where the Interface still has this attachment
    as its holder, in the same boot and epoch; None when there is no such NIC."""
    stored = snapshot.attachment(attachment.key)
    if stored is not None and stored.boot_id != attachment.boot_id:
        return None
    present = stored.nics if stored else ()
    draft = Draft()
    lost: list[Nic] = []
    for nic in attachment.nics:
        interface = snapshot.interface(nic.interface)
        if nic in present or interface is None or not _holds(interface, nic, attachment):
            continue
        draft.guard(keys.interface(nic.interface), interface.meta.revision)
        lost.append(nic)
    if not lost:
        return None
    path = keys.attachment(attachment.key)
    draft.guard(path, stored.revision if stored else 0)
    draft.put(path, wire.ATTACHMENT.dumps(replace(attachment, nics=(*present, *lost))))
    return draft.finish()


def _holds(interface: Interface, nic: Nic, attachment: Attachment) -> bool:
    holder = holders.find_holder(interface.status, attachment.key)
    same = (interface.meta.uid, interface.status.epoch) == (nic.uid, nic.epoch)
    return same and holder is not None and holder.boot_id == attachment.boot_id


def _interface(replay: _Replay) -> Interface | None:
    """The stored Interface with this NIC's uid; None when it has to be made. One of another uid gives way if unheld."""
    found = replay.snapshot.interface(replay.nic.interface)
    if found is None or found.meta.uid == replay.nic.uid:
        return found
    _require_unheld(replay, found, f"the name {replay.nic.interface}")
    draft_removal(replay.snapshot, replay.draft, found, REASON, replay.now, replay.random)
    return None


def _claim_address(replay: _Replay, address: IpInterface) -> bool:
    """True when the address is, or is now, this NIC's. A trunk without native VLAN owns none."""
    domain = replay.network.l2_domain
    if domain is None:
        return False
    claim = replay.snapshot.address(domain, address.ip)
    key = keys.address(domain, address.ip)
    if claim is not None and claim.by(replay.nic.interface, replay.nic.uid):
        return True
    if claim is not None:
        _dispossess_address(replay, domain, address, claim)
    replay.draft.guard(key, claim.revision if claim else 0)
    replay.draft.put(key, wire.OWNER.dumps(_owner(replay.nic)))
    return True


def _dispossess_address(replay: _Replay, domain: L2Domain, address: IpInterface, claim: Claim) -> None:
    other = _loser(replay, claim)
    if other is None:
        return
    _require_unheld(replay, other, f"address {address.ip} in {domain}")
    network = replay.snapshot.network(other.spec.network)
    if network is None:
        return
    after = draft_surrender(
        replay.snapshot, replay.draft, other, network, (address.ip,), REASON, replay.now, replay.random
    )
    _put_loser(replay, after)


def _loser(replay: _Replay, claim: Claim) -> Interface | None:
    """The living Interface that what is claimed belongs to, when it is not this NIC's own."""
    key = claim.owner.interface
    other = replay.losers.get(key) or replay.snapshot.interface(key)
    return None if other is None or other.meta.uid != claim.owner.uid or key == replay.nic.interface else other


def _put_loser(replay: _Replay, after: Interface) -> None:
    replay.losers[after.key] = after
    replay.draft.guard(keys.interface(after.key), after.meta.revision)
    replay.draft.put(keys.interface(after.key), wire.INTERFACE.stored.dumps(after))


def _claim_mac(replay: _Replay) -> None:
    nic, network = replay.nic, replay.network
    assert nic.mac is not None
    claim = replay.snapshot.macs(network.mac_domain, nic.mac).get(network.mac_scope)
    key = keys.mac(network.mac_domain, nic.mac, network.mac_scope)
    if claim is not None and claim.by(nic.interface, nic.uid):
        return
    if claim is not None:
        other = _loser(replay, claim)
        if other is not None:
            _require_unheld(replay, other, f"MAC {nic.mac}")
            _put_loser(replay, draft_mac_surrender(replay.snapshot, replay.draft, other, network))
    replay.draft.guard(key, claim.revision if claim else 0)
    replay.draft.put(key, wire.OWNER.dumps(_owner(nic)))


def _put_interface(replay: _Replay, found: Interface | None, addresses: tuple[IpInterface, ...]) -> None:
    nic, key = replay.nic, replay.attachment.key
    holder = holders.holder_for(key, replay.attachment.boot_id, replay.attachment.since or replay.now)
    if found is None:
        meta = ObjectMeta(nic.interface.name, nic.interface.namespace, nic.uid, created=replay.now)
        interface = Interface(meta, InterfaceSpec(nic.network, vm=nic.vm, interface=nic.vm_interface))
        stored = replay.snapshot.interface(nic.interface)
        revision = stored.meta.revision if stored else 0
    else:
        present = holders.active_holder(found.status)
        if present is not None and holders.attachment_of(present) != key and found.status.epoch >= nic.epoch:
            _require_unheld(replay, found, f"Interface {nic.interface}")
        interface, revision = found, found.meta.revision
    status = replace(
        holders.hold(replace(interface.status, holders=()), holder)
        if holders.find_holder(interface.status, key) is None
        else interface.status,
        epoch=max(nic.epoch, interface.status.epoch),
        addresses=addresses,
        mac=nic.mac or interface.status.mac,
        gateway4=replay.network.spec.gateway4,
        gateway6=replay.network.spec.gateway6,
        routes=replay.network.spec.routes,
        dns=replay.network.spec.dns,
        ephemeral=nic.ephemeral,
        orphaned=None,
    )
    if found is not None and status == found.status:
        return
    path = keys.interface(nic.interface)
    replay.draft.guard(path, revision)
    replay.draft.put(path, wire.INTERFACE.stored.dumps(replace(interface, status=status)))
    if nic.vm is not None and nic.vm_interface is not None:
        pointer = replay.snapshot.pointer(nic.interface.namespace, nic.vm, nic.vm_interface)
        index = keys.index(nic.interface.namespace, nic.vm, nic.vm_interface)
        replay.draft.guard(index, pointer.revision if pointer else 0)
        replay.draft.put(index, wire.INDEX.dumps(nic.interface))


def _put_attachment(replay: _Replay) -> None:
    """The record names at least this NIC; others of the same attachment are added as they are replayed."""
    attachment, nic = replay.attachment, replay.nic
    stored = replay.snapshot.attachment(attachment.key)
    if stored is not None and stored.boot_id == attachment.boot_id and nic in stored.nics:
        return
    others = tuple(each for each in (stored.nics if stored else ()) if each.interface != nic.interface)
    path = keys.attachment(attachment.key)
    replay.draft.guard(path, stored.revision if stored else 0)
    replay.draft.put(path, wire.ATTACHMENT.dumps(replace(attachment, nics=(*others, nic))))


def _require_unheld(replay: _Replay, other: Interface, what: str) -> None:
    """What the snapshot calls held by this very node is not, unless the node's journal replays it too."""
    holder = holders.active_holder(other.status)
    if holder is not None and holder.node != replay.attachment.key.node:
        raise Contradicted(
            f"{what} is in use here by Interface {replay.nic.interface}, and the restored store gives it to Interface "
            f"{other.key}, held by {holder}: detach one of the two"
        )


def _owner(nic: Nic) -> Owner:
    return Owner(nic.interface, nic.uid, OwnerKind.CHOSEN)
