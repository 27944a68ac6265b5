"""CHECK: everything an ADD made, compared with what is there now. All differences are named at once."""

from homeport_agent.ports import Port, guest_config
from homeport_agent.switch import Guest, Switch
from homeport_api.attachment import Attachment
from homeport_api.errors import HomeportError
from homeport_api.interface import Interface
from homeport_dataplane import links, vlan
from homeport_policy import guards


class Different(HomeportError):
    """What CHECK found: the attachment is not as its ADD left it."""


def check_store(attachment: Attachment, interfaces: tuple[Interface | None, ...]) -> list[str]:
    """What the store says otherwise: pure."""
    wrong: list[str] = []
    for nic, interface in zip(attachment.nics, interfaces, strict=True):
        if interface is None or interface.meta.uid != nic.uid:
            wrong.append(f"Interface {nic.interface} is gone from the store")
            continue
        holder = interface.active_holder
        if holder is None or (holder.node, holder.container_id) != (attachment.key.node, attachment.key.container_id):
            wrong.append(f"Interface {nic.interface} is held by {holder or 'nobody'}")
        if set(interface.status.addresses) != set(nic.addresses):
            wrong.append(f"Interface {nic.interface} has other addresses in the store")
    return wrong


def check_port(
    port: Port, interface: Interface | None, switch: Switch, guest: Guest, *, default_route: bool
) -> list[str]:
    """What the kernel has otherwise: the port, its VLANs and guards, and the guest's end."""
    side = switch.side(port.placement.place)
    link = links.find_link(side.namespace, port.name)
    if link is None or link.alias != str(port.mark):
        return [f"port {port.name} is gone from the switch"]
    wrong: list[str] = []
    if not link.up:
        wrong.append(f"port {port.name} is down")
    if port.placement.filtering:
        present = vlan.find_vlans(side.namespace, link.index)
        if present != port.placement.port:
            wrong.append(f"port {port.name} has VLANs {present} instead of {port.placement.port}")
    for name in (guards.PORTS, guards.SPEAKING):
        if port.name not in side.nft.elements(name, side.table):
            wrong.append(f"port {port.name} is not in the set {name} of the guard rules")
    state = switch.read_guest(port, guest)
    if guest.netns is not None and state is None:
        wrong.append(f"link {port.nic.link} is gone from the container")
    elif state is not None:
        if state.link.mac != port.mac:
            wrong.append(f"link {port.nic.link} has MAC {state.link.mac} instead of {port.mac}")
        if guest.configure and interface is not None:
            wrong += state.lacks(guest_config(port.nic, interface, default_route=default_route))
    return wrong


def require_same(wrong: list[str]) -> None:
    """Raises Different naming everything, or returns."""
    if wrong:
        raise Different("; ".join(wrong))
