"""An attach, planned: (snapshot, request, now, randomness, cluster) → one transaction over all NICs or a refusal. Pure.

    resolve        identity → Interface: named by the call, else by the index, else made (`resolve.py`)
    ask            Interface.spec and call, as one (`asked.py`); namespace admitted (`admission.py`)
    hold           held by another: refused, unless the take-over is lawful (`holders.py`); epoch + 1
    choose         addresses and MAC (`choose.py`)
    write          the Interface, its index, the attachment

A repeat for the same attachment, with the same NICs, on the same boot, writes nothing and answers the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from homeport_api import wire
from homeport_api.addresses import IpAddress
from homeport_api.attachment import (
    AttachedNic,
    Attachment,
    AttachmentKey,
    AttachRequest,
    Identity,
    Nic,
    NicRequest,
    Source,
)
from homeport_api.errors import Held, Invalid
from homeport_api.interface import Holder, Interface, InterfaceKey, InterfaceStatus
from homeport_api.network import Network
from homeport_ipam import holders
from homeport_ipam.admission import check_namespace
from homeport_ipam.asked import asked_for
from homeport_ipam.choose import Choice, Claimant
from homeport_ipam.learn import draft_outgrown
from homeport_ipam.pool import Randomness
from homeport_ipam.resolve import Resolved, resolve
from homeport_ipam.snapshot import Snapshot
from homeport_ipam.transaction import Draft, Transaction
from homeport_store import keys

MAX_NICS = 24


@dataclass(frozen=True, slots=True)
class Plan:
    """`transaction` None: everything is so already. `nics` is the answer once it has been applied, in the order of
    the request; `new` are the addresses among them that nobody owned before."""

    transaction: Transaction | None
    nics: tuple[AttachedNic, ...]
    new: tuple[IpAddress, ...] = ()


def plan_attach(snapshot: Snapshot, request: AttachRequest, now: float, random: Randomness, cluster: str) -> Plan:
    """Raises Exhausted, Held, AddressOwned, MacInUse, NotAllowed, NotFound or Invalid (`homeport_api.errors`)."""
    _check_call(request)
    return _Call(snapshot, request, now, random, cluster).plan()


class _Call:
    """The planning of one request: the draft, and what its NICs have to know of one another."""

    def __init__(
        self, snapshot: Snapshot, request: AttachRequest, now: float, random: Randomness, cluster: str
    ) -> None:
        self._snapshot = snapshot
        self._request = request
        self._now = now
        self._random = random
        self._draft = Draft()
        self._choice = Choice(snapshot, random, cluster, self._draft)
        self._record = snapshot.attachment(request.key)
        self._shrunk: dict[AttachmentKey, tuple[Nic, ...]] = {}

    def plan(self) -> Plan:
        resolved: list[Resolved] = []
        for nic in self._request.nics:
            made = {one.interface.key for one in resolved if one.present is None}
            resolved.append(resolve(self._snapshot, nic, self._random, self._now, made))
        _check_apart(resolved)
        self._check_record(resolved)
        nics = tuple(self._nic(one, nic) for one, nic in zip(resolved, self._request.nics, strict=True))
        if self._repeats(nics):
            return Plan(None, self._as_recorded(nics))
        self._write_attachment(nics)
        return Plan(self._draft.finish(), nics, tuple(self._choice.new))

    def _nic(self, resolved: Resolved, request: NicRequest) -> AttachedNic:
        network, interface, present = resolved.network, resolved.interface, resolved.present
        if not request.admin:
            check_namespace(network, interface.key.namespace)
        if network.external_dhcp and not request.wants_mac:
            raise Invalid(
                f"Network {network.name}: its addresses come from a DHCP server outside, so homeport-ipam has none to "
                "give: attach with type homeport"
            )
        asked = asked_for(present, request, str(interface.key))
        held = self._hold(interface, request)
        if present is not None and held == present.status:
            return self._answer(interface, network, request)
        who = Claimant(interface.key, interface.meta.uid, resolved.vm, resolved.interface_name)
        given = replace(held, addresses=self._choice.addresses(network, who, present, asked))
        interface = draft_outgrown(
            self._snapshot, self._draft, replace(interface, status=given), network, self._now, self._random
        )
        status = replace(
            interface.status,
            mac=self._choice.mac(network, who, present, asked) if request.wants_mac else held.mac,
            gateway4=network.spec.gateway4,
            gateway6=network.spec.gateway6,
            routes=network.spec.routes,
            dns=network.spec.dns,
            pod=self._request.pod,
            ephemeral=resolved.ephemeral,
            orphaned=None,
        )
        settled = replace(interface, status=status)
        self._write_interface(resolved, settled, network)
        return self._answer(settled, network, request)

    def _hold(self, interface: Interface, request: NicRequest) -> InterfaceStatus:
        """The status with this call's holder. Raises Held (or Invalid for a NIC of the same container)."""
        call = self._request
        present = holders.active_holder(interface.status)
        mine = holders.holder_for(call.key, call.boot_id, self._now)
        if present is None:
            return holders.hold(interface.status, mine)
        port_gone = (interface.key, interface.status.epoch) in call.gone_ports
        if holders.attachment_of(present) == call.key and present.boot_id == call.boot_id:
            moved = self._record is not None and any(
                nic.interface == interface.key and nic.link != request.link for nic in self._record.nics
            )
            if not moved:
                return interface.status
            if not (port_gone or call.take_over):
                raise Held(_held(interface, present))
            return holders.hold(holders.end(interface.status, call.key), mine)
        boot = call.boot_id if present.node == call.key.node else self._snapshot.boot_id(present.node)
        why = holders.why_take_over(present, call.key.node, boot, port_gone=port_gone, operator=call.take_over)
        if why is None:
            raise self._refusal(interface, present)
        self._shrink_attachment(interface, present)
        return holders.hold(interface.status, mine)

    def _refusal(self, interface: Interface, present: Holder) -> Held | Invalid:
        key = self._request.key
        same_container = (present.node, present.container_id) == (key.node, key.container_id)
        if same_container and present.ifname != key.ifname and self._request.source is Source.CNI:
            return Invalid(
                f"two NICs of one VM on Network {interface.spec.network} need names of their own: {present.ifname} and "
                f"{key.ifname} both mean Interface {interface.key}; say `interface` for each"
            )
        return Held(_held(interface, present))

    def _shrink_attachment(self, interface: Interface, holder: Holder) -> None:
        """Takes the Interface out of the record of the attachment it is taken over from; an empty record goes."""
        key = holders.attachment_of(holder)
        if key == self._request.key:
            return  # this very key, of an earlier boot: the record is written anew anyhow
        record = self._snapshot.attachment(key)
        if record is None:
            self._draft.guard(keys.attachment(key), 0)
            return
        left = tuple(nic for nic in self._shrunk.get(key, record.nics) if nic.interface != interface.key)
        self._shrunk[key] = left
        self._draft.guard(keys.attachment(key), record.revision)
        if left:
            self._draft.put(keys.attachment(key), wire.ATTACHMENT.dumps(replace(record, nics=left)))
        else:
            self._draft.delete(keys.attachment(key))

    def _write_interface(self, resolved: Resolved, settled: Interface, network: Network) -> None:
        self._draft.guard(keys.interface(settled.key), resolved.present.meta.revision if resolved.present else 0)
        self._draft.wish(keys.network(network.name), network.meta.revision)
        self._draft.put(keys.interface(settled.key), wire.INTERFACE.stored.dumps(settled))
        if resolved.index is not None:
            self._draft.guard(resolved.index.key, resolved.index.revision)
            self._draft.put(resolved.index.key, wire.INDEX.dumps(settled.key))
            if resolved.index.lost is not None:
                self._draft.guard(keys.interface(resolved.index.lost), 0)

    def _answer(self, interface: Interface, network: Network, request: NicRequest) -> AttachedNic:
        addresses = () if network.external_dhcp else interface.status.addresses
        nic = Nic(
            interface.key,
            interface.meta.uid,
            interface.status.epoch,
            network.name,
            request.link,
            kind=request.kind,
            mac=interface.status.mac if request.wants_mac else None,
            addresses=addresses,
            vm=interface.spec.vm,
            vm_interface=interface.spec.interface,
            ephemeral=interface.status.ephemeral,
        )
        return AttachedNic(nic, interface, network)

    def _check_record(self, resolved: Sequence[Resolved]) -> None:
        """Held, when this attachment exists and holds an Interface that the call does not name."""
        if self._record is None:
            return
        named = {one.interface.key for one in resolved}
        for nic in self._record.nics:
            if nic.interface in named:
                continue
            other = self._snapshot.interface(nic.interface)
            self._draft.guard(keys.interface(nic.interface), other.meta.revision if other else 0)
            holder = holders.find_holder(other.status, self._record.key) if other else None
            if other is not None and holder is not None and holder.boot_id == self._request.boot_id:
                raise Held(
                    f"attachment {self._record.key} exists and holds Interface {nic.interface}, which this call does "
                    "not name: detach it (DEL) before it is attached otherwise"
                )

    def _repeats(self, nics: tuple[AttachedNic, ...]) -> bool:
        """Nothing was drafted and the record says the same, whatever port the agent noted in it."""
        record = self._record
        if record is None or not self._draft.empty or record.boot_id != self._request.boot_id:
            return False
        return tuple(replace(nic, port="") for nic in record.nics) == tuple(nic.nic for nic in nics)

    def _as_recorded(self, nics: tuple[AttachedNic, ...]) -> tuple[AttachedNic, ...]:
        assert self._record is not None
        return tuple(replace(one, nic=nic) for one, nic in zip(nics, self._record.nics, strict=True))

    def _write_attachment(self, nics: tuple[AttachedNic, ...]) -> None:
        call = self._request
        record = Attachment(call.key, call.source, call.boot_id, tuple(one.nic for one in nics), call.netns, self._now)
        key = keys.attachment(call.key)
        self._draft.guard(key, self._record.revision if self._record else 0)
        self._draft.put(key, wire.ATTACHMENT.dumps(record))


def _check_call(request: AttachRequest) -> None:
    if not 1 <= len(request.nics) <= MAX_NICS:
        raise Invalid(f"one call attaches 1 to {MAX_NICS} NICs, not {len(request.nics)}: split it")
    links: set[str] = set()
    identities: set[Identity] = set()
    for nic in request.nics:
        if nic.link in links:
            raise Invalid(f"two NICs of one call have the link name {nic.link}: give each its own interfaceName")
        links.add(nic.link)
        if nic.interface_object is None and nic.identity in identities:
            raise Invalid(
                f"two NICs of VM {nic.identity.namespace}/{nic.identity.vm} are both interface "
                f"{nic.identity.interface} on Network {nic.network}: two NICs of one VM on one Network need names of "
                "their own (interfaceName)"
            )
        identities.add(nic.identity)


def _check_apart(resolved: Sequence[Resolved]) -> None:
    """Two NICs of one call that are one Interface: one named twice, or once by itself and once by its identity."""
    seen: set[InterfaceKey] = set()
    for one in resolved:
        if one.interface.key in seen:
            raise Invalid(
                f"two NICs of one call mean Interface {one.interface.key}: an Interface is one NIC; name another"
            )
        seen.add(one.interface.key)


def _held(interface: Interface, holder: Holder) -> str:
    return (
        f"Interface {interface.key} is held by {holder}: end that attachment first; if its guest is known to be gone, "
        "attach with --take-over"
    )
