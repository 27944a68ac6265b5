"""Who is calling, and which NICs the call asks for.

Pure. `caller_of` is the question of trust: whose word counts for namespace and VM. It answers for a node that is not
told about pods by a controller; `identify` then makes the NICs and does not care where the caller came from.

    CNI_ARGS has K8S_POD_NAME    a pod that is no VM: (K8S_POD_NAMESPACE, K8S_POD_NAME), until its DEL. A VM's name in
                                 the call is refused, since Multus lets the pod's author write it.
    else VM_NAME is said         that VM, for good
    else                         the container, until its DEL
"""

import re
from dataclasses import dataclass

from homeport_api.attachment import Identity, NicRequest, PortKind
from homeport_api.errors import Invalid
from homeport_api.names import parse_identity_name
from homeport_cni import annotation
from homeport_cni.asked import Asked, agree_on_ips, agree_on_mac, parse_asked
from homeport_cni.skel import CniRequest

_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Caller:
    """`interface` is what the caller calls its NIC, None where it says nothing. `pod` is a pod's name or empty."""

    namespace: str
    vm: str
    interface: str | None = None
    ephemeral: bool = False
    pod: str = ""


@dataclass(frozen=True, slots=True)
class Identified:
    """`passthrough`: an ordinary pod in a chained call, whose prevResult is the answer. `nics` is then empty."""

    nics: tuple[NicRequest, ...]
    pod: str
    chained: bool
    passthrough: bool
    warnings: tuple[str, ...] = ()


def identify(request: CniRequest) -> Identified:
    """The NICs of an ADD or CHECK, in the order asked for. Raises Invalid for what contradicts itself, and for a
    configuration that asks for nothing and has no plugin before it."""
    warnings = list(request.conf.warnings)
    if not request.chained:
        if request.conf.names_nothing:
            raise Invalid("ipam: needs network (a Network) or interface (an Interface of the caller's namespace)")
        caller = caller_of(request)
        return Identified(
            (_nic(request, caller),), caller.pod, chained=False, passthrough=False, warnings=tuple(warnings)
        )

    entries = annotation.parse(request.conf.annotations or {})
    if not entries:
        if request.conf.prev_result is None:
            raise Invalid(
                "network: is missing, and so is interface; without both this configuration serves annotated pods and "
                "belongs behind another plugin in a list, whose prevResult it passes on"
            )
        return Identified((), "", chained=True, passthrough=True, warnings=tuple(warnings))
    _refuse_taken_links(request, entries)
    if request.conf.asked.ips or request.conf.asked.mac:
        warnings.append("runtimeConfig: ips and mac are not used in a chained call; name an Interface that has them")
    caller = caller_of(request)
    nics = tuple(
        NicRequest(
            identity=_identity(caller, _checked(entry.interface_name, "interfaceName")),
            link=entry.interface_name,
            network=entry.network,
            interface_object=entry.interface,
        )
        for entry in entries
    )
    return Identified(nics, caller.pod, chained=True, passthrough=False, warnings=tuple(warnings))


def caller_of(request: CniRequest) -> Caller:
    """Whose call this is, from CNI_ARGS and args.cni. Raises Invalid for a pod that claims to be a VM, for two sources
    that disagree, and for names that no object could have."""
    args, cni = request.args, request.conf.args
    said = {
        "namespace": (cni.namespace, args.get("VM_NAMESPACE")),
        "vm": (cni.vm, args.get("VM_NAME")),
        "interface": (cni.interface, args.get("VM_INTERFACE")),
    }
    pod = args.get("K8S_POD_NAME")
    if pod:
        for key, values in said.items():
            if any(values):
                raise Invalid(
                    f"args.cni.{key} and VM_{_ARG[key]} are not taken from a pod: its namespace and name are its "
                    "identity; to use a VM's Interface, name it as interface in the configuration or the annotation"
                )
        namespace = args.get("K8S_POD_NAMESPACE", "")
        return Caller(
            _checked_namespace(namespace, "K8S_POD_NAMESPACE"), _checked(pod, "K8S_POD_NAME"), None, True, pod
        )
    namespace, vm, interface = (_agreed(key, *values) for key, values in said.items())
    return Caller(
        _checked_namespace(namespace or "default", "VM_NAMESPACE"),
        _checked(vm, "VM_NAME") if vm else request.container_id,
        _checked(interface, "VM_INTERFACE") if interface else None,
        ephemeral=not vm,
    )


_ARG = {"namespace": "NAMESPACE", "vm": "NAME", "interface": "INTERFACE"}


def _agreed(key: str, from_conf: str | None, from_args: str | None) -> str:
    if from_conf and from_args and from_conf != from_args:
        raise Invalid(f"args.cni.{key} is {from_conf!r} and CNI_ARGS VM_{_ARG[key]} is {from_args!r}: say one of them")
    return from_conf or from_args or ""


def _checked_namespace(text: str, name: str) -> str:
    if not _NAMESPACE.match(text):
        raise Invalid(f"{name} is {text!r}; a namespace has lower-case letters, digits and '-', at most 63 of them")
    return text


def _checked(text: str, name: str) -> str:
    """What an Interface's record can hold: less than a link's name, and a Multus user's `args.cni`, may be."""
    try:
        return parse_identity_name(text)
    except ValueError as error:
        raise Invalid(f"{name}: {error}") from error


def _identity(caller: Caller, interface: str) -> Identity:
    return Identity(caller.namespace, caller.vm, interface, caller.ephemeral)


def _nic(request: CniRequest, caller: Caller) -> NicRequest:
    """For `homeport-ipam` a MAC in the call is for the plugin that makes the link; here it says nothing."""
    sources = (request.conf.asked, request.conf.args.asked, _from_args(request))
    ips = agree_on_ips(sources)
    return NicRequest(
        identity=_identity(caller, caller.interface or _checked(request.ifname, "CNI_IFNAME without VM_INTERFACE")),
        link=request.ifname,
        network=request.conf.network,
        interface_object=request.conf.interface,
        ips=tuple(prefixed for prefixed in ips.values() if prefixed is not None),
        bare_ips=tuple(address for address, prefixed in ips.items() if prefixed is None),
        mac=None if request.ipam else agree_on_mac(sources),
        wants_mac=not request.ipam,
        kind=PortKind.NONE if request.ipam else PortKind.VETH,
    )


def _from_args(request: CniRequest) -> Asked:
    """CNI_ARGS `IP` (several with commas) and `MAC`."""
    try:
        ips = [ip for ip in request.args.get("IP", "").split(",") if ip]
        return parse_asked("CNI_ARGS", ips, request.args.get("MAC"))
    except ValueError as error:
        raise Invalid(f"CNI_ARGS: {error}") from error


def _refuse_taken_links(request: CniRequest, entries: tuple[annotation.Entry, ...]) -> None:
    taken = request.conf.prev_result.container_links if request.conf.prev_result else frozenset[str]()
    for entry in entries:
        if entry.interface_name in taken:
            raise Invalid(
                f"the pod's annotation asks for a link {entry.interface_name}, which it has already from a plugin "
                "before this one in the list; choose another interfaceName"
            )
