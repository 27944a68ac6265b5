"""Which L2 domain has which conntrack zone. Allotted once and never changed, so nodes need not agree on anything else.

No key stands for a number, so two writers may give one number to two domains at once. Whoever wrote later gives way,
and until then its record counts for nothing:

    a record is *settled* while no other record of its number has a lower revision

The revision of a settled record can only be undercut by one that was there before it, so it stays settled, and
two settled records never have one number.

A record that cannot be read counts for nothing either, and takes nothing from the others. Whoever needs its domain's
zone writes it anew, unless it is of a Homeport that is newer.
"""

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from homeport_api.addresses import L2Domain
from homeport_api.errors import BadInput, Exhausted, TooNew
from homeport_api.wire import ZONE
from homeport_api.zone import COUNT, Zone, preferred_zones
from homeport_store import keys
from homeport_store.protocol import Record, Store

_LAST = sys.maxsize
"""A revision that gives way to every other."""


class _Allotted(NamedTuple):
    """`number` is why there is none, where the record cannot be read."""

    number: int | BadInput
    revision: int


def ensure_zone(store: Store, domain: L2Domain) -> int:
    """The domain's zone, allotted now if it has none. A repeat answers the same. Raises Exhausted when there is none
    left."""
    return ensure_zones(store, (domain,))[domain]


def ensure_zones(store: Store, domains: Collection[L2Domain]) -> dict[L2Domain, int]:
    """The same for several, in one go. Those that were allotted before it raises stay so. Raises BadInput for one that
    a newer Homeport allotted."""
    while True:
        allotted = _read(store.list(keys.ZONES).records)
        settled = _settled(allotted)
        missing = [domain for domain in domains if domain not in settled]
        if not missing:
            return {domain: settled[domain] for domain in domains}
        taken = {zone.number for zone in allotted.values() if isinstance(zone.number, int)}
        for domain in missing:
            if domain in allotted and isinstance(error := allotted[domain].number, TooNew):
                raise BadInput(f"{keys.zone(domain)}: {error}") from error
            number = _free(domain, taken)
            taken.add(number)
            known = allotted[domain].revision if domain in allotted else 0
            store.put_if(keys.zone(domain), ZONE.dumps(Zone(number)), known)


def settled_zones(records: Iterable[Record]) -> Mapping[L2Domain, int]:
    """Of all records under `keys.ZONES` as they stood at one revision: the zones that can be relied on."""
    return _settled(_read(records))


class ZoneRecords:
    """The same, told record by record."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def put(self, key: str, record: Record | None) -> None:
        """None: deleted. Raises BadInput for one that cannot be read. What its domain had stays then, until another
        domain is allotted that number."""
        if record is None:
            self._records.pop(key, None)
            return
        if _domain_of(key) is None:
            raise BadInput("not the key of a zone")
        if isinstance(error := _allotted(record).number, BadInput):
            if key in self._records:
                self._records[key] = replace(self._records[key], mod_revision=_LAST)
            raise error
        self._records[key] = record

    def settled(self) -> Mapping[L2Domain, int]:
        return settled_zones(self._records.values())


def _free(domain: L2Domain, taken: Collection[int]) -> int:
    for number in preferred_zones(domain):
        if number not in taken:
            return number
    raise Exhausted(
        f"all {COUNT} conntrack zones are taken, and L2 domain {domain} has none: delete the keys under {keys.ZONES} "
        "of domains that no Network is on"
    )


def _read(records: Iterable[Record]) -> dict[L2Domain, _Allotted]:
    return {domain: _allotted(record) for record in records if (domain := _domain_of(record.key)) is not None}


def _domain_of(key: str) -> L2Domain | None:
    """None for what no domain's record is under."""
    try:
        domain = keys.domain_of_zone(key)
    except ValueError:
        return None
    return domain if keys.zone(domain) == key else None


def _allotted(record: Record) -> _Allotted:
    try:
        return _Allotted(ZONE.loads(record.value).number, record.mod_revision)
    except BadInput as error:
        return _Allotted(error, record.mod_revision)


def _settled(allotted: Mapping[L2Domain, _Allotted]) -> dict[L2Domain, int]:
    first: dict[int, tuple[int, L2Domain]] = {}
    for domain, (number, revision) in allotted.items():
        if isinstance(number, int):
            claim = (revision, domain)
            first[number] = min(claim, first.get(number, claim))
    return {domain: number for number, (_, domain) in first.items()}
