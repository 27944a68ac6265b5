"""Which addresses and which MAC an Interface gets. Pure.

Address, each family apart: asked for → owned already → formerly its own and still at rest → preferred by hash → a
pseudo-random free one → a random one at rest. MAC: asked for → owned already → made from the identity. `Choice` sees
all NICs of one call, so that no two of them get the same, and writes what must hold and what is claimed into the draft.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_interface

from homeport_api import wire
from homeport_api.addresses import IpAddress, IpInterface, L2Domain, MacAddress, MacDomain
from homeport_api.errors import AddressOwned, Exhausted, Invalid, MacInUse, NotAllowed
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.network import Network, StaticAddresses
from homeport_api.owner import Owner, OwnerKind
from homeport_ipam.asked import Asked, Wanted
from homeport_ipam.identity import preferred_index
from homeport_ipam.mac import candidate_macs
from homeport_ipam.pool import Randomness, pools_of, prefix_length, why_not_given
from homeport_ipam.snapshot import Claim, Snapshot
from homeport_ipam.transaction import Draft
from homeport_store import keys

TRUNK = "trunk"


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who gets: the Interface's key and uid, and the identity its choices are made from."""

    key: InterfaceKey
    uid: str
    vm: str
    interface: str


class Choice:
    """The choices of one call."""

    def __init__(self, snapshot: Snapshot, random: Randomness, cluster: str, draft: Draft) -> None:
        self._snapshot = snapshot
        self._random = random
        self._cluster = cluster
        self._draft = draft
        self._addresses: dict[L2Domain, set[IpAddress]] = {}
        self._macs: dict[tuple[MacDomain, MacAddress], set[str]] = {}
        self.new: list[IpAddress] = []
        """Addresses that nobody owned before this call."""

    def addresses(
        self, network: Network, who: Claimant, present: Interface | None, asked: Asked, *, choose: bool = True
    ) -> tuple[IpInterface, ...]:
        """IPv4 first. Nothing where a DHCP server outside gives addresses, or where none are to be had or asked for;
        without `choose`, only what is owned or asked for. Raises Exhausted, AddressOwned, NotAllowed or Invalid."""
        domain = network.l2_domain
        if network.external_dhcp or domain is None:
            why = "its addresses come from an external DHCP server" if domain else "a trunk without nativeVLAN has none"
            if asked.addresses:
                wanted = next(iter(asked.addresses.values()))
                raise Invalid(f"Network {network.name}: {wanted} was asked for, but {why}: ask for none")
            return present.status.addresses if present else ()
        owned = {address.version: address for address in present.status.addresses} if present else {}
        given: list[IpInterface] = []
        for version in (4, 6):
            if version in owned:
                given.append(self._keep(network, domain, who, owned[version]))
            elif version in asked.addresses:
                given.append(self._static(network, domain, who, asked.addresses[version]))
            elif choose and pools_of(network, version):
                given.append(self._choose(network, domain, who, version))
        return tuple(given)

    def mac(self, network: Network, who: Claimant, present: Interface | None, asked: Asked) -> MacAddress:
        """Raises MacInUse for one that was asked for or is owned, and has another owner as well."""
        settled = asked.mac or (present.status.mac if present else None)
        if settled is not None:
            other = self._mac_rival(network, who, settled)
            if other is not None:
                raise MacInUse(
                    f"Network {network.name}: MAC {settled} belongs to Interface {other}: ask for another, or delete "
                    "that Interface first"
                )
            self._claim_mac(network, who, settled, OwnerKind.STATIC if asked.mac else OwnerKind.CHOSEN)
            return settled
        domain = network.l2_domain or f"{network.mac_domain}:{TRUNK}"
        for mac in candidate_macs(self._cluster, domain, who.key.namespace, who.vm, who.interface):
            known = self._snapshot.macs(network.mac_domain, mac)
            # A MAC of our own making is unique on the whole uplink, so that switches between VLANs never see it twice.
            if any(not claim.by(who.key, who.uid) for claim in known.values()) or self._taken(network, mac):
                continue
            self._claim_mac(network, who, mac, OwnerKind.CHOSEN)
            return mac
        raise Exhausted(f"Network {network.name}: no MAC could be made for Interface {who.key} that nobody has")

    def _keep(self, network: Network, domain: L2Domain, who: Claimant, owned: IpInterface) -> IpInterface:
        """An owned address stays. Where its key has gone (somebody deleted it by hand) it is claimed again."""
        claim = self._snapshot.address(domain, owned.ip)
        if claim is None:
            self._claim_address(domain, who, owned.ip, OwnerKind.CHOSEN)
        elif not claim.by(who.key, who.uid):
            raise AddressOwned(
                f"Interface {who.key} lists {owned.ip}, but on Network {network.name} that belongs to Interface "
                f"{claim.owner.interface}: `homeport ipam fsck` explains it, --repair settles it"
            )
        else:
            self._draft.wish(keys.address(domain, owned.ip), claim.revision)
            self._addresses.setdefault(domain, set()).add(owned.ip)
        return owned

    def _static(self, network: Network, domain: L2Domain, who: Claimant, wanted: Wanted) -> IpInterface:
        given = wanted.written or ip_interface((wanted.ip, prefix_length(network, wanted.ip)))
        if network.spec.static_addresses is not StaticAddresses.ANY:
            space = self._snapshot.occupancy(network, wanted.ip.version).space
            why = why_not_given(network, space, wanted.ip, given.network)
            if why is not None:
                raise NotAllowed(
                    f"Network {network.name}: {wanted.ip} was asked for Interface {who.key}, but it {why}; only "
                    "staticAddresses: Any allows that"
                )
        claim = self._snapshot.address(domain, wanted.ip)
        if (claim is not None and not claim.by(who.key, who.uid)) or wanted.ip in self._addresses.get(domain, ()):
            owner = f"Interface {claim.owner.interface}" if claim else "another NIC of the same call"
            raise AddressOwned(
                f"Network {network.name}: {wanted.ip} was asked for Interface {who.key}, but belongs to {owner}"
            )
        self._claim_address(domain, who, wanted.ip, OwnerKind.STATIC, claim)
        if claim is None:
            self.new.append(wanted.ip)
        return given

    def _choose(self, network: Network, domain: L2Domain, who: Claimant, version: int) -> IpInterface:
        address = self._find_free(network, domain, who, version)
        if address is None:
            cidrs = ", ".join(str(pool.cidr) for pool in pools_of(network, version))
            raise Exhausted(
                f"Network {network.name}: no IPv{version} address is left in {cidrs} for Interface {who.key}: enlarge "
                "the pool, or delete Interfaces that are no longer needed"
            )
        at_rest = self._snapshot.resting(domain, address)
        self._draft.wish(keys.rest(domain, address), at_rest.revision if at_rest else 0)
        self._claim_address(domain, who, address, OwnerKind.CHOSEN)
        self.new.append(address)
        return ip_interface((address, prefix_length(network, address)))

    def _find_free(self, network: Network, domain: L2Domain, who: Claimant, version: int) -> IpAddress | None:
        occupancy = self._snapshot.occupancy(network, version)
        mine = self._addresses.setdefault(domain, set())
        for address in self._snapshot.rested_by(domain, who.key):
            if address in occupancy.space and address not in mine and self._snapshot.address(domain, address) is None:
                return address
        capacity = occupancy.space.capacity
        if capacity == 0:
            return None
        index = preferred_index(who.key.namespace, who.vm, who.interface, domain, version, capacity)
        preferred = occupancy.space.address(index)
        if preferred not in mine and occupancy.is_free(preferred):
            return preferred
        return occupancy.choose(self._random, mine)

    def _claim_address(
        self, domain: L2Domain, who: Claimant, address: IpAddress, kind: OwnerKind, claim: Claim | None = None
    ) -> None:
        """The key's absence is the lock; one that is this Interface's already is only compared. One that its guest took
        by itself is given to it from now on."""
        key = keys.address(domain, address)
        # Looked at even when known to be free, so that it is read again after a conflict.
        claim = claim or self._snapshot.address(domain, address)
        self._draft.guard(key, claim.revision if claim else 0)
        if claim is None or claim.owner.kind is OwnerKind.LEARNED:
            self._draft.put(key, wire.OWNER.dumps(Owner(who.key, who.uid, kind)))
        self._addresses.setdefault(domain, set()).add(address)

    def _mac_rival(self, network: Network, who: Claimant, mac: MacAddress) -> InterfaceKey | str | None:
        """Who else has the MAC where this NIC would use it."""
        scope = network.mac_scope
        for other, claim in self._snapshot.macs(network.mac_domain, mac).items():
            if _meet(scope, other) and not claim.by(who.key, who.uid):
                return claim.owner.interface
        return "of another NIC of the same call" if self._taken(network, mac) else None

    def _taken(self, network: Network, mac: MacAddress) -> bool:
        taken = self._macs.get((network.mac_domain, mac), ())
        return any(_meet(network.mac_scope, other) for other in taken)

    def _claim_mac(self, network: Network, who: Claimant, mac: MacAddress, kind: OwnerKind) -> None:
        """A trunk compares the whole prefix. So does an access NIC whose MAC nobody has anywhere on the uplink, for
        that is one comparison instead of two."""
        domain, scope = network.mac_domain, network.mac_scope
        known = self._snapshot.macs(domain, mac)
        key = keys.mac(domain, mac, scope)
        if not known:
            self._draft.guard_empty(keys.mac_scopes(domain, mac))
        else:
            self._guard_scopes(domain, mac, scope, known)
        if scope not in known:
            self._draft.put(key, wire.OWNER.dumps(Owner(who.key, who.uid, kind)))
        self._macs.setdefault((domain, mac), set()).add(scope)

    def _guard_scopes(self, domain: MacDomain, mac: MacAddress, scope: str, known: Mapping[str, Claim]) -> None:
        for other in {scope, TRUNK} | (known.keys() if scope == TRUNK else set()):
            revision = known[other].revision if other in known else 0
            self._draft.guard(keys.mac(domain, mac, other), revision)


def _meet(one: str, other: str) -> bool:
    """Two scopes of one MAC that frames could mix up: the same VLAN, or a trunk with anything."""
    return one == other or TRUNK in (one, other)
