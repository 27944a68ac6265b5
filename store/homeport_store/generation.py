"""Which life of the store this is. A restore begins a new one, so that nobody believes an old snapshot blindly.

    ensure ──► ready ── restore begins ──► restoring ── restore done ──► ready, with another id

An agent keeps a `Seen` on its own disk and asks `replaced` when it starts and after every resync of a watch. While the
answer is a reason, or `restoring` is True, it gives out no new address and replays what it holds. A copy that was put
under a running etcd behind our back has the old generation; it gives itself away by a revision that went backwards,
as long as one looks before it has grown past the old one.
"""

import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from homeport_api.errors import BadInput, Unavailable
from homeport_store import keys
from homeport_store.protocol import Record, Store

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Generation:
    """`since` is when it began, in seconds since the epoch. `restoring`: a restore is under way, or was broken off;
    the store holds parts of two states, and only another restore ends that."""

    id: str
    since: float
    restoring: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What a node remembers of the store, on its own disk."""

    generation: str
    revision: int


def among(records: Iterable[Record]) -> Generation | None:
    """The generation in a listing. None in a store that Homeport never wrote to."""
    record = next((record for record in records if record.key == keys.GENERATION), None)
    return None if record is None else _parse(record)


def read(store: Store) -> Generation | None:
    """As `among`, of the store as it is now."""
    return among(store.list(keys.GENERATION).records)


def ensure(store: Store) -> Generation:
    """The store's generation; begins the first one where there is none. Racing callers all get the same."""
    while True:
        if (found := read(store)) is not None:
            return found
        first = new()
        if store.put_if(keys.GENERATION, dump(first), 0) is not None:
            return first


def look(store: Store) -> Seen:
    """What to remember from now on. Raises Unavailable in a store without a generation, or one being restored."""
    listing = store.list(keys.GENERATION)
    current = among(listing.records)
    if current is not None and not current.restoring:
        return Seen(current.id, listing.revision)
    raise Unavailable("the store has no finished generation: wait for its restore, or run the restore again")


def replaced(store: Store, seen: Seen) -> str | None:
    """Why the store is not the one that was `seen` any more; None while it is."""
    listing = store.list(keys.GENERATION)
    current = among(listing.records)
    if current is None:
        return f"it is empty, and had generation {seen.generation}"
    if current.restoring:
        return f"it is being restored (generation {current.id})"
    if current.id != seen.generation:
        return f"it was restored: generation {current.id}, and had {seen.generation}"
    if listing.revision < seen.revision:
        return f"an older copy was put in its place: it is at revision {listing.revision}, and was at {seen.revision}"
    return None


def new(restoring: bool = False) -> Generation:
    return Generation(uuid.uuid4().hex, time.time(), restoring)


def dump(generation: Generation) -> bytes:
    fields = {
        "schema": SCHEMA_VERSION,
        "id": generation.id,
        "since": generation.since,
        "restoring": generation.restoring,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def _parse(record: Record) -> Generation:
    try:
        fields = json.loads(record.value)
        return Generation(str(fields["id"]), float(fields["since"]), bool(fields.get("restoring", False)))
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{record.key} is not readable as a generation: restore the store from a snapshot") from error
