"""nftables through libnftables, inside one network namespace. It takes rendered rules and knows nothing of policy.

One table is ours, and no other is ever named here. Reference: libnftables(3), libnftables-json(5).
"""

import ctypes
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from homeport_api.errors import Unavailable
from homeport_dataplane.errors import RulesetRefused
from homeport_dataplane.netns import Namespace, entered

TABLE = "homeport"
FAMILY = "bridge"

_OUTPUT_JSON = 1 << 4
_LIBRARY = "libnftables.so.1"


@dataclass(frozen=True, slots=True)
class Count:
    """A counter's reading."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Owned:
    """What our table holds: the comments of each chain's rules in order, each set's keys, each counter, and where each
    map leads: to a chain by name, or to a number."""

    rules: Mapping[str, tuple[str, ...]]
    elements: Mapping[str, frozenset[str]]
    counters: Mapping[str, Count]
    maps: Mapping[str, Mapping[str, str | int]]


class Nft:
    """A libnftables context in a namespace. Calls from many threads wait for one another, since the library is not
    reentrant; the interpreter's lock is free meanwhile."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._library = _load()
        self._lock = threading.Lock()
        with entered(namespace):
            self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise Unavailable(f"nftables cannot be used in network namespace {namespace.label}")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def apply(self, rules: bytes) -> None:
        """Takes all of it in one transaction of the kernel, or nothing: RulesetRefused then has nftables' words. An
        empty text changes nothing."""
        self._run(rules)

    def check(self, rules: bytes) -> None:
        """What `apply` would say, without changing anything."""
        with self._lock:
            self._library.nft_ctx_set_dry_run(self._context, True)
            try:
                self._run_locked(rules, 0)
            finally:
                self._library.nft_ctx_set_dry_run(self._context, False)

    def list_owned(self, table: str = TABLE) -> Owned:
        """All of our table; empty when it is not there."""
        listed = self._list(f"list table {FAMILY} {table}")
        rules: dict[str, list[str]] = {each["chain"]["name"]: [] for each in listed if "chain" in each}
        for each in listed:
            if "rule" in each:
                rules[each["rule"]["chain"]].append(each["rule"].get("comment", ""))
        return Owned(
            rules={chain: tuple(comments) for chain, comments in rules.items()},
            elements={
                each["set"]["name"]: frozenset(_key(element) for element in each["set"].get("elem", ()))
                for each in listed
                if "set" in each
            },
            counters=_counts(listed),
            maps={
                each["map"]["name"]: {_key(key): _lead(lead) for key, lead in each["map"].get("elem", ())}
                for each in listed
                if "map" in each
            },
        )

    def counters(self, table: str = TABLE) -> Mapping[str, Count]:
        """The readings of all counters of our table."""
        return _counts(self._list(f"list counters table {FAMILY} {table}"))

    def elements(self, name: str, table: str = TABLE) -> frozenset[str]:
        """The keys of one of our sets, concatenations joined with ` . `; empty when there is no such set."""
        listed = self._list(f"list set {FAMILY} {table} {name}")
        return frozenset(_key(element) for each in listed for element in each.get("set", {}).get("elem", ()))

    def ages(self, name: str, table: str = TABLE) -> Mapping[str, float]:
        """How many seconds ago the kernel last saw each key of a set that it fills by itself; empty when there is no
        such set."""
        found: dict[str, float] = {}
        for each in self._list(f"list set {FAMILY} {table} {name}"):
            kept = each.get("set", {}).get("timeout", 0)
            for element in each.get("set", {}).get("elem", ()):
                if isinstance(element, dict) and "expires" in element.get("elem", {}):
                    left = element["elem"]["expires"]
                    found[_key(element)] = max(0.0, float(element["elem"].get("timeout", kept)) - left)
        return found

    def map_of(self, name: str, table: str = TABLE) -> Mapping[str, str | int]:
        """Where one of our maps leads, by key; empty when there is no such map."""
        listed = self._list(f"list map {FAMILY} {table} {name}")
        return {_key(key): _lead(lead) for each in listed for key, lead in each.get("map", {}).get("elem", ())}

    def list_chains(self) -> list[dict[str, Any]]:
        """Every chain of every table here, as libnftables-json(5) describes them: for looking only."""
        return [each["chain"] for each in self._list("list chains") if "chain" in each]

    def list_rules(self, family: str) -> list[dict[str, Any]]:
        """Every rule of every table of a family, in the same form: for looking only."""
        return [each["rule"] for each in self._list(f"list ruleset {family}") if "rule" in each]

    def close(self) -> None:
        """Repeating it does nothing; any other call afterwards is Unavailable."""
        with self._lock:
            context, self._context = self._context, None
            if context:
                self._library.nft_ctx_free(context)

    def _list(self, command: str) -> list[dict[str, Any]]:
        try:
            answer = self._run(command.encode(), _OUTPUT_JSON)
        except RulesetRefused as error:
            if "No such file or directory" in str(error):
                return []
            raise
        listed: list[dict[str, Any]] = json.loads(answer)["nftables"] if answer else []
        return [each for each in listed if "metainfo" not in each]

    def _run(self, command: bytes, output: int = 0) -> bytes:
        with self._lock:
            return self._run_locked(command, output)

    def _run_locked(self, command: bytes, output: int) -> bytes:
        if not self._context:
            raise Unavailable("nftables was closed")
        self._library.nft_ctx_output_set_flags(self._context, output)
        with entered(self._namespace):
            refused = self._library.nft_run_cmd_from_buffer(self._context, command)
        answer: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
        complaint: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if refused:
            raise RulesetRefused(complaint.decode(errors="replace").strip() or "nftables gave no reason")
        return answer


@cache
def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise Unavailable(f"{_LIBRARY} cannot be loaded: install libnftables1 ({error})") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def _counts(listed: Iterable[dict[str, Any]]) -> dict[str, Count]:
    return {
        each["counter"]["name"]: Count(each["counter"]["packets"], each["counter"]["bytes"])
        for each in listed
        if "counter" in each
    }


def _lead(value: Any) -> str | int:
    """A map's value is {"goto": {"target": chain}}, or a number."""
    if isinstance(value, dict):
        return str(next(iter(value.values()))["target"])
    return int(value)


def _key(element: Any) -> str:
    """An element is a key, or {"elem": {"val": key, ...}}; a key may be {"concat": [...]}."""
    if isinstance(element, dict):
        if "elem" in element:
            return _key(element["elem"]["val"])
        if "concat" in element:
            return " . ".join(_key(each) for each in element["concat"])
    return str(element)
