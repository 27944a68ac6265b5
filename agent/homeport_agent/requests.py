"""What the command line asks of the agent: attach, detach, doctor, trace, ping. JSON in, JSON out.

An attachment of the command line is named by VM, interface and link, so a repeat with the same link is the same
attachment, and one with another link finds the Interface held. These callers are administrators of the node.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from homeport_agent.commands import Node
from homeport_agent.doctor import Doctor
from homeport_agent.switch import Guest
from homeport_agent.tracer import Tracer
from homeport_api.addresses import IpAddress, IpInterface, MacAddress, parse_mac
from homeport_api.attachment import AttachmentKey, AttachRequest, Identity, NicRequest, PortKind, Source
from homeport_api.errors import BadInput, Held, Invalid, NotFound
from homeport_api.names import parse_link_name
from homeport_cni.result import describe, encode, join
from homeport_cni.versions import NEWEST
from homeport_dataplane import links
from homeport_dataplane.marks import port_name
from homeport_dataplane.netns import check_guest
from homeport_policy.ends import Asked, Probe, read_probe

log = logging.getLogger(__name__)

PLUGIN = "cli"

TakeDescriptor = Callable[[], int | None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A decoded `attach`."""

    identity: Identity
    kind: PortKind
    link: str
    where: str
    network: str | None
    interface_object: str | None
    ips: tuple[IpInterface, ...]
    bare_ips: tuple[IpAddress, ...]
    mac: MacAddress | None
    take_over: bool


class Requests:
    """Answers one request at a time for each worker of the server."""

    def __init__(self, node: Node, doctor: Doctor, tracer: Tracer) -> None:
        self._node = node
        self._doctor = doctor
        self._tracer = tracer
        self._verbs = {
            "attach": self._attach,
            "detach": self._detach,
            "doctor": self._examine,
            "trace": self._trace,
            "ping": self._ping,
        }

    def answer(self, request: Mapping[str, Any], take_descriptor: TakeDescriptor) -> Any:
        """The result of one request. Raises HomeportError; BadInput for what no command line of ours sends."""
        verb = self._verbs.get(str(request.get("verb")))
        if verb is None:
            raise BadInput(
                f"unknown verb {request.get('verb')!r}: the command line is newer than the agent; upgrade it"
            )
        return verb(request, take_descriptor)

    def _attach(self, request: Mapping[str, Any], take_descriptor: TakeDescriptor) -> Any:
        asked = _read_attach(request)
        nic = NicRequest(
            identity=asked.identity,
            link=asked.link,
            network=asked.network,
            interface_object=asked.interface_object,
            ips=asked.ips,
            bare_ips=asked.bare_ips,
            mac=asked.mac,
            admin=True,
            kind=asked.kind,
        )
        key = AttachmentKey(
            self._node.name, PLUGIN, _owner(asked.identity), f"{asked.kind}:{asked.where}", asked.identity.interface
        )
        netns = asked.where if asked.kind is PortKind.VETH else ""
        if asked.kind is PortKind.TAP:
            self._refuse_second_tap(key, asked.where)
        with self._guest(asked, take_descriptor) as guest:
            attached = self._node.attacher.attach(
                AttachRequest(key, Source.CLI, self._node.boot_id, (nic,), netns=netns, take_over=asked.take_over),
                guest,
            )
        sandbox = netns if asked.kind is PortKind.VETH else ""
        results = [
            describe(
                each,
                self._node.switch.links_of(port, sandbox),
                default_route=asked.kind is not PortKind.HOST,
                assigned=not each.network.external_dhcp,
            )
            for each, port in zip(attached.nics, attached.ports, strict=True)
        ]
        return json.loads(encode(join(results), NEWEST))

    def _refuse_second_tap(self, key: AttachmentKey, name: str) -> None:
        """The tap that is attached was called so, and has another name now: a new one of that name is another guest's,
        and not a repeat."""
        entry, switch = self._node.journal.find(key), self._node.switch
        if entry is None or entry.ended is not None or links.find_link(switch.host, name) is None:
            return
        if any(switch.has_port(port_name(nic.uid, nic.epoch)) for nic in entry.attachment.nics):
            raise Held(
                f"a tap {name} of VM {key.cni_name} is attached and still open, and this is another one: end the "
                "hypervisor that has the first, or give this one another name and another VM"
            )

    def _detach(self, request: Mapping[str, Any], _: TakeDescriptor) -> Any:
        """Everything the command line attached of the VM here, or one interface of it."""
        identity = Identity(_text(request, "namespace"), _text(request, "vm"), str(request.get("interface") or ""))
        found = [
            entry.attachment.key
            for entry in self._node.journal.live()
            if entry.attachment.source is Source.CLI
            and entry.attachment.key.cni_name == _owner(identity)
            and identity.interface in ("", entry.attachment.key.ifname)
        ]
        if not found:
            which = f"interface {identity.interface} of " if identity.interface else ""
            raise NotFound(
                f"{which}VM {_owner(identity)} is not attached on node {self._node.name} by `homeport attach`"
            )
        for key in found:
            self._node.attacher.detach(key, "detach")
        return {"detached": [key.ifname for key in found]}

    def _examine(self, request: Mapping[str, Any], _: TakeDescriptor) -> Any:
        vm = request.get("vm")
        return {"steps": self._doctor.examine(_text(request, "namespace"), str(vm) if vm else None)}

    def _trace(self, request: Mapping[str, Any], _: TakeDescriptor) -> Any:
        port = _optional(request, "port")
        try:
            probe = Probe() if port is None else read_probe(port)
        except ValueError as error:
            raise Invalid(f"--port: {error}") from error
        return self._tracer.trace(
            Asked(
                _text(request, "from"),
                _text(request, "to"),
                probe,
                _optional(request, "network"),
                _text(request, "namespace"),
            )
        )

    def _ping(self, _request: Mapping[str, Any], _: TakeDescriptor) -> Any:
        return {"node": self._node.name, "bootID": self._node.boot_id}

    @contextmanager
    def _guest(self, asked: _Asked, take_descriptor: TakeDescriptor) -> Iterator[Guest]:
        match asked.kind:
            case PortKind.TAP:
                yield Guest(configure=False)
            case PortKind.HOST:
                yield Guest(self._node.switch.host, routed=False)
            case _:
                descriptor = take_descriptor()
                if descriptor is None:
                    raise BadInput("attach --netns came without the namespace's descriptor")
                forbidden = (self._node.switch.host, self._node.switch.namespace)
                try:
                    with check_guest(descriptor, forbidden, f"--netns {asked.where}") as namespace:
                        yield Guest(namespace)
                finally:
                    os.close(descriptor)  # an open one keeps the namespace alive


def host_link(vm: str) -> str:
    """What the node's own end of `attach --host` is called: `hp-<vm>`, or `hp=<hash>` where that is no link name. It
    never meets one of the node's links, as `eth0` would."""
    name = f"hp-{vm}"
    with suppress(ValueError):
        return parse_link_name(name)
    return f"hp={hashlib.sha256(vm.encode()).hexdigest()[:11]}"


def _read_attach(request: Mapping[str, Any]) -> _Asked:
    kinds = {"tap": PortKind.TAP, "netns": PortKind.VETH, "host": PortKind.HOST}
    kind = kinds.get(_text(request, "kind"))
    if kind is None:
        raise BadInput(f"kind is {request.get('kind')!r}; it must be one of {', '.join(kinds)}")
    identity = Identity(_text(request, "namespace"), _text(request, "vm"), _text(request, "interface"))
    where = {PortKind.TAP: "tap", PortKind.VETH: "netns"}.get(kind)
    place = _text(request, where) if where else "node"
    link = {PortKind.TAP: place, PortKind.HOST: host_link(identity.vm)}.get(kind, identity.interface)
    try:
        parse_link_name(link)
    except ValueError as error:
        raise Invalid(f"--interface: {error}") from error
    full: list[IpInterface] = []
    bare: list[IpAddress] = []
    for text in request.get("ips") or ():
        try:
            address = ip_interface(str(text))
        except ValueError as error:
            raise Invalid(f"--ip {text}: {error}") from error
        if "/" in str(text):
            full.append(address)
        else:
            bare.append(address.ip)
    mac = request.get("mac")
    try:
        asked_mac = parse_mac(str(mac)) if mac else None
    except ValueError as error:
        raise Invalid(f"--mac: {error}") from error
    return _Asked(
        identity,
        kind,
        link,
        place,
        _optional(request, "network"),
        _optional(request, "interfaceObject"),
        tuple(full),
        tuple(bare),
        asked_mac,
        bool(request.get("takeOver")),
    )


def _text(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not value:
        raise BadInput(f"the request has no {name}")
    return value


def _optional(request: Mapping[str, Any], name: str) -> str | None:
    value = request.get(name)
    return str(value) if value else None


def _owner(identity: Identity) -> str:
    return f"{identity.namespace}/{identity.vm}"
