"""What is wrong in the store's records, with evidence and, where it is safe, a repair. Judgement is pure.

    leaked      owned by nobody that is there: a key whose Interface is gone or does not list it, an ephemeral Interface
                that nobody holds
    orphaned    pointing at what is not there: an Interface without its keys, an index entry, attachment or holder
                without its other half
    doubled     two that claim one: an address, a MAC, a VM's interface; or one that owns two of a family
    unreadable  bytes that this version cannot read

`judge` looks at one listing of everything at one revision, so a transaction in flight is never half seen. A repair
compares every record it was judged by and deletes or re-asserts exactly what was judged: what has changed since is
left alone. An address that a running guest may be using is never taken from it; the finding says what to do instead.
It may run while its node is heard of in the boot that a holder or an attachment names, whatever other record is lost.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_address
from typing import TypeVar

from homeport_api import wire
from homeport_api.addresses import L2Domain, MacAddress, MacDomain
from homeport_api.attachment import Attachment, AttachmentKey, Nic
from homeport_api.errors import BadInput
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.network import Network
from homeport_api.owner import Owner, OwnerKind
from homeport_ipam import holders
from homeport_ipam.journal import RELEASE, Release, entry_key
from homeport_ipam.pool import Randomness
from homeport_ipam.release import draft_key_removal, draft_removal
from homeport_ipam.transaction import Draft, Transaction
from homeport_ipam.view import View
from homeport_store import keys
from homeport_store.protocol import Listing, Put, Record, Store

T = TypeVar("T")

REASON = "fsck"


class Wrong(StrEnum):
    LEAKED = "leaked"
    ORPHANED = "orphaned"
    DOUBLED = "doubled"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """`explanation` says what is wrong and what to do; `evidence` are the records it was judged by, as `key@revision`
    (0: absent). `repair` None: a human has to decide."""

    wrong: Wrong
    key: str
    explanation: str
    evidence: tuple[str, ...]
    repair: Transaction | None = None


def judge(listing: Listing, now: float, random: Randomness) -> tuple[Finding, ...]:
    """All findings in a listing of `keys.PREFIX`, sorted by key. Changes nothing."""
    return tuple(sorted(_Judge(listing, now, random).findings(), key=lambda finding: finding.key))


def repair(store: Store, finding: Finding, rest_seconds: float) -> bool:
    """Applies the repair of exactly what was judged; False when it has none, or something changed since: judge again.
    Raises Unavailable."""
    if finding.repair is None:
        return False
    writes = finding.repair.writes
    if finding.repair.rests and rest_seconds > 0:
        lease = store.lease(rest_seconds, keep_alive=False).id
        writes += tuple(Put(rest.key, rest.value, lease) for rest in finding.repair.rests)
    return store.txn(finding.repair.preconditions, writes).applied


class _Judge:
    def __init__(self, listing: Listing, now: float, random: Randomness) -> None:
        self._listing = listing
        self._now = now
        self._random = random
        self._unreadable: list[Finding] = []
        self._revisions = {record.key: record.mod_revision for record in listing.records}
        self._networks = {n.name: n for n in self._read(keys.NETWORKS, wire.NETWORK.stored)}
        self._interfaces = {i.key: i for i in self._read(keys.INTERFACES, wire.INTERFACE.stored)}
        self._attachments = {a.key: a for a in self._read(keys.ATTACHMENTS, wire.ATTACHMENT)}
        self._boots = {node.name: node.boot_id for node in self._read(keys.NODES, wire.NODE)}
        self._owners = dict(self._read_owners())
        self._index = {
            record.key: key for record in self._under(keys.INDEX) if (key := self._load(record, wire.INDEX)) is not None
        }
        self._running: dict[tuple[InterfaceKey, str], list[tuple[Attachment, Nic]]] = {}
        for attachment in self._attachments.values():
            if self._runs(attachment.key.node, attachment.boot_id):
                for nic in attachment.nics:
                    self._running.setdefault((nic.interface, nic.uid), []).append((attachment, nic))
        self._listed_by: dict[str, list[InterfaceKey]] = {}
        for interface in self._interfaces.values():
            for path in self._keys_of(interface):
                self._listed_by.setdefault(path, []).append(interface.key)

    def findings(self) -> Iterator[Finding]:
        yield from self._unreadable
        for interface in self._interfaces.values():
            network = self._networks.get(interface.spec.network)
            yield from self._judge_families(interface)
            if network is not None:
                yield from self._judge_addresses(interface, network)
                yield from self._judge_mac(interface, network)
            yield from self._judge_index_of(interface)
            yield from self._judge_holders(interface)
        for key, owner in self._owners.items():
            yield from self._judge_key(key, owner)
        for key, target in self._index.items():
            yield from self._judge_index(key, target)
        for attachment in self._attachments.values():
            yield from self._judge_attachment(attachment)

    # Keys of addresses and MACs

    def _judge_key(self, key: str, owner: Owner) -> Iterator[Finding]:
        interface = self._interfaces.get(owner.interface)
        path = keys.interface(owner.interface)
        if path in self._revisions and interface is None:
            return  # unreadable, and said so: nothing can be known of what it lists
        if interface is not None and interface.meta.uid == owner.uid and self._lists(interface, key):
            return
        if self._claimants(key):
            return  # found from there
        if interface is None:
            why = f"Interface {owner.interface} does not exist"
        elif interface.meta.uid != owner.uid:
            why = f"Interface {owner.interface} is another one of that name (uid {interface.meta.uid}, not {owner.uid})"
        else:
            why = f"Interface {owner.interface} does not list it"
        said = f"owned by {owner.interface}, but {why}"
        for attachment, nic in self._running.get((owner.interface, owner.uid), ()):
            if _uses(nic, key):
                said += f", and attachment {attachment.key}, whose guest may run, uses it: detach that, then repair"
                yield self._finding(Wrong.LEAKED, key, said, None, path, keys.attachment(attachment.key))
                return
        draft = Draft()
        draft.guard(path, self._revision(path))
        entry = Release(self._now, owner.interface, owner.uid, interface.spec.network if interface else "", REASON)
        if key.startswith(keys.ADDRESSES):
            name, text = keys.split(key, keys.ADDRESSES)
            address = ip_address(text)
            draft_key_removal(draft, L2Domain(name), address, owner, self._revision(key))
            entry = replace(entry, domain=L2Domain(name), addresses=(address,))
        else:
            draft.guard(key, self._revision(key))
            draft.delete(key)
            entry = replace(entry, mac=MacAddress(keys.split(key, keys.MACS)[1]))
        draft.put(entry_key(self._now, self._random), RELEASE.dumps(entry))
        yield self._finding(Wrong.LEAKED, key, said, draft, path)

    def _judge_addresses(self, interface: Interface, network: Network) -> Iterator[Finding]:
        domain = network.l2_domain
        if domain is None:
            return
        status = interface.status
        for address in status.addresses:
            without = tuple(other for other in status.addresses if other != address)
            after = replace(interface, status=replace(status, addresses=without))
            yield from self._judge_claim(interface, keys.address(domain, address.ip), str(address.ip), after)
        for learned in status.learned:
            rest = tuple(other for other in status.learned if other != learned)
            after = replace(interface, status=replace(status, learned=rest))
            key = keys.address(domain, learned.address)
            yield from self._judge_claim(interface, key, str(learned.address), after, OwnerKind.LEARNED)

    def _judge_mac(self, interface: Interface, network: Network) -> Iterator[Finding]:
        mac = interface.status.mac
        if mac is not None:
            key = keys.mac(network.mac_domain, mac, network.mac_scope)
            after = replace(interface, status=replace(interface.status, mac=None))
            yield from self._judge_claim(interface, key, f"MAC {mac}", after)

    def _judge_claim(
        self, interface: Interface, key: str, what: str, without: Interface, kind: OwnerKind = OwnerKind.CHOSEN
    ) -> Iterator[Finding]:
        """What an Interface lists must be owned by it. `without` is the Interface once it gave that up."""
        owner = self._owners.get(key)
        if owner is not None and (owner.interface, owner.uid) == (interface.key, interface.meta.uid):
            return
        path = keys.interface(interface.key)
        if owner is None and key in self._revisions:
            return  # unreadable, and said so
        rival = self._interfaces.get(owner.interface) if owner else None
        draft = Draft()
        draft.guard(path, interface.meta.revision)
        draft.guard(key, self._revision(key))
        if owner is not None and rival is not None and rival.meta.uid == owner.uid and self._lists(rival, key):
            if interface.status.holders:
                text = (
                    f"{what} belongs to Interface {owner.interface}, and {interface.key}, which is held, lists it too: "
                )
                yield self._finding(Wrong.DOUBLED, path, text + "detach it, then repair", None, key)
            else:
                draft.put(path, wire.INTERFACE.stored.dumps(without))
                text = f"{what} belongs to Interface {owner.interface}, and {interface.key} lists it too"
                yield self._finding(Wrong.DOUBLED, path, text, draft, key)
            return
        others = [other for other in self._claimants(key) if other != interface.key]
        if others:
            text = f"{what} has no rightful owner, and Interfaces {interface.key} and {others[0]} both list it: "
            yield self._finding(Wrong.DOUBLED, path, text + "detach and delete the wrong one", None, key)
            return
        draft.put(key, wire.OWNER.dumps(Owner(interface.key, interface.meta.uid, kind)))
        state = f"its key names {owner.interface}, which has no claim to it" if owner else "its key is missing"
        yield self._finding(Wrong.ORPHANED, path, f"Interface {interface.key} lists {what}, but {state}", draft, key)

    def _judge_families(self, interface: Interface) -> Iterator[Finding]:
        for version, count in Counter(address.version for address in interface.status.addresses).items():
            if count > 1:
                listed = ", ".join(str(a.ip) for a in interface.status.addresses if a.version == version)
                path = keys.interface(interface.key)
                text = f"Interface {interface.key} owns {listed}: release all but one (homeport ipam release ADDRESS)"
                yield self._finding(Wrong.DOUBLED, path, text, None)

    # Index, attachments, holders

    def _judge_index_of(self, interface: Interface) -> Iterator[Finding]:
        vm, own = interface.spec.vm, interface.spec.interface
        if vm is None or own is None:
            return
        path, key = keys.interface(interface.key), keys.index(interface.meta.namespace, vm, own)
        target = self._index.get(key)
        if target == interface.key or (target is None and key in self._revisions):
            return
        if target is not None and target in self._interfaces:
            text = f"Interfaces {interface.key} and {target} both belong to interface {own} of VM {vm}: "
            yield self._finding(Wrong.DOUBLED, path, text + "delete the one that is not used", None, key)
            return
        draft = Draft()
        draft.guard(path, interface.meta.revision)
        draft.guard(key, self._revision(key))
        draft.put(key, wire.INDEX.dumps(interface.key))
        text = f"Interface {interface.key} belongs to interface {own} of VM {vm}, but the index does not point to it"
        yield self._finding(Wrong.ORPHANED, path, text, draft, key)

    def _judge_index(self, key: str, target: InterfaceKey) -> Iterator[Finding]:
        path = keys.interface(target)
        if path in self._revisions:
            return
        namespace, vm, own = keys.split(key, keys.INDEX)
        if any(
            (i.meta.namespace, i.spec.vm, i.spec.interface) == (namespace, vm, own) for i in self._interfaces.values()
        ):
            return  # found from there
        draft = Draft()
        draft.guard(key, self._revision(key))
        draft.guard(path, 0)
        draft.delete(key)
        yield self._finding(Wrong.ORPHANED, key, f"points to Interface {target}, which does not exist", draft, path)

    def _judge_attachment(self, attachment: Attachment) -> Iterator[Finding]:
        wrong = [nic for nic in attachment.nics if not self._holds(nic.interface, nic.uid, attachment.key)]
        if not wrong:
            return  # one of nothing keeps an attach from being applied late, and goes by itself
        key = keys.attachment(attachment.key)
        paths = [keys.interface(nic.interface) for nic in wrong]
        if any(
            path in self._revisions and nic.interface not in self._interfaces
            for path, nic in zip(paths, wrong, strict=True)
        ):
            return  # unreadable, and said so
        names = ", ".join(str(nic.interface) for nic in wrong)
        text = f"attachment {attachment.key} names {names}, which it does not hold"
        node = keys.node(attachment.key.node)
        if self._runs(attachment.key.node, attachment.boot_id) and not all(self._moved_on(nic) for nic in wrong):
            text += ", and its guest may run: detach it"
            yield self._finding(Wrong.ORPHANED, key, text, None, *paths, node)
            return
        draft = Draft()
        draft.guard(key, attachment.revision)
        draft.guard(node, self._revision(node))
        for path in paths:
            draft.guard(path, self._revision(path))
        left = tuple(nic for nic in attachment.nics if nic not in wrong)
        if left:
            draft.put(key, wire.ATTACHMENT.dumps(replace(attachment, nics=left)))
        else:
            draft.delete(key)
        yield self._finding(Wrong.ORPHANED, key, text, draft, *paths, node)

    def _judge_holders(self, interface: Interface) -> Iterator[Finding]:
        path = keys.interface(interface.key)
        lost = [h for h in interface.status.holders if not self._is_attached(interface, holders.attachment_of(h))]
        if lost:
            draft = Draft()
            draft.guard(path, interface.meta.revision)
            status = interface.status
            records = [keys.attachment(holders.attachment_of(holder)) for holder in lost]
            records += [keys.node(holder.node) for holder in lost]
            for key in records:
                draft.guard(key, self._revision(key))
            for holder in lost:
                status = holders.end(status, holders.attachment_of(holder))
            draft.put(path, wire.INTERFACE.stored.dumps(replace(interface, status=status)))
            text = f"Interface {interface.key} is held by {lost[0]}, of which there is no attachment"
            running = next((holder for holder in lost if self._runs(holder.node, holder.boot_id)), None)
            if running is not None:
                text = (
                    f"Interface {interface.key} is held by {running}, of which there is no attachment, and its guest "
                    f"may run: restart the agent of node {running.node}, whose journal puts the attachment back, or "
                    "detach it there"
                )
            yield self._finding(Wrong.ORPHANED, path, text, draft if running is None else None, *records)
        elif interface.status.ephemeral and not interface.status.holders:
            if (interface.key, interface.meta.uid) in self._running:
                return  # found from there
            draft = Draft()
            with self._view.reading() as snapshot:
                draft_removal(snapshot, draft, interface, REASON, self._now, self._random)
            text = f"Interface {interface.key} was to end with its container, and nothing holds it"
            yield self._finding(Wrong.LEAKED, path, text, draft)

    def _runs(self, node: str, boot_id: str) -> bool:
        """Whether this boot of the node is heard of. A record that cannot be read may say so."""
        return self._boots.get(node) == boot_id if node in self._boots else keys.node(node) in self._revisions

    def _moved_on(self, nic: Nic) -> bool:
        """Whether somebody took the Interface later: then its addresses are theirs."""
        found = self._interfaces.get(nic.interface)
        return found is not None and found.meta.uid == nic.uid and found.status.epoch > nic.epoch

    def _holds(self, interface: InterfaceKey, uid: str, attachment: AttachmentKey) -> bool:
        found = self._interfaces.get(interface)
        return found is not None and found.meta.uid == uid and holders.find_holder(found.status, attachment) is not None

    def _is_attached(self, interface: Interface, key: AttachmentKey) -> bool:
        attachment = self._attachments.get(key)
        if attachment is None:
            return keys.attachment(key) in self._revisions  # unreadable, and said so
        return any((nic.interface, nic.uid) == (interface.key, interface.meta.uid) for nic in attachment.nics)

    # Reading

    def _lists(self, interface: Interface, key: str) -> bool:
        """Whether the Interface lists what this address or MAC key stands for. Where its Network has gone, the address
        or MAC alone has to do."""
        network = self._networks.get(interface.spec.network)
        if key.startswith(keys.ADDRESSES):
            name, text = keys.split(key, keys.ADDRESSES)
            there = network is None or network.l2_domain == name
            return there and any(str(address) == text for address in interface.status.owned)
        domain, mac, scope = keys.split(key, keys.MACS)
        there = network is None or (network.mac_domain, network.mac_scope) == (MacDomain(domain), scope)
        return there and interface.status.mac == mac

    def _claimants(self, key: str) -> list[InterfaceKey]:
        """The living Interfaces that list what the key stands for."""
        return self._listed_by.get(key, [])

    def _keys_of(self, interface: Interface) -> Iterator[str]:
        """The keys that an Interface's addresses and MAC have; none where its Network has gone."""
        network = self._networks.get(interface.spec.network)
        if network is None:
            return
        if network.l2_domain is not None:
            for address in interface.status.owned:
                yield keys.address(network.l2_domain, address)
        if interface.status.mac is not None:
            yield keys.mac(network.mac_domain, interface.status.mac, network.mac_scope)

    def _read(self, prefix: str, form: wire.Stored[T]) -> Iterator[T]:
        for record in self._under(prefix):
            found = self._load(record, form)
            if found is not None:
                yield found

    def _read_owners(self) -> Iterator[tuple[str, Owner]]:
        for prefix in (keys.ADDRESSES, keys.MACS):
            for record in self._under(prefix):
                owner = self._load(record, wire.OWNER)
                if owner is not None:
                    yield record.key, owner

    def _load(self, record: Record, form: wire.Stored[T]) -> T | None:
        try:
            return form.loads(record.value, record.mod_revision)
        except BadInput as error:
            text = f"{error}: upgrade Homeport, or restore the record from a snapshot"
            self._unreadable.append(
                Finding(Wrong.UNREADABLE, record.key, text, (f"{record.key}@{record.mod_revision}",))
            )
            return None

    def _under(self, prefix: str) -> Iterator[Record]:
        return (record for record in self._listing.records if record.key.startswith(prefix))

    @cached_property
    def _view(self) -> View:
        """The listing as the planners look at it."""
        view = View()
        view.load(self._listing)
        return view

    def _revision(self, key: str) -> int:
        return self._revisions.get(key, 0)

    def _finding(self, wrong: Wrong, key: str, text: str, draft: Draft | None, *others: str) -> Finding:
        evidence = tuple(f"{each}@{self._revision(each)}" for each in (key, *others))
        return Finding(wrong, key, text, evidence, draft.finish() if draft else None)


def _uses(nic: Nic, key: str) -> bool:
    """Whether this NIC was given what an address or MAC key stands for."""
    if key.startswith(keys.ADDRESSES):
        return keys.split(key, keys.ADDRESSES)[1] in {str(address.ip) for address in nic.addresses}
    return nic.mac == keys.split(key, keys.MACS)[1]
