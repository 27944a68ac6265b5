"""Pool figures from listings."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from homeport_api.addresses import L2Domain
from homeport_ipam.journal import RELEASE, Release
from homeport_ipam.status import in_use, owned_addresses, pool_statuses
from homeport_store import keys
from tests.ipam.worlds import World, call, network, nic

BLUE = L2Domain("bond0:100")


def figures(world: World) -> list[tuple[int, int, int, float | None]]:
    interfaces = world.objects.interfaces.list()
    owned = owned_addresses(world.store.list(keys.ADDRESSES).records, BLUE)
    releases: list[Release] = [RELEASE.loads(record.value) for record in world.store.list(keys.JOURNAL).records]
    statuses = pool_statuses(world.objects.networks.get("blue"), owned, interfaces, releases, world.now)
    return [(s.capacity, s.allocated, s.free, s.hours_to_exhaustion) for s in statuses]


def test_capacity_allocated_free() -> None:
    world = World((network("blue", "10.0.0.0/29", "fd00::/64"), network("red", "10.0.0.0/29", vlan=200)))
    assert figures(world) == [(6, 0, 6, None), (2**64 - 1, 0, 2**64 - 1, None)]
    world.allocator.attach(call())
    world.allocator.attach(call(nic("other", net="red"), container="o"))
    first, second = figures(world)
    assert first == (6, 1, 5, 5 * 24.0)
    assert second[:3] == (2**64 - 1, 1, 2**64 - 2)
    assert in_use("blue", world.objects.interfaces.list()) == 1
    assert owned_addresses(world.store.list(keys.ADDRESSES).records, L2Domain("bond0:300")) == set()


def test_a_pool_that_does_not_shrink_has_no_hour() -> None:
    world = World()
    for vm in ("a", "b"):
        world.allocator.attach(call(nic(vm), container=vm))
    world.now += 25 * 3600
    assert figures(world)[0][3] is None
    world.allocator.attach(call(nic("c"), container="c"))
    assert figures(world)[0][3] == 251 * 24.0
    world.allocator.end(call(nic("a"), container="a").key, "DEL")
    world.allocator.delete_interface(world.interface("a-eth0").key, "operator")
    assert figures(world)[0] == (254, 2, 252, None)


def test_a_pod_that_came_and_went_counts_for_nothing() -> None:
    world = World()
    world.allocator.attach(call())
    pod = call(nic("pod", ephemeral=True), container="p")
    world.allocator.attach(pod)
    world.allocator.end(pod.key, "DEL")
    assert figures(world)[0] == (254, 1, 253, 253 * 24.0)


def test_static_addresses_outside_the_ranges_count_in_no_pool() -> None:
    blue = network("blue", "10.0.0.0/29")
    net = replace(blue, spec=replace(blue.spec, gateway4=ip_address("10.0.0.1")))  # type: ignore[arg-type]
    (status,) = pool_statuses(net, {ip_address("10.0.0.1"), ip_address("10.9.9.9")}, (), (), 0.0)
    assert (status.cidr, status.capacity, status.allocated) == (ip_network("10.0.0.0/29"), 5, 0)
