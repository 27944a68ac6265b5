"""Allocation as its callers see it: attach, end, reserve, release, reclaim. Shell around the planners.

Each verb is one transaction (`end` of a large attachment and `reclaim`: several), is safe to repeat, and may run at the
same time in any number of threads, agents and controllers: what decides is compared in the store.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from homeport_api import wire
from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.attachment import AttachedNic, Attachment, AttachmentKey, AttachRequest, Nic, Source
from homeport_api.errors import BadInput, InUse, NotFound, Unavailable
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.network import Network
from homeport_api.owner import OwnerKind
from homeport_ipam import holders
from homeport_ipam.commit import Committer, Planner
from homeport_ipam.journal import entry_time
from homeport_ipam.learn import Answer, plan_learn
from homeport_ipam.plan import plan_attach
from homeport_ipam.pool import Randomness
from homeport_ipam.release import draft_key_removal, draft_removal, draft_surrender, find_unrecorded, plan_end
from homeport_ipam.replay import Contradicted, plan_put_back, plan_replay
from homeport_ipam.reserve import plan_reserve
from homeport_ipam.snapshot import Snapshot
from homeport_ipam.transaction import MAX_OPERATIONS, Draft, Transaction
from homeport_ipam.view import View
from homeport_store import keys
from homeport_store.protocol import Delete, Put, Store, Unchanged

log = logging.getLogger(__name__)

T = TypeVar("T")

BARRED_SECONDS = 600.0
"""How long a transaction that was not answered is kept from being applied: far longer than an etcd without a leader
keeps a proposal."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """One step of an `end`: what it ended, and whether the attachment remains for another step."""

    ended: tuple[InterfaceKey, ...] = ()
    more: bool = False


class Allocator:
    """`view` may be fed by a watch or not: without, it answers as right and slower. `clock` gives seconds since the
    epoch."""

    def __init__(
        self,
        store: Store,
        view: View,
        cluster_name: str,
        rest_seconds: float,
        clock: Callable[[], float],
        random: Randomness,
    ) -> None:
        self._store = store
        self._cluster = cluster_name
        self._clock = clock
        self._random = random
        self._committer = Committer(store, view, rest_seconds)
        self._withheld: str | None = None

    def withhold_new(self, reason: str | None) -> None:
        """Until called with None: an attach that would give an address nobody owned raises Unavailable with this
        reason. For the time after a restore, when what is in use is not yet known. Others go on."""
        self._withheld = reason

    def attach(self, request: AttachRequest) -> tuple[AttachedNic, ...]:
        """All NICs of the call, in its order, or none. A repeat answers the same and writes nothing. Raises what
        `plan_attach` does, and Unavailable."""

        def plan(snapshot: Snapshot) -> tuple[Transaction | None, tuple[AttachedNic, ...]]:
            planned = plan_attach(snapshot, request, self._clock(), self._random, self._cluster)
            if planned.new and self._withheld is not None:
                raise Unavailable(f"no new address is given for now: {self._withheld}")
            return planned.transaction, planned.nics

        nics = self._committer.run(plan)
        for one in nics:
            log.info(
                "attached: interface=%s epoch=%d addresses=%s mac=%s attachment=%s",
                *(one.nic.interface, one.nic.epoch, ",".join(map(str, one.nic.addresses)), one.nic.mac, request.key),
            )
        return nics

    def learn(self, nic: Nic, address: IpAddress, neighbours: Sequence[Network], unused: Sequence[IpAddress]) -> Answer:
        """Binds an address that the guest of this NIC takes by itself, or says why not; `plan_learn` has the rules. A
        repeat writes nothing. Raises Unavailable."""

        def plan(snapshot: Snapshot) -> tuple[Transaction | None, Answer]:
            return plan_learn(snapshot, nic, address, neighbours, unused, self._clock())

        return self._committer.run(plan)

    def end(
        self, key: AttachmentKey, reason: str, epochs: Mapping[InterfaceKey, int] | None = None
    ) -> tuple[InterfaceKey, ...]:
        """Ends the holders of exactly this attachment, and names their Interfaces. Ephemeral ones are released with
        it. Frees nothing of an Interface that moved on; an attachment that is not there is no error. With `epochs`
        (those of the attachment that ended), a later attachment of the same key is left alone, and holders end even
        where the attachment's record was lost."""

        def plan(snapshot: Snapshot) -> tuple[Transaction | None, _Ending]:
            attachment = snapshot.attachment(key)
            if attachment is None and epochs:
                attachment = find_unrecorded(snapshot, key, epochs)
            if attachment is None:
                return None, _Ending()
            step = plan_end(snapshot, attachment, epochs, reason, self._clock(), self._random)
            return (None, _Ending()) if step is None else (step.transaction, _Ending(step.ended, step.more))

        ended: list[InterfaceKey] = []
        step = _Ending(more=True)
        while step.more:
            step = self._committer.run(plan)
            ended.extend(step.ended)
        log.info("ended: attachment=%s reason=%s interfaces=%s", key, reason, ",".join(map(str, ended)))
        return tuple(ended)

    def end_unanswered(self, key: AttachmentKey, reason: str) -> tuple[InterfaceKey, ...]:
        """Ends what an attach left whose transaction was not answered, even if the store applies it only after this:
        such a transaction demands that the attachment is absent, so an empty record is put in its place for a while. A
        later attach of the same key takes that record's place."""
        path, record = keys.attachment(key), wire.ATTACHMENT.dumps(Attachment(key, Source.CNI, "", ()))
        if self._store.get(path) is None:
            lease = self._store.lease(BARRED_SECONDS, keep_alive=False)
            if self._store.txn((Unchanged(path, 0),), (Put(path, record, lease.id),)).applied:
                return ()
        return self.end(key, reason)

    def replay(self, attachment: Attachment) -> tuple[str, ...]:
        """Tells a restored store what this node has attached, as its journal has it; the contradictions, in words, and
        what cannot be read. A repeat changes nothing. Raises Unavailable."""
        contradictions: list[str] = []
        for nic in attachment.nics:

            def plan(snapshot: Snapshot, nic: Nic = nic) -> tuple[Transaction | None, None]:
                return plan_replay(snapshot, attachment, nic, self._clock(), self._random), None

            try:
                self._committer.run(plan)
            except Contradicted as error:
                contradictions.append(str(error))
            except BadInput as error:
                contradictions.append(f"what Interface {nic.interface} has here is not told: {error}")
        return tuple(contradictions)

    def put_back(self, attachment: Attachment) -> bool:
        """Records again a living attachment of this node whose record the store lost, for those of its Interfaces that
        it still holds; False when there was nothing to put back. Raises Unavailable."""

        def plan(snapshot: Snapshot) -> tuple[Transaction | None, bool]:
            transaction = plan_put_back(snapshot, attachment)
            return transaction, transaction is not None

        return self._committer.run(plan)

    def reserve(self, written: Interface) -> Interface:
        """Creates or changes an Interface as a manifest says, claims what it asks for and releases what it no longer
        asks for. A repeat changes nothing. It is alive from then on: an earlier `orphan` is taken back."""

        def plan(snapshot: Snapshot) -> tuple[Transaction | None, Interface]:
            planned = plan_reserve(snapshot, written, self._clock(), self._random, self._cluster)
            return planned.transaction, planned.interface

        return self._committer.run(plan)

    def release(self, key: InterfaceKey, reason: str) -> tuple[IpAddress, ...]:
        """Takes all addresses from an Interface, which stays with its MAC and is given others at its next attach.
        Returns them, learned ones too; none is no error. Raises NotFound, and InUse while an active holder uses
        them."""

        def plan(snapshot: Snapshot) -> tuple[Transaction | None, tuple[IpAddress, ...]]:
            interface = _idle(snapshot, key)
            return self._surrender(snapshot, interface, interface.status.owned, reason)

        return self._committer.run(plan)

    def release_address(self, domain: L2Domain, address: IpAddress, reason: str) -> InterfaceKey:
        """Takes one address from its owner, which is returned; a key whose owner does not list it is removed by
        itself. Raises NotFound when nobody owns it, and InUse while an active holder uses it. A learned one may be
        taken from a guest that runs: that is whose it was not to be."""

        def plan(snapshot: Snapshot) -> tuple[Transaction | None, InterfaceKey]:
            claim = snapshot.address(domain, address)
            if claim is None:
                raise NotFound(f"{address} belongs to nobody in L2 domain {domain}")
            owner = claim.owner.interface
            draft = Draft()
            interface = snapshot.interface(owner)
            if interface is not None and interface.meta.uid == claim.owner.uid:
                network = snapshot.network(interface.spec.network)
                if network is not None and network.l2_domain == domain:
                    if claim.owner.kind is not OwnerKind.LEARNED:
                        _require_idle(interface)
                    return self._surrender(snapshot, interface, (address,), reason)[0], owner
                draft.guard(keys.network(interface.spec.network), network.meta.revision if network else 0)
            draft.guard(keys.interface(owner), interface.meta.revision if interface else 0)
            draft_key_removal(draft, domain, address, claim.owner, claim.revision)
            return draft.finish(), owner

        return self._committer.run(plan)

    def delete_interface(self, key: InterfaceKey, reason: str) -> None:
        """The Interface goes with its addresses (to rest), MAC and index. Raises NotFound, and InUse while anything
        holds it."""
        self._committer.run(self._removal(key, reason))

    def withdraw(self, made: Interface, reason: str) -> bool:
        """Deletes the Interface that an attach made and that is given up, as its caller was told of it. One that was
        applied, attached or made anew since stays: False, as for one that is not there. Raises InUse while that attach
        holds it."""

        def plan(snapshot: Snapshot) -> tuple[Transaction | None, bool]:
            interface = snapshot.interface(made.key)
            if interface is None or not _is_as_made(interface, made):
                return None, False
            _require_idle(interface)
            draft = Draft()
            draft_removal(snapshot, draft, interface, reason, self._clock(), self._random)
            return draft.finish(), True

        return self._committer.run(plan)

    def orphan(self, namespace: str, vm: str) -> tuple[InterfaceKey, ...]:
        """Starts `reclaimAfter` for the Interfaces of a VM whose object is gone; a repeat keeps the first time."""
        prefix = keys.index_of(namespace, vm)
        found = [wire.INDEX.loads(record.value) for record in self._store.list(prefix).records]
        return tuple(key for key in found if self._committer.run(self._orphaning(key)))

    def reclaim(self, now: float) -> tuple[InterfaceKey, ...]:
        """Deletes the Interfaces whose VM has been gone for their Network's `reclaimAfter`: never one that is held,
        never where that is Never, and never one that changed while it was judged. One that cannot be read,
        or whose Network or addresses cannot, keeps what it has, and the others from nothing."""
        reclaimed: list[InterfaceKey] = []
        for record in self._store.list(keys.INTERFACES).records:
            try:
                candidate = wire.INTERFACE.stored.loads(record.value, record.mod_revision)
                if candidate.status.orphaned is None or candidate.status.holders:
                    continue
                if self._committer.run(self._reclaiming(candidate.key, now)):
                    reclaimed.append(candidate.key)
            except BadInput as error:
                log.warning("not judged: key=%s error=%s", record.key, error)
        return tuple(reclaimed)

    def trim_journal(self, before: float) -> int:
        """Deletes the journal's entries older than `before`, and says how many. A transaction's worth is read at
        a time: the whole may be larger than what this process may use. What is no entry of ours is left."""
        trimmed = 0
        while True:
            oldest = [record.key for record in self._store.list(keys.JOURNAL, limit=MAX_OPERATIONS).records]
            old = [key for key in oldest if _is_older(key, before)]
            if old:
                self._store.txn((), [Delete(key) for key in old])
            trimmed += len(old)
            if not old or old[-1] != oldest[-1] or len(oldest) < MAX_OPERATIONS:
                return trimmed

    def _surrender(
        self, snapshot: Snapshot, interface: Interface, addresses: tuple[IpAddress, ...], reason: str
    ) -> tuple[Transaction | None, tuple[IpAddress, ...]]:
        network = snapshot.network(interface.spec.network)
        if network is None:
            raise NotFound(
                f"Network {interface.spec.network} does not exist: `homeport ipam fsck` explains what is left"
            )
        if not addresses:
            return None, ()
        draft = Draft()
        after = draft_surrender(snapshot, draft, interface, network, addresses, reason, self._clock(), self._random)
        draft.guard(keys.interface(interface.key), interface.meta.revision)
        draft.put(keys.interface(interface.key), wire.INTERFACE.stored.dumps(after))
        return draft.finish(), addresses

    def _removal(self, key: InterfaceKey, reason: str) -> Planner[None]:
        def plan(snapshot: Snapshot) -> tuple[Transaction | None, None]:
            interface = _idle(snapshot, key)
            draft = Draft()
            draft_removal(snapshot, draft, interface, reason, self._clock(), self._random)
            return draft.finish(), None

        return plan

    def _orphaning(self, key: InterfaceKey) -> Planner[bool]:
        def plan(snapshot: Snapshot) -> tuple[Transaction | None, bool]:
            interface = snapshot.interface(key)
            if interface is None or interface.status.orphaned is not None:
                return None, interface is not None
            after = replace(interface, status=replace(interface.status, orphaned=self._clock()))
            draft = Draft()
            draft.guard(keys.interface(key), interface.meta.revision)
            draft.put(keys.interface(key), wire.INTERFACE.stored.dumps(after))
            return draft.finish(), True

        return plan

    def _reclaiming(self, key: InterfaceKey, now: float) -> Planner[bool]:
        def plan(snapshot: Snapshot) -> tuple[Transaction | None, bool]:
            interface = snapshot.interface(key)
            network = snapshot.network(interface.spec.network) if interface else None
            if interface is None or network is None or not is_due(interface, network.spec.ipam.reclaim_after, now):
                return None, False
            draft = Draft()
            reason = f"its VM has been gone for {network.spec.ipam.reclaim_after:g} s (reclaimAfter)"
            draft_removal(snapshot, draft, interface, reason, now, self._random)
            return draft.finish(), True

        return plan


def is_due(interface: Interface, reclaim_after: float | None, now: float) -> bool:
    """Whether an Interface may be reclaimed: its VM is gone long enough, and nothing holds it."""
    orphaned = interface.status.orphaned
    if orphaned is None or reclaim_after is None or interface.status.holders:
        return False
    return now - orphaned >= reclaim_after


def _is_older(entry: str, before: float) -> bool:
    try:
        return entry_time(entry) < before
    except ValueError:
        return False


def _idle(snapshot: Snapshot, key: InterfaceKey) -> Interface:
    interface = snapshot.interface(key)
    if interface is None:
        raise NotFound(f"Interface {key} does not exist")
    _require_idle(interface)
    return interface


def _require_idle(interface: Interface) -> None:
    holder = holders.active_holder(interface.status)
    if holder is not None:
        raise InUse(f"Interface {interface.key} is held by {holder}: detach it first")


def _is_as_made(interface: Interface, made: Interface) -> bool:
    """Whether it is the same Interface, nobody has written to it and nobody else has held it."""
    return (
        interface.meta.uid == made.meta.uid
        and interface.spec == made.spec
        and (interface.meta.labels, interface.meta.annotations) == (made.meta.labels, made.meta.annotations)
        and interface.status.epoch == made.status.epoch
    )
