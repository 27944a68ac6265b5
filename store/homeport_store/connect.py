"""From options to a store: the node's embedded etcd, or an external cluster with mutual TLS."""

import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from homeport_api.errors import FieldError, Invalid
from homeport_store import embedded
from homeport_store.etcd import EtcdStore, Tls


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """With `endpoints`, that cluster; without, the embedded etcd of `data_dir`, which the agent runs."""

    data_dir: Path
    endpoints: tuple[str, ...] = ()
    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def is_embedded(self) -> bool:
        return not self.endpoints


def connect(options: StoreOptions, timeout: float = 5.0, *, allow_plaintext: bool = False) -> EtcdStore:
    """Nothing is contacted yet. Raises Invalid with every wrong option at once; http:// is refused, but for loopback
    with `allow_plaintext`, which no option sets."""
    if options.is_embedded:
        return EtcdStore([embedded.endpoint_of(options.data_dir)], timeout=timeout)
    errors = [error for endpoint in options.endpoints for error in _check_endpoint(endpoint, allow_plaintext)]
    tls = _read_tls(options, errors) if any(e.startswith("https://") for e in options.endpoints) else None
    if errors:
        raise Invalid(errors)
    return EtcdStore(options.endpoints, tls, timeout)


def _check_endpoint(endpoint: str, allow_plaintext: bool) -> list[FieldError]:
    def wrong(message: str) -> list[FieldError]:
        return [FieldError("--etcd-endpoints", f"{endpoint}: {message}")]

    try:
        url = urlsplit(endpoint)
        host, port = url.hostname, url.port
    except ValueError as error:
        return wrong(f"{error}; write https://HOST:2379")
    match url.scheme:
        case "unix":
            if url.netloc or not url.path:
                return wrong("write unix:///ABSOLUTE/PATH")
            if len(os.fsencode(url.path)) > embedded.LONGEST_SOCKET_PATH:
                return wrong(f"a socket's path has at most {embedded.LONGEST_SOCKET_PATH} bytes")
        case "https" | "http" if not host or not port or url.path.strip("/"):
            return wrong(f"write {url.scheme}://HOST:2379, without a path")
        case "http" if not (allow_plaintext and _is_loopback(host or "")):
            return wrong("without TLS anybody on the way could give addresses away: use https:// and certificates")
        case "https" | "http":
            pass
        case _:
            return wrong("write https://HOST:2379 or unix:///ABSOLUTE/PATH")
    return []


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_tls(options: StoreOptions, errors: list[FieldError]) -> Tls | None:
    """All three files, read and matched; adds to `errors` what is wrong."""
    contents: dict[str, bytes] = {}
    for name, path in (("--cacert", options.cacert), ("--cert", options.cert), ("--key", options.key)):
        if path is None:
            errors.append(FieldError(name, "an external etcd needs mutual TLS: give --cacert, --cert and --key"))
            continue
        try:
            contents[name] = path.read_bytes()
        except OSError as error:
            errors.append(FieldError(name, f"{path}: {error.strerror}"))
    if len(contents) < 3:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(options.cacert)
    except (ssl.SSLError, OSError):
        errors.append(FieldError("--cacert", f"{options.cacert}: not a PEM certificate"))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(options.cert or "", options.key, password="")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or "not PEM"
        errors.append(FieldError("--cert", f"{options.cert} and --key {options.key} are no pair ({reason})"))
    return Tls(contents["--cacert"], contents["--cert"], contents["--key"])
