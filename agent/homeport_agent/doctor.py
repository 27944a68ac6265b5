"""`doctor`: walks from the store to a guest's port, and names the step that is broken and its remedy.

Each step looks at the thing itself (the store is asked, the port is read), not at what the agent believes. A step that
cannot be judged for want of an earlier one is skipped, and says so.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

from homeport_agent.journal import Entry, Journal
from homeport_agent.placement import Place
from homeport_agent.policies import Policies
from homeport_agent.ports import port_of
from homeport_agent.switch import Switch
from homeport_api.attachment import Nic, PortKind
from homeport_api.errors import HomeportError
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.network import Network
from homeport_api.networkpolicy import Direction
from homeport_api.node import TroubleReason
from homeport_dataplane import links, vlan
from homeport_dataplane.features import br_netfilter
from homeport_dataplane.forwarding import inspect_firewall
from homeport_ipam.view import View
from homeport_policy import guards
from homeport_policy.evaluate import selecting
from homeport_policy.status import ENFORCED, Attached, Nodes, policy_statuses
from homeport_store import keys
from homeport_store.protocol import Store

SLOW = 0.1
POLICIES_NAMED = 10
"""As many policies in trouble get a step of their own."""


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the walk. `remedy` is what to do; empty where nothing is to be done."""

    name: str
    state: State
    detail: str
    remedy: str = ""


class Doctor:
    def __init__(
        self,
        node: str,
        store: Store,
        view: View,
        switch: Switch,
        journal: Journal,
        policies: Policies,
        stale_since: Callable[[], float | None],
    ) -> None:
        self._node = node
        self._store = store
        self._view = view
        self._switch = switch
        self._journal = journal
        self._policies = policies
        self._stale_since = stale_since

    def examine(self, namespace: str, vm: str | None) -> list[dict[str, str]]:
        """The steps in the order of the walk."""
        steps = [Step("agent", State.OK, f"answers on node {self._node}"), self._examine_store(), self._pending()]
        steps += self._kernel()
        steps.append(self._rules())
        steps += [self._network(network) for network in self._networks()]
        steps += self._existing_bridges()
        steps += self._policy_steps()
        if vm is not None:
            steps += self._vm(namespace, vm)
        return [asdict(step) for step in steps]

    def _networks(self) -> list[Network]:
        return list(self._view.networks())

    def _examine_store(self) -> Step:
        began = time.monotonic()
        try:
            self._store.get(keys.GENERATION)
        except HomeportError as error:
            return Step(
                "store",
                State.BROKEN,
                str(error),
                "start etcd, or look at --etcd-endpoints and the certificates; running guests and DEL are not affected",
            )
        took = time.monotonic() - began
        since = self._stale_since()
        if since is not None:
            return Step("store", State.WARNING, f"answers in {took * 1000:.1f} ms, but its watch is behind", "wait")
        if took > SLOW:
            remedy = "look at etcd's disk and network: every ADD waits for it"
            return Step("store", State.WARNING, f"answers in {took * 1000:.0f} ms", remedy)
        return Step("store", State.OK, f"answers in {took * 1000:.1f} ms")

    def _pending(self) -> Step:
        live, pending = len(self._journal.live()), len(self._journal.pending())
        if pending:
            detail = f"{live} attachments live, {pending} ended ones are not told to the store yet"
            return Step("journal", State.WARNING, detail, "they are told when the store answers")
        return Step("journal", State.OK, f"{live} attachments live, nothing pending")

    def _kernel(self) -> list[Step]:
        has = self._switch.features
        steps = []
        if has.vlan_filtering:
            steps.append(Step("kernel: bridge VLAN filtering", State.OK, "there"))
        else:
            steps.append(
                Step(
                    "kernel: bridge VLAN filtering",
                    State.WARNING,
                    "missing: isolated Networks and one untagged Network an uplink work, VLANs and trunks do not",
                    "use a kernel with CONFIG_BRIDGE_VLAN_FILTERING",
                )
            )
        if has.bridge_conntrack:
            steps.append(Step("kernel: bridge conntrack", State.OK, "there"))
        else:
            steps.append(
                Step(
                    "kernel: bridge conntrack",
                    State.WARNING,
                    "missing: policies that need connection state cannot be enforced on this node",
                    "use a kernel with CONFIG_NF_CONNTRACK_BRIDGE",
                )
            )
        return steps

    def _rules(self) -> Step:
        try:
            self._switch.check()
        except HomeportError as error:
            return Step("guard rules", State.BROKEN, str(error), "restart the agent; it puts them back")
        return Step("guard rules", State.OK, f"{len(self._switch.opened())} ports may speak")

    def _network(self, network: Network) -> Step:
        name = f"network {network.name}"
        try:
            placement = self._switch.place(network)
        except HomeportError as error:
            return Step(name, State.BROKEN, str(error), "see the detail; other Networks are not affected")
        if placement.uplink is None:
            return Step(name, State.OK, f"isolated on this node, bridge {self._switch.bridge_of(placement)}")
        link = links.find_link(self._switch.host, placement.uplink)
        if link is None or not link.up:
            return Step(name, State.WARNING, f"uplink {placement.uplink} is down", f"ip link set {placement.uplink} up")
        if not link.carrier:
            remedy = "look at the cable, the switch's port, or the bond's members"
            return Step(name, State.WARNING, f"uplink {placement.uplink} has no carrier", remedy)
        return Step(name, State.OK, f"uplink {placement.uplink}, MTU {placement.mtu}, VLANs {placement.port}")

    def _existing_bridges(self) -> list[Step]:
        """What the host can break where ports are in its own namespace."""
        if not any(self._on_host(network) for network in self._networks()):
            return []
        seen = br_netfilter(self._switch.host)
        if not (seen.ip4 or seen.ip6):
            return [Step("host: br_netfilter", State.OK, "off: the host's IP tables do not see bridged frames")]
        dropping = inspect_firewall(self._switch.host).dropping
        if dropping:
            return [
                Step(
                    "host: br_netfilter",
                    State.BROKEN,
                    f"on, and {dropping} drops forwarded packets: frames on existing bridges are lost",
                    "let the Networks use a NIC instead of a bridge, accept bridged frames there, or "
                    "sysctl net.bridge.bridge-nf-call-iptables=0",
                )
            ]
        return [
            Step(
                "host: br_netfilter",
                State.WARNING,
                "on: a firewall of the host sees the frames of existing bridges",
                "let the Networks use a NIC instead of a bridge",
            )
        ]

    def _on_host(self, network: Network) -> bool:
        try:
            return self._switch.place(network).place is Place.HOST
        except HomeportError:
            return False

    def _policy_steps(self) -> list[Step]:
        """Which policies this node does not enforce as the store has them, and which have no effect as they are."""
        try:
            self._policies.require_known()
        except HomeportError as error:
            return [Step("policies", State.SKIPPED, str(error))]
        report = self._policies.troubles.report(self._node)
        with self._policies.lock:
            snapshot = self._policies.facts.snapshot()
        attached = {
            nic.interface: (Attached(self._node, nic.kind is not PortKind.NONE),)
            for entry in self._journal.live()
            for nic in entry.attachment.nics
        }
        own = [key for key, policy in sorted(snapshot.policies.items()) if not policy.everywhere]
        statuses = policy_statuses(snapshot, own, Nodes(attached, {self._node: report}, {self._node}))
        steps = [
            Step(
                f"policy {key}",
                State.BROKEN if condition.type == ENFORCED else State.WARNING,
                f"{condition.type}: {condition.reason}: {condition.message}",
                _POLICY_REMEDIES.get(condition.reason, ""),
            )
            for key, status in statuses.items()
            for condition in status.conditions
            if (condition.type == ENFORCED) != (condition.status == "True")
        ]
        known = {(key.namespace, key.kind.value, key.name) for key in statuses}
        steps += [
            Step(
                f"policy {each.kind} {each.namespace}/{each.name}",
                State.BROKEN,
                f"{ENFORCED}: {each.reason}: {each.message}",
                _POLICY_REMEDIES.get(each.reason, ""),
            )
            for each in report.troubles
            if (each.namespace, each.kind, each.name) not in known
        ]
        if len(steps) > POLICIES_NAMED:
            more = f"{len(steps) - POLICIES_NAMED} more are in trouble"
            steps[POLICIES_NAMED:] = [Step("policies", State.BROKEN, more, "homeport get policies -A -o wide")]
        return steps or [Step("policies", State.OK, f"{len(own)}, of which none is in trouble here")]

    def _vm(self, namespace: str, vm: str) -> list[Step]:
        found = [interface for interface in self._view.interfaces(namespace) if interface.spec.vm == vm]
        if not found:
            remedy = f"homeport attach {vm} --network …, or apply its VirtualMachine"
            return [Step(f"vm {namespace}/{vm}", State.BROKEN, "has no Interface", remedy)]
        return [step for interface in found for step in self._interface(interface)]

    def _interface(self, interface: Interface) -> list[Step]:
        name = f"interface {interface.key}"
        known = (*interface.status.addresses, *(f"{each.address} (learned)" for each in interface.status.learned))
        addresses = ", ".join(map(str, known)) or "no address"
        holder = interface.active_holder
        if holder is None:
            remedy = "start the VM: its container or `homeport attach` makes the port"
            return [Step(name, State.WARNING, f"reserved ({addresses}), held by nobody", remedy)]
        if holder.node != self._node:
            detail = f"{addresses}, held by {holder}"
            return [Step(name, State.SKIPPED, detail, f"run `homeport doctor` on node {holder.node}")]
        entry, nic = self._attached(interface.key)
        if entry is None or nic is None:
            remedy = "detach it and attach it again, or `homeport ipam fsck`"
            return [Step(name, State.BROKEN, f"held by {holder}, which this node knows nothing of", remedy)]
        steps = [Step(name, State.OK, f"{addresses}, MAC {interface.status.mac}, epoch {interface.status.epoch}")]
        if nic.kind is not PortKind.NONE:
            steps.append(self._port(entry, nic, interface))
        return steps

    def _attached(self, key: InterfaceKey) -> tuple[Entry | None, Nic | None]:
        for entry in self._journal.live():
            for nic in entry.attachment.nics:
                if nic.interface == key:
                    return entry, nic
        return None, None

    def _port(self, entry: Entry, nic: Nic, interface: Interface) -> Step:
        name = f"port of {interface.key}"
        with self._view.reading() as reading:
            network = reading.network(nic.network)
        if network is None:
            return Step(name, State.BROKEN, f"Network {nic.network} is gone", "apply it again")
        try:
            port = port_of(entry.attachment.key, nic, network, self._switch.place(network), None)
        except HomeportError as error:
            return Step(name, State.BROKEN, str(error), "see the Network's step")
        side = self._switch.side(port.placement.place)
        link = links.find_link(side.namespace, port.name)
        if link is None:
            return Step(name, State.BROKEN, f"{port.name} is gone from {side.namespace.label}", "restart the VM")
        if not link.up or not link.carrier:
            detail = f"{port.name} has no carrier: the guest has its end down"
            return Step(name, State.WARNING, detail, "bring the link up in the guest")
        if port.placement.filtering and (present := vlan.find_vlans(side.namespace, link.index)) != port.placement.port:
            return Step(
                name, State.BROKEN, f"{port.name} has VLANs {present}, not {port.placement.port}", "restart the agent"
            )
        if port.name in self._policies.unenforced:
            return self._unenforced(name, port.name, interface)
        if port.name not in side.nft.elements(guards.SPEAKING, side.table):
            return Step(name, State.BROKEN, f"{port.name} is muted by the guard rules", "restart the agent")
        bridge = self._switch.bridge_of(port.placement)
        return Step(name, State.OK, f"{port.name} on {bridge}, VLANs {port.placement.port}, MTU {link.mtu}")

    def _unenforced(self, name: str, port: str, interface: Interface) -> Step:
        """Muted, since nothing else keeps its policies here."""
        with self._policies.lock:
            snapshot, endpoints = self._policies.facts.snapshot(), self._policies.facts.endpoints_of(interface.key)
        isolating = {policy.key for each in endpoints for way in Direction for policy in selecting(snapshot, each, way)}
        named = ", ".join(map(str, sorted(isolating))) or "a policy"
        return Step(
            name,
            State.BROKEN,
            f"{port} is muted: {named} isolates it, and this kernel does not track bridged connections "
            "(CONFIG_NF_CONNTRACK_BRIDGE)",
            "boot a kernel with CONFIG_NF_CONNTRACK_BRIDGE, move the VM to a node with one, or take the policy away",
        )


_POLICY_REMEDIES = {
    TroubleReason.UNREADABLE: "upgrade this agent if a newer Homeport wrote it; else delete it and apply it again",
    TroubleReason.REFUSED: "look into the agent's log; it tries again by itself. If the policy is at fault, change it",
    TroubleReason.STATEFUL_POLICY_UNAVAILABLE: "boot a kernel with CONFIG_NF_CONNTRACK_BRIDGE, or move the VMs to a "
    "node that has one",
    "NotOurs": "attach the VM with the plugin `homeport`, or take the policy away",
    "NoSuchNetwork": "apply the Network, or correct the annotation",
    "NoPolicyFor": "annotate it with k8s.v1.cni.cncf.io/policy-for: NETWORK",
    "NotAnnotated": "annotate it with homeport.dev/network: NETWORK, or let a Network have networkPolicies: All",
    "NoSuchPort": "name the port at the VM (`homeport attach --port NAME=NUMBER/PROTOCOL`), or give its number",
}
"""By the condition's reason."""
