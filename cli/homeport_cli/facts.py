"""What policies are judged on, read from the store: for `policy plan`, and for the status of policies."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from homeport_api.attachment import PortKind
from homeport_api.interface import InterfaceKey
from homeport_api.networkpolicy import NetworkPolicy
from homeport_policy.facts import Facts
from homeport_policy.status import Attached, Nodes, policy_statuses
from homeport_store.objects import Objects


def read_facts(objects: Objects) -> Facts:
    """What the store says now, but for the policies."""
    facts = Facts()
    for network in objects.networks.list():
        facts.put_network(network.name, network)
    for namespace in objects.namespaces.list():
        facts.put_namespace(namespace.name, namespace)
    for workload in objects.workloads.list():
        facts.put_workload(workload.key, workload)
    for interface in objects.interfaces.list():
        facts.put_interface(interface.key, interface)
    return facts


def with_status(objects: Objects, policies: Sequence[NetworkPolicy]) -> tuple[NetworkPolicy, ...]:
    """Each judged by itself: a status says nothing of other policies."""
    if not policies:
        return ()
    facts = read_facts(objects)
    for policy in policies:
        facts.put_policy(policy.key, policy)
    attached: dict[InterfaceKey, list[Attached]] = defaultdict(list)
    for attachment in objects.attachments.list():
        for nic in attachment.nics:
            attached[nic.interface].append(Attached(attachment.key.node, nic.kind is not PortKind.NONE))
    reports = {report.node: report for report in objects.policy_reports()}
    nodes = Nodes(attached, reports, frozenset(node.name for node in objects.nodes()))
    statuses = policy_statuses(facts.snapshot(), [policy.key for policy in policies], nodes)
    return tuple(replace(policy, status=statuses[policy.key]) for policy in policies)
