"""What the CNI executables do, in the agent: each command from identified caller to answer.

The protocol itself (variables, versions, error codes) is `homeport_cni`'s; here is what a well-formed call means.
"""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from homeport_agent.attach import Attached, Attacher
from homeport_agent.check import check_attachment
from homeport_agent.journal import Journal
from homeport_agent.readiness import Readiness
from homeport_agent.steps import Add, Hook
from homeport_agent.switch import Guest, Switch
from homeport_api.attachment import Attachment, AttachmentKey, AttachRequest, NicRequest, PortKind, Source
from homeport_api.errors import BadEnvironment, Invalid, NotFound
from homeport_cni.identify import Identified, identify
from homeport_cni.result import Result, ResultInterface, describe, join
from homeport_cni.skel import CniRequest
from homeport_dataplane.netns import Namespace, check_guest

log = logging.getLogger(__name__)

Descriptor = Callable[[], int | None]


class Commands:
    """One call's worth: made for a request with its descriptor, and thrown away. Held by `homeport_cni.skel`."""

    def __init__(
        self,
        node: str,
        boot_id: str,
        attacher: Attacher,
        switch: Switch,
        journal: Journal,
        readiness: Readiness,
        hook: Hook,
        descriptor: int | None,
    ) -> None:
        self._node = node
        self._boot_id = boot_id
        self._attacher = attacher
        self._switch = switch
        self._journal = journal
        self._readiness = readiness
        self._hook = hook
        self._descriptor = descriptor

    def add(self, request: CniRequest) -> Result:
        identified = self._identify(request)
        if identified.passthrough:
            return Result(after=request.conf.prev_result)
        self._hook(Add.IDENTIFIED)
        with self._guest(request, identified) as guest:
            attached = self._attacher.attach(self._attach_request(request, identified), guest)
        return self._result(request, identified, attached)

    def check(self, request: CniRequest) -> None:
        identified = self._identify(request)
        if identified.passthrough:
            return
        entry = self._journal.find(self._key(request))
        if entry is None or entry.ended is not None:
            raise NotFound(f"nothing is attached as {self._key(request)}: an ADD has to come first")
        with self._guest(request, identified) as guest:
            check_attachment(entry.attachment, self._switch, self._readiness, guest)

    def delete(self, request: CniRequest) -> None:
        """Succeeds for what is gone or never was; nothing of the configuration but name and type is looked at."""
        self._attacher.detach(self._key(request), "DEL")

    def gc(self, request: CniRequest) -> None:
        """Ends what this configuration attached here and the runtime no longer knows. Another configuration's
        attachments, those of the command line, and other nodes' are not its to judge."""
        valid = {(ref.container_id, ref.ifname) for ref in request.conf.valid_attachments or ()}
        for entry in self._journal.live():
            key = entry.attachment.key
            ours = entry.attachment.source is Source.CNI and (key.plugin, key.cni_name) == (
                request.conf.type,
                request.conf.name,
            )
            if ours and (key.container_id, key.ifname) not in valid:
                self._attacher.detach(key, "GC: the runtime no longer knows the attachment")

    def status(self, request: CniRequest) -> None:
        self._readiness.require(request.conf.network)

    def crashed(self, error: Exception) -> None:
        log.error("a CNI call failed in a way nobody foresaw", exc_info=error)

    def _identify(self, request: CniRequest) -> Identified:
        identified = identify(request)
        for warning in identified.warnings:
            log.warning("network configuration %s: %s", request.conf.name, warning)
        return identified

    def _key(self, request: CniRequest) -> AttachmentKey:
        return AttachmentKey(self._node, request.conf.type, request.conf.name, request.container_id, request.ifname)

    def _attach_request(self, request: CniRequest, identified: Identified) -> AttachRequest:
        return AttachRequest(
            self._key(request), Source.CNI, self._boot_id, identified.nics, request.netns, identified.pod
        )

    def _guest(self, request: CniRequest, identified: Identified) -> Guest:
        """The container's namespace, from the descriptor that the shim opened. `homeport-ipam` makes no link, so it
        needs none."""
        if request.ipam:
            return Guest()
        if self._descriptor is None:
            raise BadEnvironment(
                f"CNI_NETNS {request.netns!r} could not be opened: it must be the path of a network namespace"
            )
        forbidden = (self._switch.host, self._switch.namespace)
        return Guest(check_guest(self._descriptor, forbidden), default_route=not identified.chained)

    def _result(self, request: CniRequest, identified: Identified, attached: Attached) -> Result:
        results = []
        for index, nic in enumerate(attached.nics):
            links: tuple[ResultInterface, ...] = ()
            if attached.ports:
                port = attached.ports[index]
                links = self._switch.links_of(port, request.netns)
            results.append(
                describe(
                    nic,
                    links,
                    default_route=index == 0 and not identified.chained,
                    assigned=not nic.network.external_dhcp,
                )
            )
        return join(results, request.conf.prev_result if identified.chained else None)
