"""`ipam`: who owns which address, releases by hand, and the check of the records."""

import random
from ipaddress import ip_address
from typing import Any

import click

from homeport_api import wire
from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.errors import BadInput, Invalid, NotFound
from homeport_api.interface import InterfaceKey
from homeport_api.network import Network
from homeport_cli.failure import Exit
from homeport_cli.options import common_options, output_option, pass_session
from homeport_cli.output import Form, Table, as_list, count, print_data, print_table
from homeport_cli.session import Session, is_terminal
from homeport_ipam import fsck
from homeport_store import keys

RELEASED = "released by a user"


@click.group("ipam")
def ipam() -> None:
    """Addresses and their owners."""


@ipam.command("show")
@click.argument("network", required=False)
@output_option
@common_options
@pass_session
def show(session: Session, network: str | None, form: Form) -> None:
    """Print pools and owners of one Network, or of all."""
    objects = session.objects
    found = objects.networks.list() if network is None else (objects.networks.get(network),)
    shown = [_usage(session, item) for item in session.networks_with_status(found)]
    if form in {Form.JSON, Form.YAML}:
        print_data(as_list(shown) if network is None else shown[0], form)
        return
    pools = [
        (usage["network"], pool["cidr"], *(count(pool[name]) for name in ("capacity", "allocated", "free")))
        for usage in shown
        for pool in usage["pools"]
    ]
    owners = [
        (str(usage["network"]), owner["address"], owner["interface"], owner["kind"])
        for usage in shown
        for owner in usage["owners"]
    ]
    print_table(Table(("NETWORK", "POOL", "CAPACITY", "ALLOCATED", "FREE"), tuple(pools)), form, terminal=is_terminal())
    if owners:
        click.echo()
        print_table(Table(("NETWORK", "ADDRESS", "INTERFACE", "KIND"), tuple(owners)), form, terminal=is_terminal())


@ipam.command("release")
@click.argument("what", metavar="INTERFACE|ADDRESS")
@click.option("--network", metavar="NETWORK", help="Where the ADDRESS is; needed when several Networks have it.")
@common_options
@pass_session
def release(session: Session, what: str, network: str | None) -> None:
    """Take all addresses from an Interface, or one address from whoever owns it.

    Refused while an active holder uses it. The Interface stays, and is given others at its next attach.
    """
    try:
        address = ip_address(what)
    except ValueError:
        key = InterfaceKey(session.settings.namespace, what)
        released = session.allocator.release(key, RELEASED)
        click.echo(f"interface/{key} released {', '.join(map(str, released)) or 'nothing: it had no addresses'}")
        return
    domain = _domain_of(session, address, network)
    prefix = keys.addresses_of(domain)
    session.view.load(session.store.list(prefix), prefix)  # an address that a view lacks is taken for a free one
    owner = session.allocator.release_address(domain, address, RELEASED)
    click.echo(f"interface/{owner} released {address}")


@ipam.command("fsck")
@click.option("--repair", is_flag=True, help="Repair what can be repaired safely.")
@output_option
@common_options
@pass_session
@click.pass_context
def check(context: click.Context, session: Session, repair: bool, form: Form) -> None:
    """Look for leaked, orphaned and doubled records, and explain each.

    Changes nothing without --repair. Exit code 1 when something is wrong and stays so.
    """
    findings = fsck.judge(session.store.list(keys.PREFIX, without=keys.JOURNAL), session.clock(), random.SystemRandom())
    left = 0
    shown: list[dict[str, Any]] = []
    for finding in findings:
        repaired = repair and fsck.repair(session.store, finding, session.settings.seconds("rest"))
        left += not repaired
        shown.append(
            {
                "wrong": finding.wrong.value,
                "key": finding.key,
                "explanation": finding.explanation,
                "evidence": list(finding.evidence),
                "repair": "done" if repaired else "possible" if finding.repair else "by hand",
            }
        )
    if form in {Form.JSON, Form.YAML}:
        print_data({"findings": shown}, form)
    elif not shown:
        click.echo("Nothing is wrong.")
    else:
        for entry in shown:
            click.echo(f"{entry['wrong']}: {entry['key']}\n  {entry['explanation']}")
            click.echo(f"  evidence: {', '.join(entry['evidence'])}\n  repair: {entry['repair']}")
        if left and not repair:
            click.echo("\nNothing was changed; --repair repairs what is marked possible.")
    context.exit(Exit.REFUSED if left else Exit.DONE)


def _usage(session: Session, network: Network) -> dict[str, Any]:
    domain = network.l2_domain
    prefix = keys.addresses_of(domain) if domain else ""
    owners = []
    for record in session.store.list(prefix).records if domain else ():
        try:
            owner = wire.OWNER.loads(record.value)
        except BadInput as error:
            raise BadInput(f"{record.key}: {error}: `homeport ipam fsck` explains it") from error
        owners.append((ip_address(record.key.removeprefix(prefix)), owner))
    owners.sort(key=lambda pair: (pair[0].version, int(pair[0])))
    return {
        "network": network.name,
        "domain": domain,
        "pools": [
            {"cidr": str(p.cidr), "capacity": p.capacity, "allocated": p.allocated, "free": p.free}
            for p in network.status.pools
        ],
        "owners": [
            {"address": str(address), "interface": str(owner.interface), "kind": owner.kind.value}
            for address, owner in owners
        ],
    }


def _domain_of(session: Session, address: IpAddress, network: str | None) -> L2Domain:
    """The L2 domain in which the address has an owner."""
    objects = session.objects
    candidates = (objects.networks.get(network),) if network else objects.networks.list()
    owned = {
        item.l2_domain: item.name
        for item in candidates
        if item.l2_domain is not None and session.store.get(keys.address(item.l2_domain, address)) is not None
    }
    if not owned:
        where = f"on Network {network}" if network else "on any Network"
        raise NotFound(f"{address} has no owner {where}")
    if len(owned) > 1:
        names = ", ".join(sorted(owned.values()))
        raise Invalid(f"{address} has an owner on each of the Networks {names}: say which with --network")
    return next(domain for domain in owned if domain is not None)
