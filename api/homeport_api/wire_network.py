"""Field tables of Network. The rules between fields are in `validate_network`."""

from enum import StrEnum

from homeport_api import validate_network as rules
from homeport_api.addresses import AddressRange
from homeport_api.durations import format_duration, parse_duration
from homeport_api.network import (
    DnsConfig,
    Ipam,
    L2Config,
    Lifecycle,
    Network,
    NetworkSpec,
    NetworkStatus,
    NodeReadiness,
    PolicyScope,
    Security,
    StaticAddresses,
    Trunk,
)
from homeport_api.pool import Pool, PoolStatus
from homeport_api.scalars import (
    ADDRESS,
    ADDRESS4,
    ADDRESS6,
    BOOLEAN,
    CIDR,
    COUNT,
    DOMAIN,
    LINK_NAME,
    NETWORK,
    PREFIX6,
    RANGE,
    ROUTE,
    TEXT,
    UNREAD,
    VLAN,
    Choice,
    Constant,
    Integer,
    Number,
    OneOrRange,
    Text,
)
from homeport_api.table import Field, ListOf, Only, Record, Rule, Shape
from homeport_api.wire_meta import CONDITIONS, MANIFEST_META, SELECTOR, STORED_META

NEVER = "Never"


def _read_reclaim(text: str) -> float | None:
    return None if text == NEVER else parse_duration(text)


def _write_reclaim(seconds: float | None) -> str:
    return NEVER if seconds is None else format_duration(seconds)


class RaMode(StrEnum):
    NONE = "None"
    OWN = "Own"


TRUNK: Record[Trunk] = Record(
    Trunk,
    Field(
        "vlans",
        ListOf(OneOrRange(), at_least=1),
        "vlans",
        'VLAN IDs whose frames reach the guest tagged, like [100, "200-210"].',
        required=True,
    ),
    Field(
        "nativeVLAN",
        VLAN,
        "native_vlan",
        "VLAN whose frames reach the guest untagged, and whose addresses are the trunk's own. It may be listed in "
        "vlans or not; its frames are untagged at the guest either way.",
    ),
    rules=(Rule(("vlans",), rules.vlans_listed_once),),
)

L2: Record[L2Config] = Record(
    L2Config,
    Field("vlanID", VLAN, "vlan_id", "VLAN ID on the uplink; absent means untagged. Never changes."),
    Field("trunk", TRUNK, "trunk", "Several VLANs tagged to the guest; excludes vlanID. Never changes."),
    Field("prefixLength4", Integer(1, 32), "prefix_length4", "Prefix of IPv4 addresses written without one."),
    Field("prefixLength6", Integer(1, 128), "prefix_length6", "Prefix of IPv6 addresses written without one."),
    rules=(Rule(("vlanID", "trunk"), rules.vlan_or_trunk),),
)

DNS: Record[DnsConfig] = Record(
    DnsConfig,
    Field("nameservers", ListOf(ADDRESS, unique=True), "nameservers", "Name servers, in order; repeats are dropped."),
    Field("searches", ListOf(DOMAIN, unique=True), "searches", "Search domains, in order."),
)

POOL: Record[Pool] = Record(
    Pool,
    Field("cidr", CIDR, "cidr", "IPv4 or IPv6 prefix of any size.", required=True),
    Field(
        "ranges",
        ListOf(
            Record(
                AddressRange,
                Field("start", ADDRESS, "first", required=True),
                Field("end", ADDRESS, "last", required=True),
                rules=(Rule(("start", "end"), rules.range_in_order),),
            )
        ),
        "ranges",
        "The addresses to give out; the whole of cidr when left out.",
    ),
    Field("exclude", ListOf(RANGE), "exclude", "Never given out: addresses, CIDRs or start-end."),
    rules=(
        Rule(("cidr", "ranges"), rules.ranges_inside),
        Rule(("cidr", "exclude"), rules.exclusions_inside),
    ),
)

IPAM: Record[Ipam] = Record(
    Ipam,
    Field("pools", ListOf(POOL), "pools", "Where Homeport takes addresses from."),
    Field(
        "reclaimAfter",
        Text(_read_reclaim, _write_reclaim),
        "reclaim_after",
        "How long an Interface keeps its addresses once the VirtualMachine object is gone: a duration, or Never. "
        "Default 24h.",
    ),
    rules=(Rule(("pools",), rules.pools_apart),),
)

DHCP_RELAY = Shape(
    Field("servers4", ListOf(ADDRESS4, unique=True, at_least=1), "servers4", "DHCPv4 servers; all of them are asked."),
    Field("servers6", ListOf(ADDRESS6, unique=True, at_least=1), "servers6", "DHCPv6 servers; all of them are asked."),
    Field("relayPool4", RANGE, "relayPool4", "start-end: one address for each node's relay (giaddr)."),
    Field("relayPool6", RANGE, "relayPool6", "start-end: one address for each node's relay."),
    Field("serverIdentifier4", ADDRESS4, "serverIdentifier4", "Server identifier override, the same on every node."),
    rules=(
        Rule(("servers4", "servers6"), rules.relay_has_servers),
        Rule(("servers4", "relayPool4"), rules.relay_has_address4),
        Rule(("relayPool4",), rules.relay_pool_family("relayPool4", 4)),
        Rule(("relayPool6",), rules.relay_pool_family("relayPool6", 6)),
    ),
)

RA = Shape(
    Field("mode", Choice(RaMode), "mode", "None: no router advertisements of ours; Own: Homeport sends them."),
    Field("managed", BOOLEAN, "managed", "The M flag: addresses by DHCPv6."),
    Field("other", BOOLEAN, "other", "The O flag: other settings by DHCPv6."),
    Field("prefixes", ListOf(PREFIX6, unique=True), "prefixes", "Prefixes to advertise."),
)

SECURITY: Record[Security] = Record(
    Security,
    Field("antiSpoof", BOOLEAN, "anti_spoof", "Guests send with their own MAC and addresses only. Default true."),
    Field("dhcpGuard", BOOLEAN, "dhcp_guard", "Guests may not answer DHCP. Default true."),
    Field("raGuard", BOOLEAN, "ra_guard", "Guests may not send router advertisements. Default true."),
)

ACCEPTED = "has no meaning here and is not kept"

SPEC: Record[NetworkSpec] = Record(
    NetworkSpec,
    Field("type", Constant("L2", "Homeport makes Layer 2 networks only"), (), "L2."),
    Field(
        "nodeInterfaceMatcher",
        Only("interfaceName", LINK_NAME, "A NIC, bond or existing bridge, of the same name on every node."),
        "uplink",
        "The uplink. Left out: the Network is isolated inside each node. Never changes.",
    ),
    Field("l2NetworkConfig", L2, "l2", "VLANs, and prefixes of addresses written without one."),
    Field(
        "networkLifecycle",
        Choice(Lifecycle, {"AnthosManaged": Lifecycle.MANAGED}),
        "lifecycle",
        "Managed (default): bridge and VLANs are made and removed; UserManaged: they must be there already.",
    ),
    Field("gateway4", ADDRESS4, "gateway4", "IPv4 router the guests are told."),
    Field("gateway6", ADDRESS6, "gateway6", "IPv6 router the guests are told; may be link-local."),
    Field("routes", ListOf(Only("to", ROUTE), unique=True), "routes", "Further destinations by way of the gateway."),
    Field("dnsConfig", DNS, "dns", "Name servers and search domains the guests are told."),
    Field("mtu", Integer(68, 65535), "mtu", "MTU of the guests' links; the uplink's when left out."),
    Field("ipam", IPAM, "ipam", "Addresses that Homeport gives out itself."),
    Field("externalDHCP4", BOOLEAN, "external_dhcp4", "IPv4 addresses come from a DHCP server on the network."),
    Field("externalDHCP6", BOOLEAN, "external_dhcp6", "IPv6 addresses come from a DHCP server on the network."),
    Field("dhcpRelay", DHCP_RELAY, "dhcp_relay", "Addresses come from DHCP servers on another network."),
    Field("ra", RA, "ra", "Router advertisements."),
    Field("security", SECURITY, "security", "What guests may not do."),
    Field("networkPolicies", Choice(PolicyScope), "network_policies", "Which NetworkPolicies apply. Default All."),
    Field(
        "allowedNamespaces",
        SELECTOR,
        "allowed_namespaces",
        "Namespaces that may attach. Default: all; for trunks: none.",
    ),
    Field(
        "staticAddresses",
        Choice(StaticAddresses),
        "static_addresses",
        "Which addresses users may ask for. Pool (default): those of the pools; Any.",
    ),
    Field("provider", UNREAD, (), ACCEPTED, foreign=True),
    Field("IPAMMode", UNREAD, (), ACCEPTED + ": spec.ipam and spec.externalDHCP4 decide", foreign=True),
    Field("IPAMMode6", UNREAD, (), ACCEPTED + ": spec.ipam and spec.externalDHCP6 decide", foreign=True),
    Field("parametersRef", UNREAD, (), ACCEPTED, foreign=True),
    rules=(
        Rule(("nodeInterfaceMatcher", "l2NetworkConfig"), rules.vlan_needs_uplink),
        Rule(("l2NetworkConfig", "ipam"), rules.trunk_without_native_has_no_pools),
        Rule(("ipam", "externalDHCP4", "externalDHCP6", "dhcpRelay"), rules.one_source_of_addresses),
        Rule(("gateway4", "ipam"), rules.gateway4_reachable),
        Rule(("gateway6", "ipam"), rules.gateway6_reachable),
        Rule(("mtu", "gateway6", "ipam", "externalDHCP6", "ra"), rules.mtu_carries_ipv6),
    ),
)

STATUS: Record[NetworkStatus] = Record(
    NetworkStatus,
    Field("conditions", CONDITIONS, "conditions"),
    Field(
        "pools",
        ListOf(
            Record(
                PoolStatus,
                Field("cidr", NETWORK, "cidr", required=True),
                Field("capacity", COUNT, "capacity", required=True),
                Field("allocated", COUNT, "allocated", required=True),
                Field("free", COUNT, "free", required=True),
                Field("hoursToExhaustion", Number(), "hours_to_exhaustion"),
            )
        ),
        "pools",
    ),
    Field(
        "nodes",
        ListOf(
            Record(
                NodeReadiness,
                Field("name", TEXT, "name", required=True),
                Field("ready", BOOLEAN, "ready", required=True),
                Field("reason", TEXT, "reason"),
            )
        ),
        "nodes",
    ),
    Field("inUse", COUNT, "in_use", "Interfaces that name this Network.", required=True),
)

_SPEC = Field("spec", SPEC, "spec", required=True)
MANIFEST: Record[Network] = Record(
    Network,
    Field("metadata", MANIFEST_META, "meta", required=True),
    _SPEC,
    Field("status", UNREAD, (), silent=True),
)
STORED: Record[Network] = Record(Network, Field("metadata", STORED_META, "meta", required=True), _SPEC)
"""The status is merged by readers and never stored."""
SHOWN: Record[Network] = Record(
    Network,
    Field("metadata", STORED_META, "meta", required=True),
    _SPEC,
    Field("status", STATUS, "status"),
)
