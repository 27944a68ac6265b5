"""Elements as the kernel lists them, read back by the type of their set. Pure."""

from collections.abc import Mapping
from ipaddress import ip_address

from homeport_policy.ruleset import L4, Element, Map, Part, Set

_PROTOCOLS = {"tcp": L4.TCP, "udp": L4.UDP, "sctp": L4.SCTP}


def read_element(known: Mapping[str, Set | Map], name: str, text: str, value: str | int | None = None) -> Element:
    """`hp0123` or `hp0123 . 02:00:00:00:00:01`; in a map with what it leads to. A set that is not ours has elements of
    text."""
    each = known.get(name)
    return Element(name, read_key(each.key.type, text) if each is not None else (text,), value)


def read_key(type_of: str, text: str) -> tuple[Part, ...]:
    """The parts of a key of a set of this type."""
    parts = text.split(" . ")
    if type_of.startswith("typeof ct mark"):
        return int(parts[0], 0), parts[1]
    if "ifname" in type_of:  # also a link whose name looks like a number
        return parts[0], *map(_read, parts[1:])
    return tuple(map(_read, parts))


def _read(text: str) -> Part:
    if text in _PROTOCOLS:
        return int(_PROTOCOLS[text])
    if text.startswith("0x") or text.isdigit():
        return int(text, 0)
    if text.count(":") == 5 and all(len(octet) == 2 for octet in text.split(":")):
        return text
    return ip_address(text)
