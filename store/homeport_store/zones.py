"""Which L2 domain has which conntrack zone. Allotted once and never changed, so nodes need not agree on anything else.

No key stands for a number, so two writers may give one number to two domains at once. Whoever wrote later gives way,
and until then its record counts for nothing:

    a record is *settled* while no other record of its number has a lower revision

The revision of a settled record can only be undercut by one that was there before it, so it stays settled, and
two settled records never have one number.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from homeport_api.addresses import L2Domain
from homeport_api.errors import BadInput, Exhausted
from homeport_api.wire import ZONE
from homeport_api.zone import COUNT, Zone, preferred_zones
from homeport_store import keys
from homeport_store.protocol import Record, Store


class _Allotted(NamedTuple):
    number: int
    revision: int


def ensure_zone(store: Store, domain: L2Domain) -> int:
    """The domain's zone, allotted now if it has none. A repeat answers the same. Raises Exhausted when there is none
    left."""
    return ensure_zones(store, (domain,))[domain]


def ensure_zones(store: Store, domains: Collection[L2Domain]) -> dict[L2Domain, int]:
    """The same for several, in one go. Those that were allotted before it raises stay so."""
    while True:
        allotted = _read(store.list(keys.ZONES).records)
        settled = _settled(allotted)
        missing = [domain for domain in domains if domain not in settled]
        if not missing:
            return {domain: settled[domain] for domain in domains}
        taken = {zone.number for zone in allotted.values()}
        for domain in missing:
            number = _free(domain, taken)
            taken.add(number)
            known = allotted[domain].revision if domain in allotted else 0
            store.put_if(keys.zone(domain), ZONE.dumps(Zone(number)), known)


def settled_zones(records: Iterable[Record]) -> Mapping[L2Domain, int]:
    """Of all records under `keys.ZONES` as they stood at one revision: the zones that can be relied on."""
    return _settled(_read(records))


def _free(domain: L2Domain, taken: Collection[int]) -> int:
    for number in preferred_zones(domain):
        if number not in taken:
            return number
    raise Exhausted(
        f"all {COUNT} conntrack zones are taken, and L2 domain {domain} has none: delete the keys under {keys.ZONES} "
        "of domains that no Network is on"
    )


def _read(records: Iterable[Record]) -> dict[L2Domain, _Allotted]:
    found = {}
    for record in records:
        try:
            number = ZONE.loads(record.value).number
        except BadInput as error:
            raise BadInput(f"{record.key}: {error}") from error
        found[keys.domain_of_zone(record.key)] = _Allotted(number, record.mod_revision)
    return found


def _settled(allotted: Mapping[L2Domain, _Allotted]) -> dict[L2Domain, int]:
    first: dict[int, tuple[int, L2Domain]] = {}
    for domain, (number, revision) in allotted.items():
        claim = (revision, domain)
        first[number] = min(claim, first.get(number, claim))
    return {domain: number for number, (_, domain) in first.items()}
