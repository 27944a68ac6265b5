"""Any interleaving of attach, learn, end, release and restart, from several agents with stale views, over one store.

After every step: no two Interfaces have one address, given or learned, or MAC, every VM's Interface has what it had,
nothing leaks (fsck finds nothing), and `Exhausted` was said only when the pool was full.
"""

from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from homeport_api.addresses import IpAddress, L2Domain, MacAddress
from homeport_api.errors import AddressOwned, Exhausted, Held, HomeportError, InUse, Invalid, NotFound
from homeport_api.interface import InterfaceKey
from homeport_ipam.allocator import Allocator
from homeport_store import keys
from tests.ipam.worlds import World, call, ips, network, nic, written

VMS = 9
AGENTS = 3
CAPACITY = 6
TAKEN = tuple(ip_address(f"fe80::{at}") for at in (1, 2, 3))

_agent = st.integers(0, AGENTS - 1)
_vm = st.integers(0, VMS - 1)
_container = st.integers(0, 2)
_step = st.one_of(
    st.tuples(st.sampled_from(["attach", "pod", "end", "end pod", "take over"]), _agent, _vm, _container),
    st.tuples(st.sampled_from(["learn", "learn again", "disown"]), _agent, _vm, _container),
    st.tuples(st.sampled_from(["release", "delete", "orphan", "reserve", "reclaim"]), _agent, _vm, _container),
    st.tuples(st.sampled_from(["sync", "restart"]), _agent, st.just(0), st.integers(0, 1)),
)


class Story:
    def __init__(self, rest: float) -> None:
        self.world = World((network("blue", "10.0.0.0/29"),), rest=rest)
        self.agents: list[Allocator] = [self.world.allocator, *(self.world.another() for _ in range(AGENTS - 1))]
        self.views = list(self.world.views)
        self.known: dict[InterfaceKey, tuple[str, IpAddress | None, MacAddress | None]] = {}

    def tell(self, verb: str, agent: int, vm: int, container: int) -> None:
        allocator = self.agents[agent]
        node = f"n{container}"  # not the agent's own: the runner of a sweep ends attachments anywhere
        lasting = call(nic(f"vm{vm}"), container=f"c{vm}-{container}", node=node)
        pod = call(nic(f"pod{vm}", ephemeral=True), container=f"p{vm}", node="n0")
        key = written(f"vm{vm}-eth0").key
        self.world.now += 1
        try:
            match verb:
                case "attach":
                    allocator.attach(lasting)
                case "take over":
                    allocator.attach(call(nic(f"vm{vm}"), container=f"c{vm}-{container}", node=node, take_over=True))
                case "pod":
                    allocator.attach(pod)
                case "learn" | "learn again":
                    if (holding := self.world.attachment(lasting)) is not None:
                        address = TAKEN[vm % 2 if verb == "learn" else container]
                        networks = self.world.objects.networks.list()
                        answer = allocator.learn(holding.nics[0], address, networks, ())
                        owner = self.world.owners().get(address)
                        assert (answer.refusal is None) == (owner == holding.nics[0].interface)
                case "disown":
                    allocator.release_address(L2Domain("bond0:100"), TAKEN[container], "operator")
                case "end":
                    allocator.end(lasting.key, "DEL")
                case "end pod":
                    allocator.end(pod.key, "DEL")
                case "release":
                    allocator.release(key, "operator")
                    self.known.pop(key, None)
                case "delete":
                    allocator.delete_interface(key, "operator")
                    self.known.pop(key, None)
                case "orphan":
                    allocator.orphan("shop", f"vm{vm}")
                case "reclaim":
                    for gone in allocator.reclaim(self.world.now + 40):
                        self.known.pop(gone, None)
                case "reserve":
                    wanted = ips(f"10.0.0.{1 + vm % CAPACITY}") if container else {}
                    before = self.known.pop(key, None)
                    try:
                        allocator.reserve(written(key.name, vm=f"vm{vm}", interface="eth0", **wanted))
                    except HomeportError:
                        if before is not None:
                            self.known[key] = before
                        raise
                case "sync":
                    self.views[agent].load(self.world.store.list(keys.PREFIX))
                case "restart":
                    self.agents[agent] = self.world.another(blind=bool(container))
                    self.views[agent] = self.world.views[-1]
        except Exhausted:
            assert sum(address.version == 4 for address in self.world.owners()) == CAPACITY
        except (Held, InUse, NotFound, AddressOwned):
            pass
        except Invalid as refusal:
            assert verb in {"reserve", "attach", "take over"}, refusal

    def check(self) -> None:
        interfaces = self.world.objects.interfaces.list()
        listed = [address for interface in interfaces for address in interface.status.owned]
        macs = [interface.status.mac for interface in interfaces if interface.status.mac]
        assert len(set(listed)) == len(listed)
        assert len(set(macs)) == len(macs)
        assert self.world.findings() == ()
        for interface in interfaces:
            uid, address, mac = self.known.get(interface.key, ("", None, None))
            now = next((owned.ip for owned in interface.status.addresses), None)
            if uid == interface.meta.uid:
                assert address in (None, now)
                assert mac in (None, interface.status.mac)
            self.known[interface.key] = (interface.meta.uid, now, interface.status.mac)


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(_step, max_size=40), rest=st.sampled_from([0.0, 600.0]))
def test_any_interleaving(steps: list[tuple[str, int, int, int]], rest: float) -> None:
    story = Story(rest)
    for step in steps:
        story.tell(*step)
        story.check()
