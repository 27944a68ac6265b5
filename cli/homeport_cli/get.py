"""`get` and `describe`: what is in the store."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from homeport_api.errors import Invalid
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.virtualmachine import VirtualMachine
from homeport_api.wire import AnyKind, AnyObject
from homeport_cli.columns import table
from homeport_cli.kinds import get_objects, kind_argument, kinds_argument, list_objects, show
from homeport_cli.options import common_options, output_option, pass_session
from homeport_cli.output import Form, as_list, print_data, print_table
from homeport_cli.session import Session, is_terminal
from homeport_cli.workload import key_of, known_as, workload_of_interface, written_port


@click.command("get")
@kinds_argument
@click.argument("name", required=False)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of all namespaces.")
@output_option
@common_options
@pass_session
def get(session: Session, kind: tuple[AnyKind, ...], name: str | None, everywhere: bool, form: Form) -> None:
    """List objects, or print one.

    KIND is networks (net), interfaces (interface), virtualmachines (vm), networkpolicies (netpol), multinetworkpolicies
    (multi-policy), namespaces (ns), or policies: those of both kinds.
    """
    if name is not None and everywhere:
        raise Invalid("a NAME belongs to one namespace: leave -A out, or the name")
    everywhere = everywhere and kind[0].namespaced
    if name is None:
        found = _listed(session, kind, None if everywhere else session.settings.namespace)
    else:
        found = get_objects(session, kind, name)
    if form in {Form.JSON, Form.YAML}:
        shown = [show(item) for item in found]
        print_data(shown[0] if name is not None and len(shown) == 1 else as_list(shown), form)
    elif not found:
        where = "" if everywhere or not kind[0].namespaced else f" in namespace {session.settings.namespace}"
        click.echo(f"There are no {kind[0].plural if len(kind) == 1 else 'policies'}{where}.", err=True)
    else:
        print_table(table(session, kind, found, form, namespaces=everywhere), form, terminal=is_terminal())


def _listed(session: Session, kinds: tuple[AnyKind, ...], namespace: str | None) -> Sequence[AnyObject]:
    """Of several kinds: together, by namespace and name."""
    found = [item for kind in kinds for item in list_objects(session, kind, namespace)]
    return found if len(kinds) == 1 else sorted(found, key=lambda item: (item.meta.namespace, item.meta.name))


@click.command("describe")
@kind_argument
@click.argument("name")
@common_options
@pass_session
def describe(session: Session, kind: AnyKind, name: str) -> None:
    """Print all that is known of one object, for people."""
    item = get_objects(session, (kind,), name)[0]
    shown = {key: value for key, value in show(item).items() if key not in {"apiVersion", "kind"}}
    for line in _paragraphs({"kind": kind.name, **shown, **_known_to_policies(session, item)}):
        click.echo(line)


def _known_to_policies(session: Session, item: AnyObject) -> dict[str, Any]:
    """What policies select a VM by is no part of any object: an attach may have said it."""
    workloads = session.objects.workloads
    match item:
        case Interface():
            known = workload_of_interface(item, workloads.find(key_of(item)))
        case VirtualMachine():
            key = InterfaceKey(item.meta.namespace, item.meta.name)
            known = known_as(key, workloads.find(key), vm=True)
        case _:
            return {}
    ports = [written_port(port) for port in known.ports]
    return {"workload": {"labels": dict(known.labels), **({"ports": ports} if ports else {})}}


_KEYED_BY_USERS = {"labels", "annotations", "matchLabels"}
"""Below these, names are what somebody chose, and are printed as they are."""


def _paragraphs(value: Mapping[str, Any], indent: int = 0, *, ours: bool = True) -> Iterator[str]:
    """Names and values in two columns, lists of objects as paragraphs of their own. `ours`: the names are of fields.
    What is empty is `{}`, for in a policy that means everything."""
    margin = " " * indent
    width = max((len(name) for name in value), default=0) + 2
    for name, below in value.items():
        title = f"{_title(name) if ours else name}:"
        match below:
            case Mapping() if below:
                yield f"{margin}{title}"
                yield from _paragraphs(below, indent + 2, ours=not (ours and name in _KEYED_BY_USERS))
            case Mapping():
                yield f"{margin}{title.ljust(width)} {{}}"
            case [Mapping(), *_]:
                yield f"{margin}{title}"
                for item in below:
                    first, *rest = _paragraphs(item, indent + 4) if item else ("{}",)
                    yield f"{margin}  - {first.lstrip()}"
                    yield from rest
            case list():
                yield f"{margin}{title.ljust(width)} {', '.join(map(str, below))}"
            case bool():
                yield f"{margin}{title.ljust(width)} {'yes' if below else 'no'}"
            case _:
                yield f"{margin}{title.ljust(width)} {below}"


def _title(name: str) -> str:
    return name[:1].upper() + name[1:]
