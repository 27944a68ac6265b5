"""The spellings that the CNI specification allows: names, container IDs, ifnames, and the CNI_ARGS list.

Pure. Each check returns what is wrong, or None; what an error is called (code 4 or 7) is the caller's to know.
Reference: CNI SPEC 1.1.0, section 1 "Plugin configuration objects" and section 2 "Parameters".
"""

import re

from homeport_api.errors import BadEnvironment

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*\Z", re.ASCII)
MAX_IFNAME = 15
"""IFNAMSIZ with its terminating zero is 16 (if.h)."""
MAX_NAME = 253
"""The specification sets no bound; these become parts of keys and messages."""

KNOWN_ARGS = frozenset(
    (
        "IP",
        "MAC",
        "VM_NAMESPACE",
        "VM_NAME",
        "VM_INTERFACE",
        "K8S_POD_NAMESPACE",
        "K8S_POD_NAME",
        "K8S_POD_UID",
        "K8S_POD_INFRA_CONTAINER_ID",
    )
)


def name_error(text: str) -> str | None:
    """A network configuration's name, and a container ID: they have one grammar."""
    if len(text) > MAX_NAME:
        return f"is {len(text)} characters long; at most {MAX_NAME} are allowed"
    if not _NAME.match(text):
        return f"{text!r} must start with a letter or digit and go on with letters, digits, '_', '.' or '-'"
    return None


def ifname_error(text: str) -> str | None:
    """What the kernel would refuse as a link's name, or read as a path or an alias."""
    if not text:
        return "must not be empty"
    if len(text.encode("utf-8", "surrogateescape")) > MAX_IFNAME:
        return f"{text!r} is longer than {MAX_IFNAME} bytes"
    if text in (".", ".."):
        return f"{text!r} is no name for a link"
    if any(character in "/:%" or character.isspace() or not character.isprintable() for character in text):
        return f"{text!r} must not hold '/', ':', '%', whitespace or control characters"
    return None


def parse_args(text: str) -> dict[str, str]:
    """CNI_ARGS: `K=V;K2=V2`. A key we do not know is refused, unless IgnoreUnknown is there; so is a key said twice
    with two values. Raises BadEnvironment naming the key."""
    args: dict[str, str] = {}
    for pair in text.split(";") if text else ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise BadEnvironment(f"CNI_ARGS: {pair!r} is not of the form KEY=VALUE")
        if args.setdefault(key, value) != value:
            raise BadEnvironment(f"CNI_ARGS: {key} is given twice, as {args[key]!r} and {value!r}")
    ignore = args.pop("IgnoreUnknown", "0").lower()
    if ignore not in ("0", "1", "false", "true"):
        raise BadEnvironment(f"CNI_ARGS: IgnoreUnknown is {ignore!r}; it must be 0, 1, false or true")
    unknown = sorted(args.keys() - KNOWN_ARGS)
    if unknown and ignore in ("0", "false"):
        raise BadEnvironment(f"CNI_ARGS: {', '.join(unknown)} is not known here; add IgnoreUnknown=1 to pass it by")
    return {key: value for key, value in args.items() if key in KNOWN_ARGS}
