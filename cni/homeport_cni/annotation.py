"""The pod annotation that asks for NICs: `homeport.dev/interfaces`, or `networking.gke.io/interfaces` of the same form.

Pure. The value is a JSON list of `{"interfaceName": "eth1", "network": "blue"}` (a NIC on a Network) or
`{"interfaceName": "eth2", "interface": "web-eth2"}` (the NIC of an existing Interface of the pod's namespace).
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from homeport_api.errors import FieldError, Invalid
from homeport_cni.grammar import ifname_error

OURS = "homeport.dev/interfaces"
GKE = "networking.gke.io/interfaces"
MAX_ENTRIES = 24
"""What one transaction of the store carries."""
MAX_KEYS = 16
"""More keys than this in an entry are not looked at one by one."""
_FIELDS = ("interfaceName", "network", "interface")


@dataclass(frozen=True, slots=True)
class Entry:
    """One NIC that a pod asks for: its link's name, and either a Network or an existing Interface."""

    interface_name: str
    network: str | None = None
    interface: str | None = None


def parse(annotations: Mapping[str, str]) -> tuple[Entry, ...]:
    """The NICs a pod asks for, in its order; none when it has neither annotation. Both annotations may be there when
    they say the same. Raises Invalid with every error and the entry it is in."""
    found = {name: _parse_one(name, annotations[name]) for name in (OURS, GKE) if name in annotations}
    if len(found) == 2 and found[OURS] != found[GKE]:
        raise Invalid(f"annotations {OURS} and {GKE} differ: keep one of them")
    return next(iter(found.values()), ())


def _parse_one(annotation: str, text: str) -> tuple[Entry, ...]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid([FieldError(annotation, f"is not JSON: {error}")]) from error
    if not isinstance(document, list):
        raise Invalid([FieldError(annotation, 'must be a list, like [{"interfaceName": "eth1", "network": "blue"}]')])
    if len(document) > MAX_ENTRIES:
        raise Invalid([FieldError(annotation, f"asks for {len(document)} NICs; at most {MAX_ENTRIES} fit in one call")])
    errors: list[FieldError] = []
    entries = [_entry(item, f"{annotation}[{index}]", errors) for index, item in enumerate(document)]
    names = [entry.interface_name for entry in entries]
    errors += [
        FieldError(f"{annotation}[{index}].interfaceName", f"{name!r} is asked for twice")
        for index, name in enumerate(names)
        if name and name in names[:index]
    ]
    if errors:
        raise Invalid(errors)
    return tuple(entries)


def _entry(item: object, at: str, errors: list[FieldError]) -> Entry:
    if not isinstance(item, dict):
        errors.append(FieldError(at, "must be an object"))
        return Entry("")
    if len(item) > MAX_KEYS:
        errors.append(FieldError(at, f"has {len(item)} keys; it may have {', '.join(_FIELDS)}"))
        return Entry("")
    values: dict[str, str] = {}
    for key, value in item.items():
        if key not in _FIELDS:
            near = difflib.get_close_matches(key, _FIELDS, 1)
            errors.append(FieldError(f"{at}.{key}", "is unknown" + (f"; {near[0]!r} is meant?" if near else "")))
        elif not isinstance(value, str) or not value:
            errors.append(FieldError(f"{at}.{key}", "must be a non-empty string"))
        else:
            values[key] = value
    name = values.get("interfaceName")
    if name is None and "interfaceName" not in item:
        errors.append(FieldError(f"{at}.interfaceName", "is missing: the name of the link in the pod"))
    elif name is not None and (wrong := ifname_error(name)):
        errors.append(FieldError(f"{at}.interfaceName", wrong))
    if ("network" in item) == ("interface" in item):
        errors.append(FieldError(at, "must have exactly one of network and interface"))
    return Entry(name or "", values.get("network"), values.get("interface"))
