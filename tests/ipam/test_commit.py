"""How releases hang on leases: shared within a while, and taken anew when the store lost one."""

from homeport_api.attachment import AttachRequest
from homeport_store import keys
from homeport_store.memory import MemoryStore
from tests.ipam.worlds import World, call, nic


def pod(container: str) -> AttachRequest:
    return call(nic(container, ephemeral=True), container=container)


def released(world: World, *containers: str) -> None:
    for container in containers:
        world.allocator.attach(pod(container))
    for container in containers:
        world.allocator.end(pod(container).key, "DEL")


def test_releases_within_a_while_share_a_lease() -> None:
    world = World()
    released(world, "x", "y")
    first, second = world.store.list(keys.REST).records
    assert first.lease == second.lease != 0


def test_a_lease_is_not_used_for_longer_than_a_part_of_the_rest() -> None:
    world = World(rest=0.3)
    leases = set()
    watch = world.store.watch(keys.REST, 0, ())
    released(world, "x")
    for batch in watch:  # until the rest of the first is over
        leases |= {record.lease for record in world.store.list(keys.REST).records}
        if any(change.value is None for change in batch):
            break
    watch.close()
    released(world, "y")
    leases |= {record.lease for record in world.store.list(keys.REST).records}
    assert len(leases) == 2


def test_a_lease_that_the_store_lost_is_taken_anew() -> None:
    store = MemoryStore()
    world = World(store=store)
    released(world, "x")
    (first,) = store.list(keys.REST).records
    store.revoke(first.lease)
    released(world, "y")
    (second,) = store.list(keys.REST).records
    assert second.lease not in (0, first.lease)
    assert world.owners() == {}
