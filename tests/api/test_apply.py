"""Plans of `apply`: what is created, changed and refused, from worlds in memory."""

# ruff: noqa: E501 (texts are quoted whole, as users see them)

from dataclasses import replace
from itertools import count

import pytest
import yaml

from homeport_api.apply import Step, World, plan_apply
from homeport_api.errors import AlreadyExists, Conflict, HomeportError, Invalid, NotFound
from homeport_api.interface import Holder, Interface, InterfaceKey
from homeport_api.manifest import Document, read_manifest
from homeport_api.network import Network
from homeport_api.networkpolicy import Namespace, NetworkPolicy
from homeport_api.virtualmachine import VirtualMachine
from homeport_api.wire import KINDS, AnyObject

NOW = 1_750_000_000.0
EMPTY = World({}, {}, {})
APIS = {kind: version for known in KINDS for version, kind in reversed(known.apis)}


def objects(text: str) -> tuple[AnyObject, ...]:
    documents = [Document("", {"apiVersion": APIS[body["kind"]], **body}) for body in yaml.safe_load_all(text)]
    return read_manifest(documents, "shop").objects


def plan(world: World, text: str) -> tuple[Step, ...]:
    numbers = count(1)
    return plan_apply(world, objects(text), NOW, lambda: f"uid{next(numbers)}")


def after(world: World, text: str) -> World:
    """The world as it is once the plan was carried out."""
    values = [step.value for step in plan(world, text)]
    return World(
        {**world.networks, **{value.name: value for value in values if isinstance(value, Network)}},
        {**world.interfaces, **{value.key: value for value in values if isinstance(value, Interface)}},
        {
            **world.machines,
            **{
                InterfaceKey(value.meta.namespace, value.meta.name): value
                for value in values
                if isinstance(value, VirtualMachine)
            },
        },
        {**world.policies, **{value.key: value for value in values if isinstance(value, NetworkPolicy)}},
        {**world.namespaces, **{value.name: value for value in values if isinstance(value, Namespace)}},
    )


def told(steps: tuple[Step, ...]) -> list[str]:
    return [f"{type(step.value).__name__} {step.value.meta.name} {step.outcome}" for step in steps]


BLUE = "{kind: Network, metadata: {name: blue}, spec: {nodeInterfaceMatcher: {interfaceName: bond0}}}"
WEB = "{kind: VirtualMachine, metadata: {name: web}, spec: {interfaces: [{name: eth0, networkName: blue}]}}"
WITH_BLUE = after(EMPTY, BLUE)
WITH_WEB = after(WITH_BLUE, WEB)
WEB_ETH0 = InterfaceKey("shop", "web-eth0")


def test_everything_of_a_manifest_is_made_in_an_order_that_works() -> None:
    assert told(plan(EMPTY, f"{WEB}\n---\n{BLUE}")) == [
        "Network blue created",
        "Interface web-eth0 created",
        "VirtualMachine web created",
    ]


def test_a_repeat_changes_nothing() -> None:
    assert told(plan(WITH_WEB, f"{WEB}\n---\n{BLUE}")) == [
        "Network blue unchanged",
        "Interface web-eth0 unchanged",
        "VirtualMachine web unchanged",
    ]


def test_what_was_stored_keeps_its_uid_and_time() -> None:
    text = (
        "{kind: Network, metadata: {name: blue, labels: {a: b}}, spec: {nodeInterfaceMatcher: {interfaceName: bond0}}}"
    )
    (step,) = plan(WITH_BLUE, text)
    assert step.value.meta == replace(WITH_BLUE.networks["blue"].meta, labels={"a": "b"})
    assert told((step,)) == ["Network blue configured"]


@pytest.mark.parametrize(
    ("text", "kind", "error"),
    [
        pytest.param(
            "{kind: Network, metadata: {name: blue}, spec: {}}",
            Invalid,
            "Network blue spec.nodeInterfaceMatcher.interfaceName: never changes, and is bond0, not absent: make another "
            "Network instead",
            id="uplink changes",
        ),
        pytest.param(
            "{kind: Network, metadata: {name: green}, spec: {nodeInterfaceMatcher: {interfaceName: bond0}}}",
            AlreadyExists,
            "Network green spec.l2NetworkConfig.vlanID: is the place of Network blue already: two Networks cannot share "
            "an uplink and a VLAN",
            id="same place",
        ),
        pytest.param(
            "{kind: Interface, metadata: {name: a}, spec: {networkName: red}}",
            NotFound,
            "Interface shop/a spec.networkName: Network red does not exist: apply it first, or together with this",
            id="no network",
        ),
        pytest.param(
            "{kind: VirtualMachine, metadata: {name: db}, spec: {interfaces: [{name: eth0, networkName: red}]}}",
            NotFound,
            "VirtualMachine shop/db spec.interfaces[0] spec.networkName: Network red does not exist: apply it first, or "
            "together with this",
            id="no network of a VM",
        ),
        pytest.param(
            "{kind: Interface, metadata: {name: web-eth0}, spec: "
            "{networkName: blue, virtualMachineName: db, interfaceName: eth0}}",
            Invalid,
            "Interface shop/web-eth0 spec.virtualMachineName: never changes once it is set, and is web, not db",
            id="interface leaves its VM",
        ),
        pytest.param(
            "{kind: Interface, metadata: {name: a}, spec: {networkName: red}}\n---\n"
            "{kind: Network, metadata: {name: blue}, spec: {}}",
            Invalid,
            "Network blue spec.nodeInterfaceMatcher.interfaceName: never changes, and is bond0, not absent: make another "
            "Network instead; Interface shop/a spec.networkName: Network red does not exist: apply it first, or together "
            "with this",
            id="several at once",
        ),
    ],
)
def test_refusals_say_what_and_why(text: str, kind: type[HomeportError], error: str) -> None:
    with pytest.raises(HomeportError) as refusal:
        plan(WITH_WEB, text)
    assert type(refusal.value) is kind
    assert str(refusal.value) == error


def test_two_new_networks_in_one_place_are_refused() -> None:
    with pytest.raises(AlreadyExists, match="Network green"):
        plan(EMPTY, f"{BLUE}\n---\n{BLUE.replace('name: blue', 'name: green')}")


LAN = """
kind: Network
metadata: {name: lan}
spec:
  nodeInterfaceMatcher: {interfaceName: bond0}
  l2NetworkConfig: {vlanID: 10}
  gateway4: 10.0.0.1
  ipam: {pools: [{cidr: 10.0.0.0/24}]}
"""
TRUNK = """
kind: Network
metadata: {name: trunk}
spec:
  nodeInterfaceMatcher: {interfaceName: bond0}
  l2NetworkConfig: {trunk: {vlans: [20], nativeVLAN: 10}}
"""


def test_a_trunk_never_gives_the_router_of_its_native_vlan_to_a_guest() -> None:
    pools = TRUNK + "  ipam: {pools: [{cidr: 10.0.0.0/24}]}\n"
    with pytest.raises(Invalid, match=r"Network trunk spec\.gateway4: is absent, and Network lan .* has 10\.0\.0\.1"):
        plan(EMPTY, f"{LAN}---{pools}")
    with pytest.raises(Invalid, match=r"Network lan spec\.gateway4: 10\.0\.0\.1 is in the pools of Network trunk"):
        plan(after(EMPTY, pools), LAN)
    for lawful in (
        TRUNK,
        pools + "  gateway4: 10.0.0.1\n",
        TRUNK + "  ipam: {pools: [{cidr: 10.0.0.0/24, exclude: [10.0.0.1]}]}\n",
        TRUNK + "  ipam: {pools: [{cidr: 10.0.0.0/24, ranges: [{start: 10.0.0.9, end: 10.0.0.20}]}]}\n",
        pools.replace("nativeVLAN: 10", "nativeVLAN: 11"),
    ):
        assert len(plan(EMPTY, f"{LAN}---{lawful}")) == 2


def test_addresses_of_a_held_interface_stay() -> None:
    interface = WITH_WEB.interfaces[WEB_ETH0]
    held = replace(interface, status=replace(interface.status, holders=(Holder("n1", "boot", "c1", "eth0"),)))
    world = replace(WITH_WEB, interfaces={WEB_ETH0: held})
    wanted = WEB.replace("networkName: blue", "networkName: blue, ipAddresses: [10.0.0.9]")
    assert told(plan(WITH_WEB, wanted))[0] == "Interface web-eth0 configured"
    with pytest.raises(Conflict, match="is held by container c1"):
        plan(world, wanted)


def test_a_vm_takes_a_reservation_of_its_name_with_all_that_it_reserved() -> None:
    reservation = (
        "{kind: Interface, metadata: {name: web-eth0}, spec: {networkName: blue, ipAddresses: [10.0.0.5], "
        'macAddress: "02:00:00:00:00:05", allowedAddresses: [10.0.0.6]}}'
    )
    interface, machine = plan(after(WITH_BLUE, reservation), WEB)
    assert isinstance(interface.value, Interface)
    assert told((interface, machine)) == ["Interface web-eth0 configured", "VirtualMachine web created"]
    assert [str(address) for address in interface.value.spec.addresses] == ["10.0.0.5/32"]
    assert (interface.value.spec.mac, interface.value.spec.vm) == ("02:00:00:00:00:05", "web")
    assert len(interface.value.spec.allowed) == 1


def test_a_reservation_and_its_vm_apply_together_and_again() -> None:
    both = f"{{kind: Interface, metadata: {{name: web-eth0}}, spec: {{networkName: blue}}}}\n---\n{WEB}"
    assert told(plan(WITH_BLUE, both)) == ["Interface web-eth0 created", "VirtualMachine web created"]
    assert told(plan(after(WITH_BLUE, both), both)) == ["Interface web-eth0 unchanged", "VirtualMachine web unchanged"]


def test_a_vm_that_is_made_again_takes_its_interfaces_back() -> None:
    interface = WITH_WEB.interfaces[WEB_ETH0]
    orphan = replace(interface, status=replace(interface.status, orphaned=NOW - 60))
    step, _ = plan(replace(WITH_WEB, interfaces={WEB_ETH0: orphan}, machines={}), WEB)
    assert isinstance(step.value, Interface)
    assert step.value.status.orphaned is None
    assert step.value.meta.uid == interface.meta.uid


POLICIES = """
{kind: NetworkPolicy, metadata: {name: web}, spec: {podSelector: {matchLabels: {app: web}}}}
---
{kind: MultiNetworkPolicy, metadata: {name: web}, spec: {podSelector: {}}}
---
{kind: Namespace, metadata: {name: shop}}
"""


def test_policies_and_namespaces_come_before_whom_they_select() -> None:
    assert told(plan(WITH_BLUE, f"{WEB}\n---{POLICIES}")) == [
        "Namespace shop created",
        "NetworkPolicy web created",
        "NetworkPolicy web created",
        "Interface web-eth0 created",
        "VirtualMachine web created",
    ]


def test_policies_and_namespaces_are_applied_again() -> None:
    world = after(EMPTY, POLICIES)
    assert {step.outcome for step in plan(world, POLICIES)} == {"unchanged"}
    changed = POLICIES.replace("app: web", "app: db").replace("name: shop", "name: shop, labels: {team: a}")
    namespace, policy, other = plan(world, changed)
    assert [step.outcome for step in (namespace, policy, other)] == ["configured", "configured", "unchanged"]
    old = world.namespaces["shop"].meta
    assert (namespace.value.meta.uid, namespace.value.meta.created) == (old.uid, NOW)
    assert dict(namespace.value.meta.labels) == {"team": "a", "kubernetes.io/metadata.name": "shop"}
    assert isinstance(policy.value, NetworkPolicy)
    assert policy.value.meta == world.policies[policy.value.key].meta
