"""`policy plan`: which flows manifests would allow or deny, before anything is applied. Planned in
`homeport_policy.plan`, on what the store says now and would say afterwards."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import click

from homeport_api.apply import Step, plan_apply
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.manifest import read_manifest
from homeport_api.network import Network
from homeport_api.networkpolicy import Namespace, NetworkPolicy
from homeport_api.node import STATEFUL_POLICY_UNAVAILABLE
from homeport_api.virtualmachine import VirtualMachine, workload_of
from homeport_cli.apply import filenames_option, world_of
from homeport_cli.documents import read_documents
from homeport_cli.facts import read_facts
from homeport_cli.options import common_options, output_option, pass_session
from homeport_cli.output import Form, counted, print_data
from homeport_cli.session import Session
from homeport_policy.ends import name_of
from homeport_policy.facts import Facts
from homeport_policy.plan import Plan, Shift, plan_change
from homeport_policy.probes import End
from homeport_policy.snapshot import EndpointKey
from homeport_store.objects import Objects

NAMED = 8
"""As many ends of a group are named."""


@dataclass(frozen=True, slots=True)
class Group:
    """Flows of one sort, in words. `count` are flows, of which each is a pair of ends and a service."""

    allowed: bool
    domain: str
    families: tuple[str, ...]
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    services: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Stuck:
    """An Interface that a policy would isolate for the first time, on nodes whose kernel cannot enforce any."""

    interface: str
    muted: str | None
    refused: tuple[str, ...]


@click.command("plan")
@filenames_option
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many groups of flows to show."
)
@output_option
@common_options
@pass_session
def plan(session: Session, names: tuple[str, ...], limit: int, form: Form) -> None:
    """Show which flows would be allowed and which denied if these manifests were applied. Nothing is.

    Compared are the first packets of connections between all VMs with known addresses, on all ports that policies or
    VMs name, one more, and ICMP; and from and to one outside address for each way in which ipBlocks can see one.
    """
    manifest = read_manifest(read_documents(names, sys.stdin), session.settings.namespace)
    for warning in manifest.warnings:
        click.echo(f"Warning: {warning}", err=True)
    steps = plan_apply(world_of(session, manifest.objects), manifest.objects, session.clock(), lambda: str(uuid4()))
    objects = session.objects
    facts = read_facts(objects)
    for policy in objects.policies.list():
        facts.put_policy(policy.key, policy)
    before = facts.snapshot()
    for step in steps:
        _put(facts, objects, step)
    changes = plan_change(before, facts.snapshot())
    groups = _groups(facts, changes.shifts)
    stuck = _stuck(objects, facts, changes)
    if form in {Form.JSON, Form.YAML}:
        print_data(_data(facts, changes, groups, stuck, limit), form)
    else:
        for line in _lines(facts, changes, groups, stuck, limit):
            click.echo(line)


def _put(facts: Facts, objects: Objects, step: Step) -> None:
    """What a step of `apply` would change of it. An Interface has the addresses that it owns, and no new one yet."""
    match step.value:
        case Network():
            facts.put_network(step.value.name, step.value)
        case Namespace():
            facts.put_namespace(step.value.name, step.value)
        case NetworkPolicy():
            facts.put_policy(step.value.key, step.value)
        case Interface():
            facts.put_interface(step.value.key, step.value)
        case VirtualMachine():
            key = InterfaceKey(step.value.meta.namespace, step.value.meta.name)
            facts.put_workload(key, workload_of(step.value, objects.workloads.find(key)))


def _groups(facts: Facts, shifts: Iterable[Shift]) -> tuple[Group, ...]:
    """The same flows of both families are told once; what is denied comes first."""
    found: dict[tuple[Any, ...], list[Shift]] = defaultdict(list)
    for shift in shifts:
        ends = (_names(facts, shift.senders), _names(facts, shift.receivers))
        found[shift.allowed, shift.senders[0].domain, *ends, tuple(map(str, shift.services))].append(shift)
    return tuple(
        Group(
            allowed,
            domain,
            tuple(sorted({f"IPv{shift.senders[0].address.version}" for shift in same})),
            senders,
            receivers,
            services,
            sum(shift.count for shift in same),
        )
        for (allowed, domain, senders, receivers, services), same in sorted(found.items(), key=lambda each: each[0][0])
    )


def _names(facts: Facts, ends: Sequence[End]) -> tuple[str, ...]:
    """An Interface is named once, whatever addresses it has."""
    found: dict[str, None] = {}
    strangers = [end.address for end in ends if end.endpoint is None]
    for end in ends:
        if end.endpoint is not None:
            found[_name(facts, end.endpoint)] = None
    return (*found, *(f"outside ({address})" for address in strangers))


def _name(facts: Facts, key: EndpointKey) -> str:
    endpoint = next((each for each in facts.endpoints_of(key.interface) if each.key == key), None)
    return name_of(facts, endpoint) if endpoint else str(key.interface)


def _stuck(objects: Objects, facts: Facts, changes: Plan) -> tuple[Stuck, ...]:
    """Where it runs on such a node it is muted; and on each of them an attach is refused."""
    unable = {
        (report.network, report.node)
        for report in objects.reports()
        for condition in report.conditions
        if (condition.type, condition.status) == (STATEFUL_POLICY_UNAVAILABLE, "True")
    }
    found: dict[InterfaceKey, Stuck] = {}
    for key in changes.isolated:
        interface = facts.interface(key.interface)
        nodes = sorted(node for network, node in unable if interface and network == interface.spec.network)
        if interface is None or not nodes:
            continue
        holder = interface.active_holder
        muted = holder.node if holder is not None and holder.node in nodes else None
        found[key.interface] = Stuck(str(key.interface), muted, tuple(nodes))
    return tuple(found.values())


def _isolated(facts: Facts, keys: Iterable[EndpointKey]) -> list[str]:
    return list(dict.fromkeys(_name(facts, key) for key in keys))


def _data(facts: Facts, changes: Plan, groups: Sequence[Group], stuck: Sequence[Stuck], limit: int) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, allowed in (("denied", False), ("allowed", True)):
        ours = [group for group in groups if group.allowed is allowed]
        told[name] = {
            "flows": sum(group.count for group in ours),
            "groups": [_group(group) for group in ours[:limit]],
            "more": max(0, len(ours) - limit),
        }
    return told | {
        "isolated": _isolated(facts, changes.isolated),
        "released": _isolated(facts, changes.released),
        "unenforceable": [
            {"interface": each.interface, "muted": each.muted, "refused": list(each.refused)} for each in stuck
        ],
    }


def _group(group: Group) -> Mapping[str, Any]:
    return {
        "domain": group.domain,
        "families": list(group.families),
        "from": list(group.senders),
        "to": list(group.receivers),
        "services": list(group.services),
        "flows": group.count,
    }


def _lines(facts: Facts, changes: Plan, groups: Sequence[Group], stuck: Sequence[Stuck], limit: int) -> Iterator[str]:
    if not groups:
        yield "No flow between VMs with known addresses would change."
    for allowed, title in ((False, "allowed -> denied"), (True, "denied -> allowed")):
        ours = [group for group in groups if group.allowed is allowed]
        if ours:
            yield f"{title}: {counted(sum(group.count for group in ours), 'flow')}"
        for group in ours[:limit]:
            where = f"{', '.join(group.families)} in {group.domain}"
            yield f"  {_some(group.senders)} to {_some(group.receivers)}"
            yield f"    {_some(group.services)} ({where})"
        if len(ours) > limit:
            yield f"  and {len(ours) - limit} more groups of flows (--limit)"
    for title, keys in (("isolated from then on", changes.isolated), ("isolated no longer", changes.released)):
        if keys:
            yield f"{title}: {_some(_isolated(facts, keys))}"
    for each in stuck[:limit]:
        nodes = ", ".join(each.refused)
        if each.muted is not None:
            yield f"{each.interface} would be muted: the kernel of its node {each.muted} cannot enforce policies"
        yield f"{each.interface} would be refused by nodes whose kernel cannot enforce policies: {nodes}"
    if len(stuck) > limit:
        yield f"and {len(stuck) - limit} more Interfaces that some node's kernel cannot isolate (--limit)"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
