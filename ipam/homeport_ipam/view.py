"""The local view of everything an allocation looks at, fed by a watch, so that the usual ADD asks the store nothing.

                 follow thread                     allocator
    store ── Change batches ──► feed ─┐   ┌─ reading() ──► Reading (a `Snapshot`) ──► planner
          ── a fresh list ────► load ─┼─ View
          ── own transaction ─► feed ─┘   └─ what the Reading looked at, to be read again after a conflict or a refusal

It may be stale, incomplete or empty at any time: what a planner saw is guarded in the transaction, and whatever the
transaction or a refusal proves wrong is read again. So news may come from several sides in any order, and each key
keeps what has the highest mod revision. Records are kept as the store's bytes and decoded when looked at; the occupancy
of a Network's pools is built when it is first used.

Thread-safe: one lock, held while a planner reads.
"""

import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from sys import intern
from typing import TypeVar

from homeport_api import wire
from homeport_api.addresses import IpAddress, L2Domain, MacAddress, MacDomain
from homeport_api.attachment import Attachment, AttachmentKey
from homeport_api.errors import BadInput
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.network import Network
from homeport_api.owner import Owner
from homeport_ipam.occupancy import Occupancy
from homeport_ipam.pool import space_of
from homeport_ipam.snapshot import Claim, Pointer
from homeport_store import keys
from homeport_store.protocol import Change, Listing, Record

log = logging.getLogger(__name__)

K = TypeVar("K", int, str)
Entry = tuple[int, bytes]
"""Mod revision and value."""

PLAIN = (keys.NETWORKS, keys.INTERFACES, keys.INDEX, keys.ATTACHMENTS, keys.NODES)


class _Domain:
    """The addresses of one L2 domain: owned and at rest, by family and number."""

    __slots__ = ("former", "occupancies", "owned", "resting")

    def __init__(self) -> None:
        self.owned: dict[int, dict[int, Entry]] = {4: {}, 6: {}}
        self.resting: dict[int, dict[int, Entry]] = {4: {}, 6: {}}
        self.former: dict[InterfaceKey, set[IpAddress]] = {}
        self.occupancies: dict[tuple[str, int], Occupancy] = {}

    def settle(self, version: int, number: int) -> None:
        """Tells the pools in use what is now so of one address."""
        owned, resting = number in self.owned[version], number in self.resting[version]
        for (_, family), occupancy in self.occupancies.items():
            if family == version:
                occupancy.set(number, owned=owned, resting=resting)

    def occupy(self, occupancy: Occupancy) -> None:
        """Brings a new occupancy up to date."""
        owned, resting = self.owned[occupancy.space.version], self.resting[occupancy.space.version]
        for number in owned.keys() | resting.keys():
            occupancy.set(number, owned=number in owned, resting=number in resting)


class View:
    """Feed it what is under `keys.PREFIX`, or any part of that; what is missing costs round trips, nothing else."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._plain: dict[str, Entry] = {}
        self._macs: dict[str, dict[str, Entry]] = {}
        self._domains: dict[L2Domain, _Domain] = {}
        self._networks: dict[str, Network | None] = {}  # every one's key; decoded when first looked at

    def feed(self, changes: Iterable[Change]) -> None:
        """Takes in one batch. Older news than what is known of a key changes nothing; neither does a repeat. A
        resync is believed in any case: the store may have been restored from an older copy."""
        with self._lock:
            for change in changes:
                self._absorb(change.key, change.value, change.mod_revision, change.resync)

    def load(self, listing: Listing, prefix: str = keys.PREFIX) -> bool:
        """Takes in a fresh list of everything under `prefix`; what it lacks is dropped, unless it is newer. True when
        that changed anything."""
        with self._lock:
            present = {record.key for record in listing.records}
            gone = [key for key, entry in self._held(prefix) if key not in present and entry[0] <= listing.revision]
            changed = [self._absorb(key, None, listing.revision) for key in gone]
            changed += [self._absorb(record.key, record.value, record.mod_revision) for record in listing.records]
            return any(changed)

    def reread(self, key: str, record: Record | None, seen: int) -> bool:
        """Takes in one key that was just read. `seen` is the revision it had in a Reading (0: absent); True when the
        store says otherwise. An absent key drops only what the Reading saw, for anything newer is newer news."""
        with self._lock:
            if record is not None:
                self._absorb(key, record.value, record.mod_revision)
            elif (entry := self._find(key)) is not None and entry[0] <= seen:
                self._absorb(key, None, seen)
            return seen != (record.mod_revision if record else 0)

    def networks(self) -> tuple[Network, ...]:
        """All Networks it knows, by name. One that cannot be read is left out: whoever names it is told why."""
        with self._lock:
            found: list[Network] = []
            for key in sorted(self._networks):
                try:
                    network = self.network(key)
                except BadInput as error:
                    log.warning("ignored: key=%s error=%s", key, error)
                    continue
                if network is not None:
                    found.append(network)
            return tuple(found)

    @contextmanager
    def reading(self) -> Iterator["Reading"]:
        """A planner's look at the view, which does not change meanwhile."""
        with self._lock:
            yield Reading(self)

    def interfaces(self, namespace: str) -> tuple[Interface, ...]:
        """All Interfaces of a namespace that it knows, sorted by name."""
        prefix = keys.interfaces_of(namespace)
        with self._lock:
            found = sorted((key, *entry) for key, entry in self._plain.items() if key.startswith(prefix))
        return tuple(wire.INTERFACE.stored.loads(value, revision) for _, revision, value in found)

    # The rest is for `Reading`, under the lock.

    def entry(self, key: str) -> Entry | None:
        return self._plain.get(key)

    def mac_entries(self, scopes: str) -> Mapping[str, Entry]:
        return self._macs.get(scopes, {})

    def domain(self, domain: L2Domain) -> _Domain:
        return self._domains.setdefault(domain, _Domain())

    def network(self, key: str) -> Network | None:
        """Decoded once for each revision."""
        entry = self._plain.get(key)
        if entry is None:
            return None
        known = self._networks[key]
        if known is None:
            known = self._networks[key] = wire.NETWORK.stored.loads(entry[1], entry[0])
        return known

    def occupancy(self, network: Network, version: int) -> Occupancy:
        if network.l2_domain is None:
            return Occupancy(space_of(network, version))
        domain = self.domain(network.l2_domain)
        known = domain.occupancies.get((network.name, version))
        if known is None:
            known = Occupancy(space_of(network, version))
            domain.occupy(known)
            domain.occupancies[network.name, version] = known
        return known

    def _absorb(self, key: str, value: bytes | None, revision: int, resync: bool = False) -> bool:
        """One piece of news; True when it was one."""
        if key.startswith((keys.ADDRESSES, keys.REST)):
            return self._absorb_address(key, value, revision, resync)
        if key.startswith(keys.MACS):
            scopes, _, scope = key.rpartition("/")
            changed = _put(
                self._macs.setdefault(scopes + "/", {}), intern(keys.unescape(scope)), value, revision, resync
            )
            if not self._macs[scopes + "/"]:
                del self._macs[scopes + "/"]
            return changed
        if not key.startswith(PLAIN):
            return False
        changed = _put(self._plain, key, value, revision, resync)
        if changed and key.startswith(keys.NETWORKS):
            self._networks.pop(key, None)
            if value is not None:
                self._networks[key] = None
            self._forget_pools(keys.split(key, keys.NETWORKS)[0])
        return changed

    def _absorb_address(self, key: str, value: bytes | None, revision: int, resync: bool) -> bool:
        owned = key.startswith(keys.ADDRESSES)
        name, _, text = key.removeprefix(keys.ADDRESSES if owned else keys.REST).partition("/")
        try:
            address = ip_address(text)
        except ValueError:
            log.warning("not an address, ignored: key=%s", key)
            return False
        domain = self.domain(L2Domain(keys.unescape(name)))
        entries = (domain.owned if owned else domain.resting)[address.version]
        before = entries.get(int(address))
        if not _put(entries, int(address), value, revision, resync):
            return False
        if not owned:
            self._remember_former(domain, address, before, value)
        domain.settle(address.version, int(address))
        return True

    def _remember_former(self, domain: _Domain, address: IpAddress, before: Entry | None, value: bytes | None) -> None:
        if before is not None and (former := _owner(before[1])) is not None:
            known = domain.former.get(former.interface, set())
            known.discard(address)
            if not known:
                domain.former.pop(former.interface, None)
        if value is not None and (former := _owner(value)) is not None:
            domain.former.setdefault(former.interface, set()).add(address)

    def _forget_pools(self, network: str) -> None:
        """The Network changed: its pools are laid out anew at the next use."""
        for domain in self._domains.values():
            for version in (4, 6):
                domain.occupancies.pop((network, version), None)

    def _find(self, key: str) -> Entry | None:
        parent = key.rpartition("/")[0] + "/"
        if key.startswith(keys.MACS):
            return self._macs.get(parent, {}).get(keys.unescape(key.removeprefix(parent)))
        for prefix in (keys.ADDRESSES, keys.REST):
            if key.startswith(prefix):
                domain = self.domain(L2Domain(keys.unescape(parent.removeprefix(prefix)[:-1])))
                address = ip_address(key.removeprefix(parent))
                entries = domain.owned if prefix == keys.ADDRESSES else domain.resting
                return entries[address.version].get(int(address))
        return self._plain.get(key)

    def _held(self, prefix: str) -> Iterator[tuple[str, Entry]]:
        if prefix in self._macs:
            for scope, entry in self._macs[prefix].items():
                yield prefix + keys.escape(scope), entry
            return
        for scopes, entries in self._macs.items():
            if scopes.startswith(prefix):
                for scope, entry in entries.items():
                    yield scopes + keys.escape(scope), entry
        for name, domain in self._domains.items():
            for parent, families in ((keys.addresses_of(name), domain.owned), (keys.rest_of(name), domain.resting)):
                if parent.startswith(prefix):
                    for number, entry in families[4].items():
                        yield f"{parent}{IPv4Address(number)}", entry
                    for number, entry in families[6].items():
                        yield f"{parent}{IPv6Address(number)}", entry
        if not prefix.startswith((keys.ADDRESSES, keys.REST, keys.MACS)):
            for key, entry in self._plain.items():
                if key.startswith(prefix):
                    yield key, entry


class Reading:
    """One planner's look, a `Snapshot`, valid inside `View.reading`. What it looked at stays known: `keys` with the
    revision seen (0: absent), `mac_scopes` as prefixes, and the `domains` in which it chose."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.keys: dict[str, int] = {}
        self.mac_scopes: set[str] = set()
        self.domains: set[L2Domain] = set()

    def network(self, name: str) -> Network | None:
        key = keys.network(name)
        found = self._view.network(key)
        self.keys[key] = found.meta.revision if found else 0
        return found

    def interface(self, key: InterfaceKey) -> Interface | None:
        entry = self._look(keys.interface(key))
        return wire.INTERFACE.stored.loads(entry[1], entry[0]) if entry else None

    def pointer(self, namespace: str, vm: str, interface: str) -> Pointer | None:
        entry = self._look(keys.index(namespace, vm, interface))
        return Pointer(wire.INDEX.loads(entry[1]), entry[0]) if entry else None

    def attachment(self, key: AttachmentKey) -> Attachment | None:
        entry = self._look(keys.attachment(key))
        return wire.ATTACHMENT.loads(entry[1], entry[0]) if entry else None

    def boot_id(self, node: str) -> str | None:
        entry = self._look(keys.node(node))
        return wire.NODE.loads(entry[1], entry[0]).boot_id if entry else None

    def address(self, domain: L2Domain, address: IpAddress) -> Claim | None:
        entry = self._view.domain(domain).owned[address.version].get(int(address))
        self.keys[keys.address(domain, address)] = entry[0] if entry else 0
        return _claim(entry) if entry else None

    def resting(self, domain: L2Domain, address: IpAddress) -> Claim | None:
        entry = self._view.domain(domain).resting[address.version].get(int(address))
        self.keys[keys.rest(domain, address)] = entry[0] if entry else 0
        return _claim(entry) if entry else None

    def macs(self, domain: MacDomain, mac: MacAddress) -> Mapping[str, Claim]:
        scopes = keys.mac_scopes(domain, mac)
        entries = self._view.mac_entries(scopes)
        self.mac_scopes.add(scopes)
        return {scope: _claim(entry) for scope, entry in entries.items()}

    def rested_by(self, domain: L2Domain, key: InterfaceKey) -> Collection[IpAddress]:
        return sorted(self._view.domain(domain).former.get(key, ()), key=int)

    def occupancy(self, network: Network, version: int) -> Occupancy:
        if network.l2_domain is not None:
            self.domains.add(network.l2_domain)
        return self._view.occupancy(network, version)

    def _look(self, key: str) -> Entry | None:
        entry = self._view.entry(key)
        self.keys[key] = entry[0] if entry else 0
        return entry


def _claim(entry: Entry) -> Claim:
    return Claim(wire.OWNER.loads(entry[1]), entry[0])


def _owner(value: bytes) -> Owner | None:
    """None for what cannot be read: a record at rest only decides who may have it first."""
    try:
        return wire.OWNER.loads(value)
    except BadInput as error:
        log.warning("ignored: %s", error)
        return None


def _put(entries: dict[K, Entry], key: K, value: bytes | None, revision: int, resync: bool) -> bool:
    """The newer of two wins, or the resync; True when that changed the entry."""
    before = entries.get(key)
    if before is not None and not resync and before[0] >= revision + (value is None):
        return False
    if value is None:
        return entries.pop(key, None) is not None
    entries[key] = (revision, value)
    return before != entries[key]
