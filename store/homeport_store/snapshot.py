"""Everything of ours in the store, as a file and back: `homeport store snapshot|restore`.

A dump of `/homeport/v1/` at one revision, not etcd's own snapshot: it works for an external cluster that serves others
too, it can be read and compared, and it restores into any etcd. JSON lines, with a checksum over all before it:

    {"homeportSnapshot": 1, "generation": …, "revision": …, "taken": …, "records": 2}
    {"key": "/homeport/v1/networks/blue", "value": "{…}"}
    {"key": "/homeport/v1/…", "base64": "…"}                                          (a value that is no text)
    {"sha256": "…"}

What lives on a lease (heartbeats, resting addresses) is neither saved nor touched: a restored lease would hold for
nobody. Revisions are the store's own and not restored.

A restore is many transactions. It begins a new generation, `restoring` until the last of them, so agents that see any
of it give out no address; broken off, it stays so until it is run again.
"""

import base64
import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeport_api.errors import BadInput, Conflict, InUse
from homeport_store import generation, keys
from homeport_store.generation import Generation
from homeport_store.protocol import Delete, Put, Store

FORMAT = 1
_BATCH_OPERATIONS = 100  # below the 128 of an etcd with default settings
_BATCH_BYTES = 512 * 1024  # below the 1.5 MiB of a request


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`taken` is in seconds since the epoch; `generation` is empty when the store had none."""

    generation: str
    revision: int
    taken: float
    values: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: how many records it wrote, deleted, and left since they were as in the snapshot."""

    generation: Generation
    written: int
    deleted: int
    unchanged: int


def take(store: Store) -> Snapshot:
    """At one revision, while others write on. Refuses (Conflict) a store whose restore is not finished."""
    listing = store.list(keys.PREFIX)
    values = {record.key: record.value for record in listing.records if not record.lease}
    values.pop(keys.GENERATION, None)
    current = generation.among(listing.records)
    if current is not None and current.restoring:
        raise Conflict("the store is being restored, or a restore was broken off: restore it, then take the snapshot")
    return Snapshot(current.id if current else "", listing.revision, time.time(), values)


def restore(store: Store, snapshot: Snapshot, force: bool = False) -> Restored:
    """Makes our part of the store what the snapshot is, under a new generation. Refuses (InUse) a store that holds
    anything of ours, unless `force`; then what the snapshot has not is deleted. May be repeated."""
    listing = store.list(keys.PREFIX)
    mark = next((record for record in listing.records if record.key == keys.GENERATION), None)
    present = {r.key: r.value for r in listing.records if not r.lease and r.key != keys.GENERATION}
    if present and not force:
        raise InUse(
            f"the store holds {len(present)} records already, {min(present)} the first: "
            "restore with --force to replace them all (take a snapshot of them before)"
        )
    begun = generation.new(restoring=True)
    if store.put_if(keys.GENERATION, generation.dump(begun), mark.mod_revision if mark else 0) is None:
        raise Conflict("somebody else began a restore at the same time")
    deletions = [Delete(key) for key in sorted(present.keys() - snapshot.values.keys())]
    puts = [Put(key, value) for key, value in sorted(snapshot.values.items()) if present.get(key) != value]
    for batch in _batches([*deletions, *puts]):
        store.txn([], batch)
    done = Generation(begun.id, time.time())
    store.txn([], [Put(keys.GENERATION, generation.dump(done))])
    return Restored(done, len(puts), len(deletions), len(snapshot.values) - len(puts))


def save(snapshot: Snapshot, path: Path) -> None:
    """Whole or not at all: what was at `path` is replaced when everything is on the disk. Readable by the owner only,
    for it holds who has which address."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(_lines(snapshot))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load(path: Path) -> Snapshot:
    """Raises BadInput, naming the line, for anything but a whole snapshot of a format we know."""
    *lines, last = path.read_bytes().splitlines(keepends=True) or [b""]
    checksum = hashlib.sha256(b"".join(lines)).hexdigest()
    header = _parse(path, 1, lines[0] if lines else b"")
    if header.get("homeportSnapshot") != FORMAT:
        raise BadInput(
            f"{path}: not a snapshot this Homeport reads (format {header.get('homeportSnapshot')}, it reads {FORMAT})"
        )
    if _parse(path, len(lines) + 1, last) != {"sha256": checksum}:
        raise BadInput(f"{path}: the checksum in its last line is missing or does not fit: it is cut short or changed")
    values = dict(_record(path, number, line) for number, line in enumerate(lines[1:], 2))
    if header.get("records") != len(values) or len(values) != len(lines) - 1:
        raise BadInput(f"{path}: has {len(lines) - 1} records with {len(values)} keys, not {header.get('records')}")
    try:
        return Snapshot(str(header["generation"]), int(header["revision"]), float(header["taken"]), values)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: line 1: {error!r}") from error


def _lines(snapshot: Snapshot) -> Iterator[bytes]:
    checksum = hashlib.sha256()
    header = {
        "homeportSnapshot": FORMAT,
        "generation": snapshot.generation,
        "revision": snapshot.revision,
        "taken": snapshot.taken,
        "records": len(snapshot.values),
    }
    for fields in (header, *(_fields(key, value) for key, value in sorted(snapshot.values.items()))):
        line = json.dumps(fields).encode() + b"\n"
        checksum.update(line)
        yield line
    yield json.dumps({"sha256": checksum.hexdigest()}).encode() + b"\n"


def _fields(key: str, value: bytes) -> dict[str, str]:
    with contextlib.suppress(UnicodeDecodeError):
        return {"key": key, "value": value.decode()}
    return {"key": key, "base64": base64.b64encode(value).decode()}


def _record(path: Path, number: int, line: bytes) -> tuple[str, bytes]:
    match _parse(path, number, line):
        case {"key": str(key), "value": str(text)} if key.startswith(keys.PREFIX):
            return key, text.encode()
        case {"key": str(key), "base64": str(text)} if key.startswith(keys.PREFIX):
            return key, base64.b64decode(text)
    raise BadInput(f"{path}: line {number}: not a record with a key under {keys.PREFIX}")


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        fields = json.loads(line)
        if isinstance(fields, dict):
            return fields
    raise BadInput(f"{path}: line {number}: not a JSON object; a snapshot is made by `homeport store snapshot`")


def _batches(writes: list[Put | Delete]) -> Iterator[list[Put | Delete]]:
    batch: list[Put | Delete] = []
    size = 0
    for write in writes:
        more = len(write.key) + (len(write.value) if isinstance(write, Put) else 0)
        if batch and (len(batch) == _BATCH_OPERATIONS or size + more > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(write)
        size += more
    if batch:
        yield batch
