"""What the kernel says, sorted: is it about something of ours, and is it other than we left it?

Our own changes are told too, so each event is held against what should be, with one small read at the most; only a
difference is told. So 250 attaches at once wake nobody, and one `bridge vlan del` does at once.
"""

import logging
import threading
from collections.abc import Callable

from homeport_agent.placement import Place
from homeport_agent.ports import Port
from homeport_agent.switch import Switch
from homeport_api.errors import HomeportError
from homeport_dataplane import links, marks, vlan
from homeport_dataplane.monitor import Event, LinkChanged, LinkGone, Lost, Monitor, RulesetChanged, VlansChanged

log = logging.getLogger(__name__)


class Events:
    """Listens in the switch and in the host's namespace from construction to `close`."""

    def __init__(self, switch: Switch, differs: Callable[[Place], None]) -> None:
        self._switch = switch
        self._differs = differs
        self._monitors = {place: Monitor(switch.side(place).namespace) for place in Place}
        self._threads = [
            threading.Thread(target=self._listen, args=(place,), name=f"events-{place.value}", daemon=True)
            for place in Place
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for monitor in self._monitors.values():
            monitor.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(5.0)

    def _listen(self, place: Place) -> None:
        for event in self._monitors[place]:
            try:
                matters = self._matters(place, event)
            except HomeportError as error:
                log.warning("kernel event not understood place=%s event=%s error=%s", place.value, event, error)
                matters = True
            if matters:
                log.info("kernel event place=%s event=%s", place.value, event)
                self._differs(place)

    def _matters(self, place: Place, event: Event) -> bool:
        match event:
            case Lost():
                self._switch.forget()
                return True
            case RulesetChanged():
                return not event.ours and self._switch.side(place).table in event.tables
            case LinkGone():
                if place is Place.HOST:
                    self._switch.forget(event.name)
                return self._is_ours(place, event.name)
            case LinkChanged():
                return self._link_differs(place, event.link)
            case VlansChanged():
                return self._vlans_differ(place, event.index)

    def _is_ours(self, place: Place, name: str) -> bool:
        if self._switch.plugged(name):
            return True
        return self._switch.uses(name) if place is Place.HOST else self._switch.owns(name)

    def _link_differs(self, place: Place, link: links.Link) -> bool:
        port = self._switch.opened().get(link.name)
        if port is not None:
            return self._port_differs(place, link, port) and self._still_differs(place, link, port)
        if place is Place.HOST and (self._switch.uses(link.name) or self._sub_interface(link)):
            self._switch.forget(link.name)
            return True
        if place is not Place.SWITCH or not self._switch.owns(link.name):
            return False
        return not link.up or not self._switch.bridge_is_right(link)

    def _port_differs(self, place: Place, link: links.Link, port: Port) -> bool:
        return link.mark is None or not link.up or not self._is_on(place, link, self._switch.bridge_of(port.placement))

    def _still_differs(self, place: Place, link: links.Link, port: Port) -> bool:
        """An event may be read late, and then tells of a port as it was while it was made. One that is gone by now has
        an event of its own."""
        now = links.find_link(self._switch.side(place).namespace, link.name)
        return now is not None and self._port_differs(place, now, port)

    def _is_on(self, place: Place, link: links.Link, bridge: str) -> bool:
        if link.master is None:
            return False
        master = links.find_index(self._switch.side(place).namespace, link.master)
        return master is not None and master.name == bridge

    def _sub_interface(self, link: links.Link) -> bool:
        """A VLAN link of the host on an uplink: its VLAN is the host's from now on."""
        return link.kind == "vlan"

    def _vlans_differ(self, place: Place, index: int) -> bool:
        namespace = self._switch.side(place).namespace
        link = links.find_index(namespace, index)
        if link is None:
            return False
        port = self._switch.opened().get(link.name)
        if port is not None:
            return vlan.find_vlans(namespace, index) != port.placement.port
        if place is Place.SWITCH and link.name.startswith(marks.UPLINK_PREFIX):
            return not self._switch.uplink_is_right(link.name, vlan.find_vlans(namespace, index))
        return place is Place.SWITCH and self._switch.owns(link.name) and not self._switch.bridge_is_right(link)
