"""The store's records as objects: typed reads and compare-and-set writes over any `Store`, nothing else.

An object knows its revision (0: not stored yet), so whoever read it writes it back only if nobody else did meanwhile.
For a transaction over several objects, `unchanged` and `put` give its parts. What may be written is decided elsewhere:
`homeport_api.validate_*` and `homeport_ipam`.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from homeport_api import wire
from homeport_api.attachment import Attachment, AttachmentKey
from homeport_api.errors import AlreadyExists, BadInput, Conflict, NotFound
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.network import Network
from homeport_api.networkpolicy import Namespace, NetworkPolicy, PolicyKey
from homeport_api.node import NodeRecord, NodeReport, PolicyReport
from homeport_api.virtualmachine import VirtualMachine
from homeport_api.workload import Workload
from homeport_store import keys
from homeport_store.protocol import Delete, Put, Record, Store, Unchanged

K = TypeVar("K")
T = TypeVar("T")


class Place(NamedTuple, Generic[K, T]):
    """Where one sort of object is kept: its form, the prefix of all, the path of a key, and the key of an object."""

    form: wire.Stored[T]
    prefix: str
    path: Callable[[K], str]
    key: Callable[[T], K]
    revision: Callable[[T], int]


class Collection(Generic[K, T]):
    """All objects of one sort. Every verb raises `Unavailable` when the store is out of reach."""

    def __init__(self, store: Store, place: Place[K, T]) -> None:
        self._store = store
        self._place = place

    def find(self, key: K) -> T | None:
        """None when there is none."""
        record = self._store.get(self._place.path(key))
        return None if record is None else self.read(record)

    def get(self, key: K) -> T:
        """Raises NotFound when there is none."""
        found = self.find(key)
        if found is None:
            raise NotFound(f"{self._place.form.what} {key} does not exist")
        return found

    def list(self, prefix: str | None = None) -> tuple[T, ...]:
        """All of them, or those under a narrower prefix of `keys`, sorted by path."""
        return tuple(self.read(record) for record in self._store.list(prefix or self._place.prefix).records)

    def save(self, value: T) -> T:
        """Creates an object that was never stored, else replaces the one it was read as; returns it with its new
        revision. Raises AlreadyExists in the first case, Conflict in the second, when somebody else was faster."""
        key = self._place.key(value)
        known = self._place.revision(value)
        data = self._place.form.dumps(value)
        revision = self._store.put_if(self._place.path(key), data, known)
        if revision is None:
            if known == 0:
                raise AlreadyExists(f"{self._place.form.what} {key} exists already")
            raise Conflict(f"{self._place.form.what} {key} was changed by somebody else meanwhile: read it again")
        return self._place.form.loads(data, revision)

    def delete(self, value: T) -> None:
        """Deletes exactly what was read. Raises Conflict when it has changed or gone since."""
        if not self._store.txn((self.unchanged(value),), (self.remove(value),)).applied:
            key = self._place.key(value)
            raise Conflict(f"{self._place.form.what} {key} was changed by somebody else meanwhile: read it again")

    def read(self, record: Record) -> T:
        """The object of a record. Raises BadInput, naming the key, for one that is not of this sort."""
        try:
            return self._place.form.loads(record.value, record.mod_revision)
        except BadInput as error:
            raise BadInput(f"{record.key}: {error}") from error

    def unchanged(self, value: T) -> Unchanged:
        """Holds while the store has exactly this object, or none when it was never stored."""
        return Unchanged(self._place.path(self._place.key(value)), self._place.revision(value))

    def put(self, value: T, lease: int = 0) -> Put:
        return Put(self._place.path(self._place.key(value)), self._place.form.dumps(value), lease)

    def remove(self, value: T) -> Delete:
        return Delete(self._place.path(self._place.key(value)))


class Objects:
    """Everything of the store that has a class of its own. Cheap to make; holds nothing but the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.networks: Collection[str, Network] = Collection(store, NETWORKS)
        self.interfaces: Collection[InterfaceKey, Interface] = Collection(store, INTERFACES)
        self.machines: Collection[InterfaceKey, VirtualMachine] = Collection(store, MACHINES)
        self.policies: Collection[PolicyKey, NetworkPolicy] = Collection(store, POLICIES)
        self.namespaces: Collection[str, Namespace] = Collection(store, NAMESPACES)
        self.workloads: Collection[InterfaceKey, Workload] = Collection(store, WORKLOADS)
        self.attachments: Collection[AttachmentKey, Attachment] = Collection(store, ATTACHMENTS)

    def interfaces_in(self, namespace: str | None) -> tuple[Interface, ...]:
        """The Interfaces of one namespace; None: of all."""
        return self.interfaces.list(keys.INTERFACES if namespace is None else keys.interfaces_of(namespace))

    def machines_in(self, namespace: str | None) -> tuple[VirtualMachine, ...]:
        return self.machines.list(keys.MACHINES if namespace is None else keys.machines_of(namespace))

    def policies_in(self, namespace: str | None) -> tuple[NetworkPolicy, ...]:
        """Of both kinds, sorted by namespace, kind and name."""
        return self.policies.list(keys.POLICIES if namespace is None else keys.policies_of(namespace))

    def interfaces_on(self, network: str) -> tuple[Interface, ...]:
        """Those that name the Network, in all namespaces: while there is one, it is in use."""
        return tuple(interface for interface in self.interfaces_in(None) if interface.spec.network == network)

    def interface_of(self, namespace: str, vm: str, interface: str) -> Interface | None:
        """By identity, through the index. None when the identity has no Interface yet."""
        record = self.store.get(keys.index(namespace, vm, interface))
        return None if record is None else self.interfaces.find(wire.INDEX.loads(record.value))

    def attachments_on(self, node: str) -> tuple[Attachment, ...]:
        return self.attachments.list(keys.attachments_on(node))

    def nodes(self) -> tuple[NodeRecord, ...]:
        """Those with a heartbeat."""
        return tuple(wire.NODE.loads(record.value) for record in self.store.list(keys.NODES).records)

    def reports(self) -> tuple[NodeReport, ...]:
        return tuple(wire.REPORT.loads(record.value) for record in self.store.list(keys.REPORTS).records)

    def policy_reports(self) -> tuple[PolicyReport, ...]:
        """One for each node that ever reported. What a node of another version says may not be readable: it counts as
        silence."""
        found = []
        for record in self.store.list(keys.POLICY_REPORTS).records:
            with suppress(BadInput):
                found.append(wire.POLICY_REPORT.loads(record.value))
        return tuple(found)


NETWORKS: Place[str, Network] = Place(
    wire.NETWORK.stored,
    keys.NETWORKS,
    keys.network,
    lambda network: network.name,
    lambda network: network.meta.revision,
)
INTERFACES: Place[InterfaceKey, Interface] = Place(
    wire.INTERFACE.stored,
    keys.INTERFACES,
    keys.interface,
    lambda interface: interface.key,
    lambda interface: interface.meta.revision,
)
MACHINES: Place[InterfaceKey, VirtualMachine] = Place(
    wire.VIRTUAL_MACHINE.stored,
    keys.MACHINES,
    lambda key: keys.machine(key.namespace, key.name),
    lambda machine: InterfaceKey(machine.meta.namespace, machine.meta.name),
    lambda machine: machine.meta.revision,
)
POLICIES: Place[PolicyKey, NetworkPolicy] = Place(
    wire.POLICY,
    keys.POLICIES,
    keys.policy,
    lambda policy: policy.key,
    lambda policy: policy.meta.revision,
)
NAMESPACES: Place[str, Namespace] = Place(
    wire.NAMESPACE.stored,
    keys.NAMESPACES,
    keys.namespace,
    lambda namespace: namespace.name,
    lambda namespace: namespace.meta.revision,
)
WORKLOADS: Place[InterfaceKey, Workload] = Place(
    wire.WORKLOAD,
    keys.WORKLOADS,
    lambda key: keys.workload(key.namespace, key.name),
    lambda workload: workload.key,
    lambda workload: workload.revision,
)
ATTACHMENTS: Place[AttachmentKey, Attachment] = Place(
    wire.ATTACHMENT,
    keys.ATTACHMENTS,
    keys.attachment,
    lambda attachment: attachment.key,
    lambda attachment: attachment.revision,
)
