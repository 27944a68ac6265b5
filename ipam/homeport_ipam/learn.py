"""Addresses that guests take by themselves, where Homeport gives out none: first come, first bound. Pure.

    a guest asks whether anybody has an address (duplicate address detection, ARP probe), or just uses it
         │
         ├── it is this Interface's already ──► nothing to do
         ├── it may not be learned here     ──► refused: given out, off-link, a gateway's, another MAC's, no host's
         ├── somebody owns it               ──► refused, naming him
         ├── the Interface has 16           ──► the longest unused goes, if any is unused; else refused
         └── bound: the address key and the Interface's status, in one transaction

The key is the same as that of an address that Homeport gave: its absence is the lock, so no address is ever both.
Reference: RFC 6620 (FCFS SAVI), RFC 5227, RFC 4862 §5.4, RFC 4291 appendix A.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Network, ip_network

from homeport_api import wire
from homeport_api.addresses import IpAddress, IpNetwork, is_made_from_mac, link_local_of
from homeport_api.attachment import Nic
from homeport_api.interface import Interface, LearnedAddress
from homeport_api.network import Network
from homeport_api.owner import Owner, OwnerKind
from homeport_ipam import holders
from homeport_ipam.pool import Randomness, gateway_of, never_given, own_prefix, pools_of
from homeport_ipam.release import draft_eviction, draft_surrender
from homeport_ipam.snapshot import Snapshot
from homeport_ipam.transaction import Draft, Transaction
from homeport_store import keys

MOST = 16
"""Learned addresses of one Interface: some days of privacy addresses (RFC 8981) in two prefixes."""
OUTGROWN = "Homeport gives out its family now"

_THIS_NETWORK = IPv4Network("0.0.0.0/8")


class Refusal(StrEnum):
    """Why an address was not bound. `STALE`: the port is not the Interface's any more."""

    NOT_LEARNED = "not learned here"
    TAKEN = "taken"
    FULL = "full"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Answer:
    """`refusal` None: the address is the Interface's, and `interface` is as it is then. `evicted` made room for it."""

    text: str
    refusal: Refusal | None = None
    interface: Interface | None = None
    evicted: IpAddress | None = None


def plan_learn(
    snapshot: Snapshot,
    nic: Nic,
    address: IpAddress,
    neighbours: Sequence[Network],
    unused: Sequence[IpAddress],
    now: float,
) -> tuple[Transaction | None, Answer]:
    """Binds an address to the Interface that this NIC holds. `neighbours` are all Networks, of which those in the same
    L2 domain have a say; `unused` are the learned addresses that may go for this one, the longest unused first."""
    interface = snapshot.interface(nic.interface)
    network = snapshot.network(nic.network)
    domain = network.l2_domain if network else None
    if interface is None or network is None or domain is None or not _holds(interface, nic):
        return None, Answer(f"Interface {nic.interface} is not held by this port any more", Refusal.STALE)
    if address in own_addresses(interface):
        return None, Answer(f"{address} is its own already", interface=interface)
    why = why_not_learned(network, interface, address, neighbours)
    if why is not None:
        return None, Answer(f"{address} {why}", Refusal.NOT_LEARNED)
    claim = snapshot.address(domain, address)
    if claim is not None and not claim.by(interface.key, interface.meta.uid):
        return None, Answer(f"{address} belongs to Interface {claim.owner.interface}", Refusal.TAKEN)
    draft = Draft()
    evicted: IpAddress | None = None
    after = interface
    if len(interface.status.learned) >= MOST:
        known = {each.address for each in interface.status.learned}
        evicted = next((each for each in unused if each in known), None)
        if evicted is None:
            return None, Answer(f"{address} would be one more than {MOST}, all of which are in use", Refusal.FULL)
        after = draft_eviction(snapshot, draft, interface, network, evicted)
    learned = (*after.status.learned, LearnedAddress(address, now))
    after = replace(after, status=replace(after.status, learned=learned))
    key = keys.address(domain, address)
    draft.guard(keys.interface(interface.key), interface.meta.revision)
    draft.guard(key, claim.revision if claim else 0)
    draft.wish(keys.network(network.name), network.meta.revision)
    draft.put(key, wire.OWNER.dumps(Owner(interface.key, interface.meta.uid, OwnerKind.LEARNED)))
    draft.put(keys.interface(interface.key), wire.INTERFACE.stored.dumps(after))
    return draft.finish(), Answer(f"{address} is bound", interface=after, evicted=evicted)


def own_addresses(interface: Interface) -> frozenset[IpAddress]:
    """What is the Interface's alone: given, learned, and the link-local address that its MAC makes, which is as unique
    as that and needs no key."""
    mac = interface.status.mac
    return frozenset((*interface.status.owned, *((link_local_of(mac),) if mac else ())))


def why_not_learned(
    network: Network, interface: Interface, address: IpAddress, neighbours: Sequence[Network]
) -> str | None:
    """Why no guest of the Network, or not this one, may take the address by itself; None when it may."""
    if network.spec.security is not None and not network.spec.security.anti_spoof:
        return f"would be kept from nobody: Network {network.name} has antiSpoof off"
    if not _is_a_hosts(address):
        return "is no address of a host"
    there = [each for each in neighbours if each.l2_domain == network.l2_domain and each.name != network.name]
    for each in (network, *there):
        if address == gateway_of(each, address.version):
            return f"is the gateway of Network {each.name}"
    if address.is_link_local:
        # Also of a router outside, whose MAC nobody here knows. One in 65,536 random ones looks like one that is made.
        return "is made from the MAC of another" if is_made_from_mac(address) else None
    if address.version in given_families(network, interface):
        return f"is of IPv{address.version}, which Homeport gives out on Network {network.name}"
    for each in there:
        for pool in pools_of(each, address.version):
            if address in pool.cidr:
                return f"lies in pool {pool.cidr} of Network {each.name}"
    prefixes = tuple(on_link(network, address.version))
    if prefixes and not any(address in prefix for prefix in prefixes):
        return f"is not on-link: Network {network.name} has {', '.join(map(str, prefixes))}"
    if any(address in never_given(prefix) for prefix in prefixes):
        return "is the address of a network, or of all of it"
    return None


def given_families(network: Network, interface: Interface) -> frozenset[int]:
    """The families of which Homeport gives out this Interface's addresses, so that its guest takes none by itself:
    those that the Network has pools of, or that it owns one of."""
    pools = {pool.cidr.version for pool in network.spec.ipam.pools}
    return frozenset(pools | {address.version for address in interface.status.addresses})


def on_link(network: Network, version: int) -> Iterator[IpNetwork]:
    """The prefixes that the Network says are its own; none where it does not say."""
    own = own_prefix(network, version)
    if own is not None:
        yield own
    if version == 6:
        yield from (ip_network(str(text)) for text in (network.spec.ra or {}).get("prefixes", ()))


def draft_outgrown(
    snapshot: Snapshot, draft: Draft, interface: Interface, network: Network, now: float, random: Randomness
) -> Interface:
    """The Interface, as it will be with the addresses that it is given now, without those learned ones of which it has
    no need: they are given to it by now, or their family is given out."""
    own = {address.ip for address in interface.status.addresses}
    learned = tuple(each for each in interface.status.learned if each.address not in own)
    after = replace(interface, status=replace(interface.status, learned=learned))
    given = given_families(network, after)
    gone = [each.address for each in learned if each.address.version in given and not each.address.is_link_local]
    return draft_surrender(snapshot, draft, after, network, gone, OUTGROWN, now, random) if gone else after


def _holds(interface: Interface, nic: Nic) -> bool:
    same = (interface.meta.uid, interface.status.epoch) == (nic.uid, nic.epoch)
    return same and holders.active_holder(interface.status) is not None


def _is_a_hosts(address: IpAddress) -> bool:
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        return False
    if address.version == 4:
        return not address.is_reserved and address not in _THIS_NETWORK
    return address.ipv4_mapped is None
