"""Kind to path and back. Pure. The layout is fixed: mixed versions of Homeport share one store.

A segment that could hold a slash or be empty is percent-escaped, so a name can never reach into another's subtree.
"""

import re
from urllib.parse import quote, unquote

from homeport_api.addresses import IpAddress, L2Domain, MacAddress, MacDomain
from homeport_api.attachment import AttachmentKey
from homeport_api.interface import InterfaceKey
from homeport_api.networkpolicy import PolicyKey

PREFIX = "/homeport/v1/"
NETWORKS = PREFIX + "networks/"
INTERFACES = PREFIX + "interfaces/"
INDEX = PREFIX + "index/"
ADDRESSES = PREFIX + "addresses/"
MACS = PREFIX + "macs/"
REST = PREFIX + "rest/"
ZONES = PREFIX + "zones/"
ATTACHMENTS = PREFIX + "attachments/"
REPORTS = PREFIX + "reports/"
POLICY_REPORTS = PREFIX + "policyreports/"
NODES = PREFIX + "nodes/"
MACHINES = PREFIX + "machines/"
WORKLOADS = PREFIX + "workloads/"
POLICIES = PREFIX + "policies/"
NAMESPACES = PREFIX + "namespaces/"
JOURNAL = PREFIX + "journal/"
GENERATION = PREFIX + "generation"
SWEEPER = PREFIX + "sweeper"

UNTAGGED = "untagged"
_SAFE = ":+@,=~"
_PLAIN = re.compile(r"[A-Za-z0-9_.\-~:+@,=]+").fullmatch
"""Nothing to escape, as in nearly every segment: known at a third of the cost, and a plan has dozens of them."""


def escape(segment: str) -> str:
    """One path segment; the empty one becomes `%`, which no escaped text can be."""
    if _PLAIN(segment):
        return segment
    return quote(segment, safe=_SAFE) if segment else "%"


def unescape(segment: str) -> str:
    return "" if segment == "%" else unquote(segment)


def split(key: str, prefix: str) -> tuple[str, ...]:
    """The unescaped segments of `key` below `prefix`."""
    return tuple(unescape(segment) for segment in key.removeprefix(prefix).split("/"))


def network(name: str) -> str:
    return NETWORKS + escape(name)


def interface(key: InterfaceKey) -> str:
    return f"{INTERFACES}{escape(key.namespace)}/{escape(key.name)}"


def interfaces_of(namespace: str) -> str:
    return f"{INTERFACES}{escape(namespace)}/"


def index(namespace: str, vm: str, interface_name: str) -> str:
    """Points from (namespace, VM, interface name) to the Interface object's name."""
    return f"{INDEX}{escape(namespace)}/{escape(vm)}/{escape(interface_name)}"


def index_of(namespace: str, vm: str) -> str:
    return f"{INDEX}{escape(namespace)}/{escape(vm)}/"


def addresses_of(domain: L2Domain) -> str:
    return f"{ADDRESSES}{escape(domain)}/"


def address(domain: L2Domain, value: IpAddress) -> str:
    """The key's absence is the lock; its owner is its value."""
    return f"{ADDRESSES}{escape(domain)}/{value}"


def mac(domain: MacDomain, value: MacAddress, scope: str) -> str:
    """`scope` is the VLAN ID, `untagged` or `trunk`."""
    return f"{MACS}{escape(domain)}/{value}/{escape(scope)}"


def mac_scopes(domain: MacDomain, value: MacAddress) -> str:
    """Every scope of one MAC: a trunk's range compare."""
    return f"{MACS}{escape(domain)}/{value}/"


def rest_of(domain: L2Domain) -> str:
    return f"{REST}{escape(domain)}/"


def rest(domain: L2Domain, value: IpAddress) -> str:
    return f"{REST}{escape(domain)}/{value}"


def zone(domain: L2Domain) -> str:
    """Under the uplink and the VLAN ID or `untagged`; an isolated Network's, under `:blue`, is `untagged`."""
    uplink, _, vlan = domain.rpartition(":")
    place, scope = (uplink, vlan) if uplink else (domain, UNTAGGED)
    return f"{ZONES}{escape(place)}/{escape(scope)}"


def domain_of_zone(key: str) -> L2Domain:
    place, scope = split(key, ZONES)
    return L2Domain(place if place.startswith(":") else f"{place}:{scope}")


def attachments_on(node: str) -> str:
    return f"{ATTACHMENTS}{escape(node)}/"


def attachment(key: AttachmentKey) -> str:
    parts = (key.node, key.plugin, key.cni_name, key.container_id, key.ifname)
    return ATTACHMENTS + "/".join(escape(part) for part in parts)


def reports_on(node: str) -> str:
    return f"{REPORTS}{escape(node)}/"


def report(node: str, network_name: str) -> str:
    return f"{REPORTS}{escape(node)}/{escape(network_name)}"


def policy_report(node: str) -> str:
    return POLICY_REPORTS + escape(node)


def node(name: str) -> str:
    return NODES + escape(name)


def machine(namespace: str, name: str) -> str:
    return f"{MACHINES}{escape(namespace)}/{escape(name)}"


def machines_of(namespace: str) -> str:
    return f"{MACHINES}{escape(namespace)}/"


def workload(namespace: str, name: str) -> str:
    return f"{WORKLOADS}{escape(namespace)}/{escape(name)}"


def policy(key: PolicyKey) -> str:
    return f"{POLICIES}{escape(key.namespace)}/{escape(key.kind)}/{escape(key.name)}"


def policies_of(namespace: str) -> str:
    return f"{POLICIES}{escape(namespace)}/"


def namespace(name: str) -> str:
    return NAMESPACES + escape(name)


def journal(entry: str) -> str:
    return JOURNAL + escape(entry)
