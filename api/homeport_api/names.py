"""Grammars of names: Kubernetes' for objects and labels, the kernel's for links.

Each `parse_*` returns what it is given or raises ValueError with the rule that was broken."""

import re

DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
DNS_SUBDOMAIN = rf"{DNS_LABEL}(\.{DNS_LABEL})*"
LINK = r"[^\s/:%]{1,15}"
PRINTABLE = r"[!-.0-~]{1,253}"
LABEL_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
LABEL_KEY = rf"({DNS_SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"

_LABEL = re.compile(DNS_LABEL)
_SUBDOMAIN = re.compile(DNS_SUBDOMAIN)
_LINK = re.compile(LINK)
_PRINTABLE = re.compile(PRINTABLE)
_VALUE = re.compile(LABEL_VALUE)
_KEY = re.compile(LABEL_KEY)
_PORT = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")


def parse_label_name(text: str) -> str:
    """A namespace: one DNS label (RFC 1123 §2.1)."""
    if not _LABEL.fullmatch(text):
        raise ValueError(f"{text!r} is not a name: up to 63 lower-case letters, digits and '-', no '-' at either end")
    return text


def parse_object_name(text: str) -> str:
    """An object: DNS labels joined by dots, 253 characters at the most, as in Kubernetes."""
    if len(text) > 253 or not _SUBDOMAIN.fullmatch(text):
        raise ValueError(
            f"{text!r} is not an object name: up to 253 lower-case letters, digits, '-' and '.', "
            "beginning and ending with a letter or digit"
        )
    return text


def parse_link_name(text: str) -> str:
    """A link, by the kernel's rule (dev_valid_name, IFNAMSIZ 16 with its final zero), and no `%`, which the kernel
    takes for a template."""
    if not _LINK.fullmatch(text) or text in {".", ".."}:
        raise ValueError(f"{text!r} is not a link name: 1 to 15 characters, none of them a space, '/', ':' or '%'")
    return text


def parse_identity_name(text: str) -> str:
    """A VM's or its interface's own name, which other systems choose: any printable ASCII but space and slash."""
    if not _PRINTABLE.fullmatch(text):
        raise ValueError(f"{text!r} is not usable as a name: 1 to 253 printable characters without spaces or '/'")
    return text


def parse_label_key(text: str) -> str:
    if len(text) > 317 or not _KEY.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a label key: up to 63 letters, digits, '-', '_' and '.', after an optional 'prefix/'"
        )
    return text


def parse_label_value(text: str) -> str:
    if not _VALUE.fullmatch(text):
        raise ValueError(f"{text!r} is not a label value: up to 63 letters, digits, '-', '_' and '.', or nothing")
    return text


def parse_port_name(text: str) -> str:
    """A port: a service name of RFC 6335 §5.1, in lower case, as Kubernetes has it (IANA_SVC_NAME)."""
    if not _PORT.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a port's name: up to 15 lower-case letters, digits and '-', at least one letter, no "
            "'-' at either end and no '--'"
        )
    return text


def parse_domain(text: str) -> str:
    """A DNS search domain; a final dot is dropped, case is kept out."""
    name = text.lower().removesuffix(".")
    if len(name) > 253 or not re.fullmatch(
        r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?(\.[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?)*", name
    ):
        raise ValueError(f"{text!r} is not a domain name, like example.org")
    return name
