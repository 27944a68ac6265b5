"""Names, MACs and aliases of the links that are ours, and back. Pure: the same on every node and after every restart.

The alias of a port says whose it is, so that after a crash the kernel alone tells which ports exist. Link names have at
most 15 characters (IFNAMSIZ) and neither colon nor slash; aliases have at most 254 (IFALIASZ, with a terminating zero).
"""

import hashlib
from dataclasses import dataclass

from homeport_api.addresses import MacAddress, MacDomain
from homeport_api.interface import InterfaceKey

PORT_PREFIX = "hp"
_UPLINK_BRIDGE, _ISOLATED_BRIDGE, UPLINK_PREFIX = "hpb", "hpi", "hpu"
OWN_PREFIXES = tuple(f"{kind}{end}" for kind in (_UPLINK_BRIDGE, _ISOLATED_BRIDGE, UPLINK_PREFIX) for end in "-=")
"""What names of bridges and uplinks begin with. With the separator: a port's name goes on with any hex digit."""
"""What bridges and uplinks of ours are called in the switch."""
_NAME_LENGTH = 15
_ALIAS_LENGTH = 254
_OWNER = "homeport"
DISCARDED = f"{_OWNER}:discarded"
"""The alias of a link that only waits for its deletion."""


@dataclass(frozen=True, slots=True)
class PortMark:
    """Whose port a link is: Interface, uid and epoch. `origin` is the name a tap had before it became a port. In an
    alias a name too long for it is cut, with a hash: who is meant is told by the uid, and two marks are the same when
    their texts are."""

    interface: InterfaceKey
    uid: str
    epoch: int
    origin: str = ""

    def __str__(self) -> str:
        rest = f":{self.uid}:{self.epoch}:{self.origin}"
        whole = f"{_OWNER}:{self.interface}{rest}"
        if len(whole.encode()) <= _ALIAS_LENGTH:
            return whole
        end = f"={_hash(str(self.interface), 12)}{rest}"
        return whole[: _ALIAS_LENGTH - len(end.encode())] + end


def parse_mark(alias: str) -> PortMark | None:
    """The mark that an alias holds, with the Interface's name as it stands there; None for every other alias."""
    match alias.split(":"):
        case [owner, interface, uid, epoch, origin] if owner == _OWNER and epoch.isdecimal():
            namespace, slash, name = interface.partition("/")
            return PortMark(InterfaceKey(namespace, name), uid, int(epoch), origin) if slash else None
    return None


def port_name(uid: str, epoch: int) -> str:
    """A port's name in the switch. The epoch is part of it, so that an Interface that is attached again does not wait
    for its former port to be deleted."""
    return PORT_PREFIX + _hash(f"port {uid} {epoch}", 12)


def port_mac(uid: str, epoch: int) -> MacAddress:
    """A locally administered MAC for the switch's end, which is never the guest's: a bridge claims its ports' own MACs
    for itself. The first octet, fe, keeps it from becoming the MAC of a bridge, which takes the lowest of its
    ports'."""
    digest = _hash(f"mac {uid} {epoch}", 10)
    return MacAddress(":".join(("fe", *(digest[at : at + 2] for at in range(0, 10, 2)))))


def bridge_name(domain: MacDomain) -> str:
    """The bridge of an uplink (`hpb-bond0`) or of an isolated Network (`hpi-blue`)."""
    if domain.startswith(":"):
        return _named(_ISOLATED_BRIDGE, domain[1:])
    return _named(_UPLINK_BRIDGE, domain)


def bridge_mac(name: str) -> MacAddress:
    """A bridge's own MAC: fixed, or it would follow its ports'."""
    digest = _hash(f"bridge {name}", 10)
    return MacAddress(":".join(("fe", *(digest[at : at + 2] for at in range(0, 10, 2)))))


def uplink_name(uplink: str) -> str:
    """The uplink's link inside the switch: `hpu-bond0`."""
    return _named(UPLINK_PREFIX, uplink)


def _named(prefix: str, name: str) -> str:
    """`prefix-name` where it fits, else `prefix=hash`: the separators keep the two from ever meeting."""
    whole = f"{prefix}-{name}"
    return whole if len(whole) <= _NAME_LENGTH else f"{prefix}={_hash(f'{prefix} {name}', 11)}"


def _hash(value: str, digits: int) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:digits]
