"""What the CNI executables do, in the agent: each command from identified caller to answer.

The protocol itself (variables, versions, error codes) is `homeport_cni`'s; here is what a well-formed call means.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from homeport_agent.attach import Attached, Attacher
from homeport_agent.check import check_port, check_store, require_same
from homeport_agent.journal import Journal
from homeport_agent.ports import port_of
from homeport_agent.readiness import Readiness
from homeport_agent.steps import Add, Hook
from homeport_agent.switch import Guest, Switch
from homeport_api.attachment import AttachmentKey, AttachRequest, PortKind, Source
from homeport_api.errors import BadEnvironment, NotFound
from homeport_cni.identify import Identified, identify
from homeport_cni.result import Result, describe, join
from homeport_cni.skel import CniRequest
from homeport_dataplane.netns import check_guest
from homeport_ipam.view import View

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Node:
    """What every call works with."""

    name: str
    boot_id: str
    attacher: Attacher
    switch: Switch
    view: View
    journal: Journal
    readiness: Readiness
    hook: Hook


class Commands:
    """One call's worth: made for a request with the namespace's descriptor (None: the shim had none to send, or could
    not open it), and thrown away. Held by `homeport_cni.skel`."""

    def __init__(self, node: Node, descriptor: int | None) -> None:
        self._node = node
        self._descriptor = descriptor

    def add(self, request: CniRequest) -> Result:
        identified = self._identify(request)
        if identified.passthrough:
            return Result(after=request.conf.prev_result)
        self._node.hook(Add.IDENTIFIED)
        with self._guest(request, identified) as guest:
            attached = self._node.attacher.attach(
                AttachRequest(
                    self._key(request), Source.CNI, self._node.boot_id, identified.nics, request.netns, identified.pod
                ),
                guest,
            )
        return self._result(request, identified, attached)

    def check(self, request: CniRequest) -> None:
        identified = self._identify(request)
        if identified.passthrough:
            return
        key = self._key(request)
        entry = self._node.journal.find(key)
        if entry is None or entry.ended is not None:
            raise NotFound(f"nothing is attached as {key}: an ADD has to come first")
        attachment = entry.attachment
        with self._node.view.reading() as reading:
            interfaces = tuple(reading.interface(nic.interface) for nic in attachment.nics)
            networks = [reading.network(nic.network) for nic in attachment.nics]
        wrong = check_store(attachment, interfaces)
        with self._guest(request, identified) as guest:
            for index, (nic, network) in enumerate(zip(attachment.nics, networks, strict=True)):
                if network is None:
                    wrong.append(f"Network {nic.network} is gone from the store")
                elif nic.kind is not PortKind.NONE:
                    place = self._node.switch.place(network)
                    port = port_of(key, nic, network, place, interfaces[index], attachment.nics)
                    default_route = guest.default_route and index == 0
                    wrong += check_port(port, interfaces[index], self._node.switch, guest, default_route=default_route)
        require_same(wrong)

    def delete(self, request: CniRequest) -> None:
        """Succeeds for what is gone or never was; nothing of the configuration but name and type is looked at."""
        self._node.attacher.detach(self._key(request), "DEL")

    def gc(self, request: CniRequest) -> None:
        """Ends what this configuration attached here and the runtime no longer knows. Another configuration's
        attachments, those of the command line, and other nodes' are not its to judge."""
        valid = {(ref.container_id, ref.ifname) for ref in request.conf.valid_attachments or ()}
        for entry in self._node.journal.live():
            key = entry.attachment.key
            ours = entry.attachment.source is Source.CNI and (key.plugin, key.cni_name) == (
                request.conf.type,
                request.conf.name,
            )
            if ours and (key.container_id, key.ifname) not in valid:
                self._node.attacher.detach(key, "GC: the runtime no longer knows the attachment")

    def status(self, request: CniRequest) -> None:
        self._node.readiness.require(request.conf.network)

    def crashed(self, error: Exception) -> None:
        log.error("a CNI call failed in a way nobody foresaw", exc_info=error)

    def _identify(self, request: CniRequest) -> Identified:
        identified = identify(request)
        for warning in identified.warnings:
            log.warning("network configuration %s: %s", request.conf.name, warning)
        return identified

    def _key(self, request: CniRequest) -> AttachmentKey:
        return AttachmentKey(
            self._node.name, request.conf.type, request.conf.name, request.container_id, request.ifname
        )

    @contextmanager
    def _guest(self, request: CniRequest, identified: Identified) -> Iterator[Guest]:
        """The container's namespace, from the descriptor that the shim opened. `homeport-ipam` makes no link, so it
        needs none."""
        if request.ipam:
            yield Guest()
            return
        if self._descriptor is None:
            raise BadEnvironment(
                f"CNI_NETNS {request.netns!r} could not be opened: it must be the path of a network namespace"
            )
        forbidden = (self._node.switch.host, self._node.switch.namespace)
        with check_guest(self._descriptor, forbidden) as namespace:
            yield Guest(namespace, default_route=not identified.chained)

    def _result(self, request: CniRequest, identified: Identified, attached: Attached) -> Result:
        results = []
        for index, nic in enumerate(attached.nics):
            links = self._node.switch.links_of(attached.ports[index], request.netns) if attached.ports else ()
            results.append(
                describe(
                    nic,
                    links,
                    default_route=index == 0 and not identified.chained,
                    assigned=not nic.network.external_dhcp,
                )
            )
        return join(results, request.conf.prev_result if identified.chained else None)
