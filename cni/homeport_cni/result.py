"""The result of an ADD: what was made, which addresses it has, and what the guest is told.

Pure. Reference: CNI SPEC 1.1.0, section 5 "ADD Success" and "Delegated plugins (IPAM)"; older forms by `versions`.
A chained call's result is the prevResult, untouched down to the keys we do not know, with ours appended to it.
"""

import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from homeport_api.addresses import IpAddress, IpInterface, IpNetwork
from homeport_api.attachment import AttachedNic
from homeport_api.errors import FieldError, Invalid
from homeport_cni.versions import FORMS, ResultForm


@dataclass(frozen=True, slots=True)
class ResultInterface:
    """A link. `sandbox` is the netns path of the container's own link and empty for links on the node: runtimes take
    every link that has one as the pod's."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int | None = None


@dataclass(frozen=True, slots=True)
class ResultIp:
    """`interface` is an index into the result's interfaces; None in the result of an IPAM plugin."""

    address: IpInterface
    gateway: IpAddress | None = None
    interface: int | None = None


@dataclass(frozen=True, slots=True)
class ResultRoute:
    dst: IpNetwork
    gw: IpAddress | None = None


@dataclass(frozen=True, slots=True)
class ResultDns:
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PrevResult:
    """The prevResult of a call: `raw` as it came, and its links, which are all that is decided by."""

    raw: Mapping[str, Any]
    interfaces: tuple[ResultInterface, ...] = ()
    ips: tuple[ResultIp, ...] = ()

    @property
    def container_links(self) -> frozenset[str]:
        """Names taken inside the container's namespace."""
        return frozenset(link.name for link in self.interfaces if link.sandbox)


@dataclass(frozen=True, slots=True)
class Result:
    """`after` is the prevResult that this one is appended to; indexes in `ips` count from our own first interface."""

    interfaces: tuple[ResultInterface, ...] = ()
    ips: tuple[ResultIp, ...] = ()
    routes: tuple[ResultRoute, ...] = ()
    dns: ResultDns = ResultDns()
    after: PrevResult | None = None


def routes_of(attached: AttachedNic, default_route: bool) -> tuple[ResultRoute, ...]:
    """The Network's routes through the gateway of their family (without one: on the link), and none of a family in
    which the NIC has no address. `default_route` adds the way out through each gateway: right for the pod's own link,
    wrong for a further one beside it."""
    status, routes = attached.interface.status, []
    families = {address.version for address in attached.nic.addresses}
    gateways: dict[int, IpAddress | None] = {4: status.gateway4, 6: status.gateway6}
    if default_route:
        everything: dict[int, IpNetwork] = {4: ipaddress.IPv4Network("0.0.0.0/0"), 6: ipaddress.IPv6Network("::/0")}
        routes += [ResultRoute(everything[version], gw) for version, gw in gateways.items() if gw is not None]
    routes += [ResultRoute(to, gateways[to.version]) for to in status.routes]
    return tuple(dict.fromkeys(route for route in routes if route.dst.version in families))


def describe(
    attached: AttachedNic,
    links: tuple[ResultInterface, ...],
    *,
    default_route: bool,
    assigned: bool = True,
) -> Result:
    """One NIC's result. `links` are bridge, host link and container link, the last being what the addresses are on;
    empty for `homeport-ipam`, whose caller makes the link. `assigned` False leaves `ips` and what hangs on them empty:
    the guest asks a DHCP server for all of it."""
    status = attached.interface.status
    if not assigned:
        return Result(interfaces=links)
    gateways: dict[int, IpAddress | None] = {4: status.gateway4, 6: status.gateway6}
    index = len(links) - 1 if links else None
    return Result(
        interfaces=links,
        ips=tuple(ResultIp(address, gateways[address.version], index) for address in attached.nic.addresses),
        routes=routes_of(attached, default_route),
        dns=ResultDns(tuple(str(server) for server in status.dns.nameservers), status.dns.searches),
    )


def join(results: Iterable[Result], after: PrevResult | None = None) -> Result:
    """The results of several NICs as one. A link on the node that several share (their bridge) appears once."""
    interfaces: list[ResultInterface] = []
    ips: list[ResultIp] = []
    routes: dict[ResultRoute, None] = {}
    nameservers: dict[str, None] = {}
    search: dict[str, None] = {}
    for result in results:
        places: list[int] = []
        for link in result.interfaces:
            shared = not link.sandbox and link in interfaces
            places.append(interfaces.index(link) if shared else len(interfaces))
            if not shared:
                interfaces.append(link)
        ips += [replace(ip, interface=None if ip.interface is None else places[ip.interface]) for ip in result.ips]
        routes |= dict.fromkeys(result.routes)
        nameservers |= dict.fromkeys(result.dns.nameservers)
        search |= dict.fromkeys(result.dns.search)
    return Result(tuple(interfaces), tuple(ips), tuple(routes), ResultDns(tuple(nameservers), tuple(search)), after)


def encode(result: Result, version: str) -> bytes:
    """The JSON for stdout, in the configuration's version. With nothing of ours, a prevResult passes as it came. The
    pod's own resolver stays: a further NIC never replaces a prevResult's dns."""
    before: Mapping[str, Any] = {} if result.after is None else result.after.raw
    document: dict[str, Any] = dict(before)
    if not before or result.interfaces or result.ips:
        form = FORMS[version]
        offset = len(before.get("interfaces") or ())
        _append(document, "interfaces", [_interface(link, form) for link in result.interfaces])
        _append(document, "ips", [_ip(ip, form, offset) for ip in result.ips])
        _append(document, "routes", [_route(route) for route in result.routes])
        dns = {"nameservers": list(result.dns.nameservers), "search": list(result.dns.search)}
        document["dns"] = before.get("dns") or {key: values for key, values in dns.items() if values}
        document = {"cniVersion": version} | {key: document[key] for key in document if key != "cniVersion"}
        if result.interfaces:
            document.setdefault("ips", [])
    return json.dumps(document).encode() + b"\n"


def _append(document: dict[str, Any], key: str, entries: list[dict[str, Any]]) -> None:
    if entries:
        document[key] = [*(document.get(key) or ()), *entries]


def _interface(link: ResultInterface, form: ResultForm) -> dict[str, Any]:
    document: dict[str, Any] = {"name": link.name}
    if link.mac:
        document["mac"] = link.mac
    if link.mtu is not None and form.mtu:
        document["mtu"] = link.mtu
    if link.sandbox:
        document["sandbox"] = link.sandbox
    return document


def _ip(ip: ResultIp, form: ResultForm, offset: int) -> dict[str, Any]:
    document: dict[str, Any] = {"version": str(ip.address.version)} if form.ip_version else {}
    document["address"] = str(ip.address)
    if ip.gateway is not None:
        document["gateway"] = str(ip.gateway)
    if ip.interface is not None:
        document["interface"] = ip.interface + offset
    return document


def _route(route: ResultRoute) -> dict[str, Any]:
    return {"dst": str(route.dst)} if route.gw is None else {"dst": str(route.dst), "gw": str(route.gw)}


def decode(document: Mapping[str, Any], path: str = "prevResult") -> Result:
    """A result of any supported version, as CHECK and the command line read it. Raises Invalid with all errors."""
    errors: list[FieldError] = []
    interfaces = tuple(
        ResultInterface(
            _text(entry, "name", at, errors),
            _text(entry, "mac", at, errors),
            _text(entry, "sandbox", at, errors),
            entry["mtu"] if isinstance(entry.get("mtu"), int) else None,
        )
        for at, entry in _entries(document, "interfaces", path, errors)
    )
    ips = tuple(
        ip
        for at, entry in _entries(document, "ips", path, errors)
        if (ip := _decode_ip(entry, at, len(interfaces), errors)) is not None
    )
    routes = tuple(
        route
        for at, entry in _entries(document, "routes", path, errors)
        if (route := _decode_route(entry, at, errors)) is not None
    )
    dns = ResultDns(*(_dns_entries(document, key, path, errors) for key in ("nameservers", "search")))
    if errors:
        raise Invalid(errors)
    return Result(interfaces, ips, routes, dns)


def decode_prev(document: Mapping[str, Any]) -> PrevResult:
    """The prevResult of a configuration, kept as it came beside what is read of it."""
    result = decode(document)
    return PrevResult(document, result.interfaces, result.ips)


def _entries(
    document: Mapping[str, Any], key: str, path: str, errors: list[FieldError]
) -> list[tuple[str, Mapping[str, Any]]]:
    entries = document.get(key)
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        errors.append(FieldError(f"{path}.{key}", "must be a list of objects"))
        return []
    return [(f"{path}.{key}[{index}]", entry) for index, entry in enumerate(entries)]


def _dns_entries(document: Mapping[str, Any], key: str, path: str, errors: list[FieldError]) -> tuple[str, ...]:
    dns = document.get("dns") or {}
    values = dns.get(key) or [] if isinstance(dns, Mapping) else None
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return tuple(values)
    errors.append(FieldError(f"{path}.dns.{key}", "must be a list of strings"))
    return ()


def _text(entry: Mapping[str, Any], key: str, at: str, errors: list[FieldError]) -> str:
    value = entry.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    errors.append(FieldError(f"{at}.{key}", "must be a string"))
    return ""


def _decode_ip(entry: Mapping[str, Any], at: str, links: int, errors: list[FieldError]) -> ResultIp | None:
    index = entry.get("interface")
    if index is not None and (not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < links):
        errors.append(FieldError(f"{at}.interface", f"must be an index into the {links} interfaces"))
        return None
    try:
        address = ipaddress.ip_interface(_text(entry, "address", at, errors))
        gateway = _text(entry, "gateway", at, errors)
        return ResultIp(address, ipaddress.ip_address(gateway) if gateway else None, index)
    except ValueError as error:
        errors.append(FieldError(at, str(error)))
        return None


def _decode_route(entry: Mapping[str, Any], at: str, errors: list[FieldError]) -> ResultRoute | None:
    try:
        gw = _text(entry, "gw", at, errors)
        return ResultRoute(
            ipaddress.ip_network(_text(entry, "dst", at, errors), strict=False),
            ipaddress.ip_address(gw) if gw else None,
        )
    except ValueError as error:
        errors.append(FieldError(at, str(error)))
        return None
