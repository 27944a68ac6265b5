"""Worlds for the tests of allocation: Networks, calls, and allocators over one memory store."""

import itertools
import random
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network

from homeport_api import wire
from homeport_api.addresses import AddressRange, IpAddress, L2Domain
from homeport_api.attachment import Attachment, AttachmentKey, AttachRequest, Identity, NicRequest, Source
from homeport_api.interface import Interface, InterfaceKey, InterfaceSpec
from homeport_api.meta import ObjectMeta
from homeport_api.network import Ipam, L2Config, Network, NetworkSpec
from homeport_api.node import NodeRecord
from homeport_api.pool import Pool
from homeport_ipam.allocator import Allocator
from homeport_ipam.fsck import Finding, judge
from homeport_ipam.view import View
from homeport_store import keys
from homeport_store.memory import MemoryStore
from homeport_store.objects import Objects
from homeport_store.protocol import Store

START = 1_700_000_000.0
REST = 600.0


def network(name: str = "blue", *cidrs: str, vlan: int | None = 100, reclaim_after: float | None = 60.0) -> Network:
    pools = tuple(Pool(ip_network(cidr)) for cidr in cidrs)
    spec = NetworkSpec(uplink="bond0", l2=L2Config(vlan_id=vlan), ipam=Ipam(pools, reclaim_after))  # type: ignore[arg-type]
    return Network(ObjectMeta(name), spec)


def addresses(first: str, last: str | None = None) -> AddressRange:
    return AddressRange(ip_address(first), ip_address(last or first))


def nic(
    vm: str = "web",
    interface: str = "eth0",
    *,
    net: str | None = "blue",
    link: str | None = None,
    ephemeral: bool = False,
    **more: object,
) -> NicRequest:
    identity = Identity("shop", vm, interface, ephemeral)
    return NicRequest(identity, link or interface, net, **more)  # type: ignore[arg-type]


def call(*nics: NicRequest, container: str = "c1", node: str = "n1", boot: str = "b1", **more: object) -> AttachRequest:
    key = AttachmentKey(node, "homeport", "blue", container, nics[0].link if nics else "eth0")
    return AttachRequest(key, Source.CNI, boot, nics or (nic(),), **more)  # type: ignore[arg-type]


def ips(*texts: str) -> dict[str, object]:
    """What a spec asks for, with a prefix or without, as the manifest's reader keeps it."""
    return {
        "addresses": tuple(ip_interface(text) for text in texts),
        "bare_addresses": tuple(ip_address(text) for text in texts if "/" not in text),
    }


def written(name: str = "web-eth0", *, net: str = "blue", **spec: object) -> Interface:
    return Interface(ObjectMeta(name, "shop"), InterfaceSpec(net, **spec))  # type: ignore[arg-type]


@dataclass
class World:
    """One store, one clock, and allocators with a view each. A view sees nothing but its own allocator's work until it
    is `synced`."""

    networks: tuple[Network, ...] = (network("blue", "10.0.0.0/24"),)
    store: Store = field(default_factory=MemoryStore)
    rest: float = REST
    now: float = START
    seeds: "itertools.count[int]" = field(default_factory=itertools.count)
    views: list[View] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.objects = Objects(self.store)
        for each in self.networks:
            self.objects.networks.save(each)
        self.allocator = self.another()

    def another(self, *, blind: bool = False) -> Allocator:
        """A further agent, with a view of what is so now, or with none at all."""
        view = View()
        if not blind:
            view.load(self.store.list(keys.PREFIX))
        self.views.append(view)
        return Allocator(self.store, view, "test", self.rest, lambda: self.now, random.Random(next(self.seeds)))

    def sync(self) -> None:
        listing = self.store.list(keys.PREFIX)
        for view in self.views:
            view.load(listing)

    def interface(self, name: str = "web-eth0") -> Interface:
        return self.objects.interfaces.get(InterfaceKey("shop", name))

    def attachment(self, request: AttachRequest) -> Attachment | None:
        return self.objects.attachments.find(request.key)

    def owners(self, domain: str = "bond0:100") -> dict[IpAddress, InterfaceKey]:
        prefix = keys.addresses_of(L2Domain(domain))
        return {
            ip_address(record.key.removeprefix(prefix)): wire.OWNER.loads(record.value).interface
            for record in self.store.list(prefix).records
        }

    def below(self, prefix: str) -> list[str]:
        return [record.key for record in self.store.list(prefix).records]

    def heartbeat(self, node: str, boot: str) -> None:
        revision = (self.store.get(keys.node(node)) or _ABSENT).mod_revision
        self.store.put_if(keys.node(node), wire.NODE.dumps(NodeRecord(node, "m-" + node, boot)), revision)

    def findings(self) -> tuple[Finding, ...]:
        return judge(self.store.list(keys.PREFIX), self.now, random.Random(0))

    def change_network(self, name: str, **spec: object) -> None:
        old = self.objects.networks.get(name)
        self.objects.networks.save(replace(old, spec=replace(old.spec, **spec)))  # type: ignore[arg-type]
        self.sync()


@dataclass(frozen=True)
class _Absent:
    mod_revision: int = 0


_ABSENT = _Absent()
