"""Who holds an Interface, and its epoch. Pure transitions of `InterfaceStatus`.

                     hold (epoch + 1)                    hold by another, lawfully (epoch + 1)
    no holder ─────────────────────────► active holder ───────────────────────────────────────► active holder
    Reserved  ◄─────────────────────────    Active      ◄─── hold by the same attachment and boot: nothing changes
                     end (same epoch)

The epoch counts active holders: what an agent wired under an older epoch, it mutes. A holder is named by the whole key
of its attachment and the boot it was made in, so the end of one attachment can never end another's. A standby (the
target of a migration) is kept through all of this and never made here.
"""

from dataclasses import replace

from homeport_api.attachment import AttachmentKey
from homeport_api.interface import Holder, InterfaceStatus, Phase, Role


def attachment_of(holder: Holder) -> AttachmentKey:
    return AttachmentKey(holder.node, holder.plugin, holder.cni_name, holder.container_id, holder.ifname)


def holder_for(key: AttachmentKey, boot_id: str, now: float) -> Holder:
    return Holder(key.node, boot_id, key.container_id, key.ifname, Role.ACTIVE, now, key.plugin, key.cni_name)


def find_holder(status: InterfaceStatus, key: AttachmentKey) -> Holder | None:
    """Active or standby; None when the Interface is not held by this attachment."""
    return next((holder for holder in status.holders if attachment_of(holder) == key), None)


def active_holder(status: InterfaceStatus) -> Holder | None:
    return next((holder for holder in status.holders if holder.role is Role.ACTIVE), None)


def why_take_over(
    holder: Holder, node: str, present_boot: str | None, *, port_gone: bool, operator: bool
) -> str | None:
    """Why `node` may take the Interface from `holder`, or None when it may not. `present_boot` is the boot ID that the
    holder's node has now; None when its node is not heard of, which alone proves nothing."""
    if present_boot is not None and present_boot != holder.boot_id:
        return f"node {holder.node} has restarted since"
    if port_gone and holder.node == node:
        return "its port is gone"
    if operator:
        return "taken over by an operator"
    return None


def hold(status: InterfaceStatus, holder: Holder) -> InterfaceStatus:
    """Makes `holder` the active one in place of any other: epoch + 1. Held by it already: nothing changes."""
    present = active_holder(status)
    if present is not None and attachment_of(present) == attachment_of(holder) and present.boot_id == holder.boot_id:
        return status
    others = tuple(h for h in status.holders if h.role is not Role.ACTIVE and attachment_of(h) != attachment_of(holder))
    return _with_holders(replace(status, epoch=status.epoch + 1), (holder, *others))


def end(status: InterfaceStatus, key: AttachmentKey) -> InterfaceStatus:
    """Takes out the holder of exactly this attachment. Not held by it: nothing changes. The epoch stays, for nobody
    new speaks."""
    remaining = tuple(holder for holder in status.holders if attachment_of(holder) != key)
    return status if remaining == status.holders else _with_holders(status, remaining)


def _with_holders(status: InterfaceStatus, holders: tuple[Holder, ...]) -> InterfaceStatus:
    if not any(holder.role is Role.ACTIVE for holder in holders):
        phase = Phase.RESERVED
    else:
        phase = Phase.ACTIVE if len(holders) == 1 else Phase.MIGRATING
    return replace(status, holders=holders, phase=phase)
