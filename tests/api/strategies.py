"""Hypothesis strategies for objects of the vocabulary: valid ones, as wide as the rules let them be."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from hypothesis import strategies as st

from homeport_api.addresses import AddressRange, IpInterface, IpNetwork, MacAddress, VlanId, VlanRange
from homeport_api.attachment import Attachment, AttachmentKey, Nic, PortKind, Source
from homeport_api.interface import (
    AllowedAddress,
    Holder,
    Interface,
    InterfaceKey,
    InterfaceSpec,
    InterfaceStatus,
    LearnedAddress,
    Phase,
    Role,
)
from homeport_api.meta import Condition, ObjectMeta
from homeport_api.network import (
    DnsConfig,
    Ipam,
    L2Config,
    Lifecycle,
    Network,
    NetworkSpec,
    PolicyScope,
    Security,
    StaticAddresses,
    Trunk,
)
from homeport_api.networkpolicy import (
    NAME_LABEL,
    NETWORK_ANNOTATIONS,
    POLICY_FOR,
    Direction,
    IpBlock,
    Namespace,
    NetworkPolicy,
    PolicyKind,
    PolicyPort,
    PolicyRule,
    PolicySpec,
    WorkloadPeer,
)
from homeport_api.pool import Pool
from homeport_api.selector import Operator, Requirement, Selector
from homeport_api.workload import NamedPort, Protocol, Workload

names = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)
links = st.from_regex(r"[a-z][a-z0-9.-]{0,14}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20)
times = st.floats(1e9, 4e9, allow_nan=False)
vlans = st.integers(1, 4094).map(VlanId)
macs = st.integers(1, 2**46 - 1).map(
    lambda n: MacAddress(
        ":".join(f"{octet:02x}" for octet in ((n >> 40) << 2 | 2, *(n & (2**40 - 1)).to_bytes(5, "big")))
    )
)
hosts4 = st.integers(int(IPv4Address("10.0.0.1")), int(IPv4Address("10.255.255.254"))).map(IPv4Address)
hosts6 = st.integers(int(IPv6Address("2001:db8::1")), int(IPv6Address("2001:db8::ffff:ffff"))).map(IPv6Address)
labels = st.dictionaries(names, names, max_size=3)
metas = st.builds(
    ObjectMeta, names, st.just(""), st.uuids().map(str), labels, st.dictionaries(names, texts, max_size=2), times
)
namespaced_metas = st.builds(ObjectMeta, names, names, st.uuids().map(str), labels, created=times)


def _requirements(operator: Operator) -> st.SearchStrategy[Requirement]:
    some = st.lists(names | st.just(""), min_size=1, max_size=3).map(tuple)
    values = some if operator in {Operator.IN, Operator.NOT_IN} else st.just(())
    return st.builds(Requirement, names, st.just(operator), values)


selectors = st.builds(
    Selector,
    labels.map(lambda found: tuple(sorted(found.items()))),
    st.lists(st.sampled_from(Operator).flatmap(_requirements), max_size=2).map(tuple),
)


@st.composite
def pools(draw: st.DrawFn, third: int) -> Pool:
    cidr: IpNetwork = draw(st.sampled_from([IPv4Network(f"10.{third}.0.0/22"), IPv6Network(f"2001:db8:{third}::/64")]))
    cuts = sorted(draw(st.lists(st.integers(1, 1000), min_size=0, max_size=6, unique=True)))
    spans = [AddressRange(cidr[first], cidr[last]) for first, last in zip(cuts[::2], cuts[1::2], strict=False)]
    excluded = draw(st.lists(st.integers(1, 1000).map(lambda at: AddressRange(cidr[at], cidr[at])), max_size=2))
    return Pool(cidr, tuple(spans), tuple(excluded))


@st.composite
def trunks(draw: st.DrawFn) -> Trunk:
    cuts = sorted(draw(st.lists(vlans, min_size=2, max_size=8, unique=True)))
    spans = tuple(VlanRange(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False))
    return Trunk(spans, draw(vlans))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    uplink = draw(st.none() | links)
    vlan_id = draw(st.none() | vlans) if uplink else None
    trunk = draw(st.none() | trunks()) if uplink and vlan_id is None else None
    return Network(
        draw(metas),
        NetworkSpec(
            uplink,
            L2Config(vlan_id, trunk, draw(st.none() | st.integers(1, 32)), draw(st.none() | st.integers(1, 128))),
            draw(st.sampled_from(Lifecycle)),
            routes=tuple(
                draw(st.lists(st.sampled_from([IPv4Network("10.9.0.0/16"), IPv6Network("fd00::/8")]), unique=True))
            ),
            dns=DnsConfig(tuple(draw(st.lists(hosts4 | hosts6, max_size=3, unique=True))), ("example.org",)),
            mtu=draw(st.none() | st.integers(1280, 65535)),
            ipam=Ipam(
                tuple(draw(pools(at)) for at in range(draw(st.integers(0, 3)))),
                draw(st.none() | st.integers(1, 10**7).map(float)),
            ),
            security=draw(st.none() | st.builds(Security, st.booleans(), st.booleans(), st.booleans())),
            network_policies=draw(st.none() | st.sampled_from(PolicyScope)),
            allowed_namespaces=draw(st.none() | selectors),
            ra=draw(st.none() | st.just({"mode": "Own", "managed": True})),
            static_addresses=draw(st.sampled_from(StaticAddresses)),
        ),
    )


@st.composite
def interface_specs(draw: st.DrawFn) -> InterfaceSpec:
    addresses: list[IpInterface] = []
    bare = []
    if (four := draw(st.none() | hosts4)) is not None:
        prefix = draw(st.sampled_from([31, 32]))
        addresses.append(IPv4Interface((four, prefix)))
        if prefix == 32 and draw(st.booleans()):
            bare.append(four)
    if (six := draw(st.none() | hosts6)) is not None:
        addresses.append(IPv6Interface((six, 128)))
    identity = draw(st.none() | st.tuples(names, names))
    return InterfaceSpec(
        draw(names),
        tuple(addresses),
        tuple(bare),
        draw(st.none() | macs),
        *(identity or (None, None)),
        allowed=tuple(
            draw(st.lists(st.builds(AllowedAddress, hosts4 | hosts6, st.none() | vlans), max_size=2, unique=True))
        ),
        trusted=tuple(draw(st.lists(st.sampled_from(["dhcpServer", "router"]), unique=True))),
    )


conditions = st.builds(Condition, names, st.sampled_from(["True", "False", "Unknown"]), texts, texts, times)
holders = st.builds(Holder, names, texts, texts, links, st.sampled_from(Role), times, names, texts)
statuses = st.builds(
    InterfaceStatus,
    st.lists(st.builds(lambda ip: IPv4Interface((ip, 24)), hosts4), max_size=1).map(tuple),
    st.none() | macs,
    st.none() | hosts4,
    st.none() | hosts6,
    phase=st.sampled_from(Phase),
    epoch=st.integers(0, 2**40),
    holders=st.lists(holders, max_size=2).map(tuple),
    conditions=st.lists(conditions, max_size=2).map(tuple),
    pod=texts,
    ephemeral=st.booleans(),
    orphaned=st.none() | times,
    learned=st.lists(st.builds(LearnedAddress, hosts4 | hosts6, times), max_size=2).map(tuple),
)
interfaces = st.builds(Interface, namespaced_metas, interface_specs(), statuses)
interface_keys = st.builds(InterfaceKey, names, names)
nics = st.builds(
    Nic,
    interface_keys,
    texts,
    st.integers(0, 2**40),
    names,
    links,
    links,
    st.sampled_from(PortKind),
    st.none() | macs,
    st.lists(st.builds(lambda ip: IPv4Interface((ip, 24)), hosts4), max_size=2).map(tuple),
)
attachments = st.builds(
    Attachment,
    st.builds(AttachmentKey, names, names, texts, texts, links),
    st.sampled_from(Source),
    texts,
    st.lists(nics, max_size=3).map(tuple),
    texts,
    times,
)

port_names = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,7})?", fullmatch=True)
port_numbers = st.integers(1, 65535)
workloads = st.builds(
    Workload,
    names,
    names,
    labels,
    st.lists(st.builds(NamedPort, port_names, port_numbers, st.sampled_from(Protocol)), max_size=2).map(tuple),
)


@st.composite
def ip_blocks(draw: st.DrawFn) -> IpBlock:
    cidr: IpNetwork
    if draw(st.booleans()):
        cidr = IPv4Network((draw(hosts4), draw(st.integers(0, 32))), strict=False)
    else:
        cidr = IPv6Network((draw(hosts6), draw(st.integers(0, 128))), strict=False)
    excepts: list[IpNetwork] = []
    if cidr.prefixlen < cidr.max_prefixlen:
        for _ in range(draw(st.integers(0, 2))):
            longer = draw(st.integers(cidr.prefixlen + 1, cidr.max_prefixlen))
            offset = draw(st.integers(0, cidr.num_addresses - 1))
            if isinstance(cidr, IPv4Network):
                excepts.append(IPv4Network((int(cidr.network_address) + offset, longer), strict=False))
            else:
                excepts.append(IPv6Network((int(cidr.network_address) + offset, longer), strict=False))
    return IpBlock(cidr, tuple(excepts))


@st.composite
def policy_ports(draw: st.DrawFn) -> PolicyPort:
    port = draw(st.none() | port_names | port_numbers)
    end = draw(st.none() | st.integers(port, 65535)) if isinstance(port, int) else None
    return PolicyPort(draw(st.sampled_from(Protocol)), port, end)


workload_peers = st.tuples(st.none() | selectors, st.none() | selectors).filter(any).map(lambda two: WorkloadPeer(*two))
policy_rules = st.builds(
    PolicyRule,
    st.lists(workload_peers | ip_blocks(), max_size=3).map(tuple),
    st.lists(policy_ports(), max_size=3).map(tuple),
)
policy_specs = st.builds(
    PolicySpec,
    selectors,
    st.frozensets(st.sampled_from(Direction), min_size=1),
    st.lists(policy_rules, max_size=2).map(tuple),
    st.lists(policy_rules, max_size=2).map(tuple),
)


@st.composite
def policies(draw: st.DrawFn) -> NetworkPolicy:
    kind = draw(st.sampled_from(PolicyKind))
    meta = draw(namespaced_metas)
    networks: tuple[tuple[str, str], ...] = ()
    annotations: dict[str, str] = {}
    if kind is PolicyKind.NETWORK_POLICY:
        if (network := draw(st.none() | names)) is not None:
            networks = (("", network),)
            annotations = {draw(st.sampled_from(NETWORK_ANNOTATIONS)): network}
    else:
        networks = tuple(draw(st.lists(st.tuples(st.just(meta.namespace) | names, names), max_size=3, unique=True)))
        annotations = {POLICY_FOR: ", ".join(map("/".join, networks))} if networks else {}
    return NetworkPolicy(kind, replace(meta, annotations=annotations), draw(policy_specs), networks)


namespaces = metas.map(lambda meta: Namespace(replace(meta, labels={**meta.labels, NAME_LABEL: meta.name})))
