"""Conntrack zones: one for each L2 domain, whoever else is allotting at the same moment."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from homeport_api.addresses import L2Domain
from homeport_api.errors import BadInput, Exhausted
from homeport_api.wire import ZONE
from homeport_api.zone import COUNT, FIRST_ZONE, LAST_ZONE, Zone, preferred_zones
from homeport_store import keys
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Put
from homeport_store.zones import ZoneRecords, ensure_zone, ensure_zones, settled_zones

BLUE = L2Domain(":blue")


def first_choice(domain: L2Domain) -> int:
    return next(preferred_zones(domain))


def rivals() -> tuple[L2Domain, L2Domain]:
    """Two domains that prefer the same zone."""
    seen: dict[int, L2Domain] = {}
    for vlan in count(1):
        domain = L2Domain(f"bond0:{vlan}")
        if (other := seen.setdefault(first_choice(domain), domain)) != domain:
            return other, domain
    raise AssertionError


ONE, OTHER = rivals()


@pytest.mark.parametrize(
    ("domain", "key"),
    [
        ("bond0:100", "/homeport/v1/zones/bond0/100"),
        ("bond0:untagged", "/homeport/v1/zones/bond0/untagged"),
        (":blue", "/homeport/v1/zones/:blue/untagged"),
        (":blue.example", "/homeport/v1/zones/:blue.example/untagged"),
    ],
)
def test_a_zone_is_kept_under_uplink_and_vlan(domain: L2Domain, key: str) -> None:
    store = MemoryStore()
    zone = ensure_zone(store, domain)
    assert FIRST_ZONE <= zone <= LAST_ZONE
    record = store.get(key)
    assert record is not None
    assert record.value == f'{{"schema":1,"zone":{zone}}}'.encode()
    assert settled_zones(store.list(keys.ZONES).records) == {domain: zone}


def test_a_domain_tries_every_zone_once() -> None:
    assert set(preferred_zones(BLUE)) == set(range(FIRST_ZONE, LAST_ZONE + 1))
    assert len(list(preferred_zones(BLUE))) == COUNT


def test_a_zone_stays_and_is_preferred_by_the_next_store_too() -> None:
    store = MemoryStore()
    zone = ensure_zone(store, BLUE)
    written = store.list(keys.ZONES).revision
    assert (ensure_zone(store, BLUE), store.list(keys.ZONES).revision) == (zone, written)
    assert ensure_zone(MemoryStore(), BLUE) == zone


def test_two_domains_with_one_preference_have_two_zones() -> None:
    store = MemoryStore()
    assert ensure_zone(store, ONE) == first_choice(ONE) == first_choice(OTHER)
    assert ensure_zone(store, OTHER) != ensure_zone(store, ONE)
    both = ensure_zones(MemoryStore(), (ONE, OTHER))
    assert len(set(both.values())) == 2


class Raced(MemoryStore):
    """Somebody else is done just before each of our first writes."""

    def __init__(self, *others: Callable[[], object]) -> None:
        super().__init__()
        self.others = list(others)

    def put_if(self, key: str, value: bytes, revision: int, lease: int = 0) -> int | None:
        if self.others:
            self.others.pop(0)()
        return super().put_if(key, value, revision, lease)


def test_of_two_who_choose_one_zone_at_once_the_later_gives_way() -> None:
    answers: list[int] = []
    store = Raced(lambda: answers.append(ensure_zone(store, ONE)))
    other = ensure_zone(store, OTHER)
    assert answers == [first_choice(ONE)]
    assert other != answers[0]
    assert settled_zones(store.list(keys.ZONES).records) == {ONE: answers[0], OTHER: other}


def test_who_finds_a_domain_already_allotted_meanwhile_takes_that() -> None:
    answers: list[int] = []
    store = Raced(lambda: answers.append(ensure_zone(store, ONE)))
    assert [ensure_zone(store, ONE)] == answers


def test_a_writer_who_died_before_giving_way_is_not_relied_on() -> None:
    store = MemoryStore()
    zone = ensure_zone(store, ONE)
    store.put_if(keys.zone(OTHER), ZONE.dumps(Zone(zone)), 0)
    assert settled_zones(store.list(keys.ZONES).records) == {ONE: zone}
    other = ensure_zone(store, OTHER)
    assert other != zone
    assert ensure_zone(store, ONE) == zone


def test_one_zone_in_two_records_of_one_revision_is_one_domains() -> None:
    """As a restored copy may have it."""
    store = MemoryStore()
    store.txn((), [Put(keys.zone(domain), ZONE.dumps(Zone(FIRST_ZONE))) for domain in (ONE, OTHER)])
    assert len(settled_zones(store.list(keys.ZONES).records)) == 1
    assert ensure_zone(store, ONE) != ensure_zone(store, OTHER)


def test_many_writers_at_once_never_share_a_zone() -> None:
    store = MemoryStore()
    domains = [domain for vlan in range(1, 40) for domain in (ONE, OTHER, L2Domain(f"bond1:{vlan}"))]
    with ThreadPoolExecutor(8) as pool:
        zones = list(pool.map(lambda domain: ensure_zone(store, domain), domains))
    given = dict(zip(domains, zones, strict=True))
    assert zones == [given[domain] for domain in domains]
    assert len(set(given.values())) == len(given) == 41


def test_the_last_zone_is_given_and_then_none() -> None:
    store = MemoryStore()
    everything = [L2Domain(f"bond{at}:7") for at in range(COUNT - 1)]
    for at, domain in enumerate(everything):
        store.put_if(keys.zone(domain), ZONE.dumps(Zone(FIRST_ZONE + at)), 0)
    assert ensure_zone(store, BLUE) == LAST_ZONE
    with pytest.raises(Exhausted, match=r"all 16384 conntrack zones are taken, and L2 domain :red has none"):
        ensure_zone(store, L2Domain(":red"))
    assert ensure_zone(store, everything[5]) == FIRST_ZONE + 5


JUNK = [
    pytest.param(keys.zone(BLUE), b'{"schema":1,"zone":7}', id="no zone of ours"),
    pytest.param(keys.zone(BLUE), b"\xff", id="no JSON"),
    pytest.param(keys.zone(BLUE), b'{"schema":99,"zone":20000}', id="of a newer Homeport"),
    pytest.param(keys.ZONES + "bond0", b'{"schema":1,"zone":20000}', id="under no domain's key"),
    pytest.param(keys.ZONES + ":blue/100", b'{"schema":1,"zone":20000}', id="under another key than its domain's"),
]


@pytest.mark.parametrize(("key", "junk"), JUNK)
def test_what_cannot_be_read_takes_nothing_from_the_others(key: str, junk: bytes) -> None:
    store, known = MemoryStore(), ZoneRecords()
    one = ensure_zone(store, ONE)
    store.put_if(key, junk, 0)
    other = ensure_zone(store, OTHER)
    assert ensure_zone(store, ONE) == one
    expected = {ONE: one, OTHER: other}
    records = store.list(keys.ZONES).records
    assert settled_zones(records) == expected
    refused = []
    for record in records:
        try:
            known.put(record.key, record)
        except BadInput:
            refused.append(record.key)
    assert refused == [key]
    assert known.settled() == expected


@pytest.mark.parametrize(("key", "junk"), [each for each in JUNK if each.id in {"no zone of ours", "no JSON"}])
def test_what_cannot_be_read_is_written_anew_by_who_needs_it(key: str, junk: bytes) -> None:
    store = MemoryStore()
    store.put_if(key, junk, 0)
    zone = ensure_zone(store, BLUE)
    assert settled_zones(store.list(keys.ZONES).records) == {BLUE: zone}


def test_what_a_newer_homeport_wrote_is_named_and_left() -> None:
    store = MemoryStore()
    store.put_if(keys.zone(BLUE), b'{"schema":99,"zone":20000}', 0)
    with pytest.raises(BadInput, match=r"/homeport/v1/zones/:blue/untagged: a stored zone has schema version 99"):
        ensure_zones(store, (ONE, BLUE))
    record = store.get(keys.zone(BLUE))
    assert record is not None
    assert b'"schema":99' in record.value


def test_a_zone_whose_record_is_spoilt_stays_until_the_number_is_anothers() -> None:
    store, known = MemoryStore(), ZoneRecords()

    def tell(domain: L2Domain, value: bytes) -> None:
        found = store.get(keys.zone(domain))
        store.put_if(keys.zone(domain), value, found.mod_revision if found else 0)
        known.put(keys.zone(domain), store.get(keys.zone(domain)))

    tell(ONE, ZONE.dumps(Zone(FIRST_ZONE)))
    with pytest.raises(BadInput, match="not JSON"):
        tell(ONE, b"junk")
    assert known.settled() == {ONE: FIRST_ZONE}
    tell(OTHER, ZONE.dumps(Zone(FIRST_ZONE)))
    assert known.settled() == {OTHER: FIRST_ZONE}
    tell(ONE, ZONE.dumps(Zone(LAST_ZONE)))
    assert known.settled() == {ONE: LAST_ZONE, OTHER: FIRST_ZONE}
    known.put(keys.zone(OTHER), None)
    assert known.settled() == {ONE: LAST_ZONE}
