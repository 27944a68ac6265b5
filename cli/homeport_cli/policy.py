"""`policy` and its verbs. `trace`: may this packet pass, and by which rule? Answered by the agent of this node, told
here."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from homeport_api.errors import FieldError, Invalid
from homeport_cli.failure import Exit
from homeport_cli.options import common_options, output_option, pass_session
from homeport_cli.output import Form, counted, print_data
from homeport_cli.plan import plan
from homeport_cli.session import Session, is_terminal
from homeport_policy.ends import read_probe

CODES = {"allowed": Exit.DONE, "denied": Exit.DENIED, "disagree": Exit.DISAGREE}
_COLOURS = {"allowed": "green", "denied": "red", "disagree": "magenta"}
_SECTIONS = {"egress": "from", "ingress": "to"}


@click.group("policy", epilog="Exit codes of trace: 0 allowed, 10 denied, 11 oracle and kernel disagree.")
@common_options
def policy() -> None:
    """What policies do to packets."""


policy.add_command(plan)


@policy.command("trace")
@click.option("--from", "source", required=True, metavar="[NS/]VM[:INTERFACE]|ADDRESS", help="Who sends.")
@click.option("--to", "target", required=True, metavar="[NS/]VM[:INTERFACE]|ADDRESS", help="Who receives.")
@click.option(
    "--port", metavar="NUMBER|NAME[/PROTOCOL]", help="To which port, like 5432/tcp; a name is one of the receiver's."
)
@click.option("--icmp", is_flag=True, help="An echo request; the default.")
@click.option("--network", metavar="NETWORK", help="On which Network, where the ends have several in common.")
@output_option
@common_options
@pass_session
@click.pass_context
def trace(
    context: click.Context,
    session: Session,
    source: str,
    target: str,
    port: str | None,
    icmp: bool,
    network: str | None,
    form: Form,
) -> None:
    """Say whether the first packet of a connection may pass, by which policy and rule.

    Asked twice: of the oracle, by what the store says, and of this node's kernel, by the rules that it has loaded, with
    their counters. Exit code 0 when it is allowed, 10 when it is denied, 11 when the two disagree.
    """
    if port is not None and icmp:
        raise Invalid([FieldError("--port, --icmp", "exclude each other: ICMP has no ports")])
    if port is not None:
        try:
            read_probe(port)
        except ValueError as error:
            raise Invalid([FieldError("--port", str(error))]) from error
    asked = {"from": source, "to": target, "port": port, "network": network}
    request = {"verb": "trace", "namespace": session.settings.namespace}
    answer = session.ask_agent(request | {name: value for name, value in asked.items() if value is not None})
    if form in {Form.JSON, Form.YAML}:
        print_data(answer, form)
    else:
        for line in lines(answer, _styled if is_terminal() else _plain):
            click.echo(line)
    context.exit(CODES.get(str(answer["verdict"]), Exit.REFUSED))


Style = Callable[[str], str]


def _styled(word: str) -> str:
    return click.style(word, _COLOURS[word], bold=True)


def _plain(word: str) -> str:
    return word


def lines(answer: Mapping[str, Any], style: Style = _plain) -> Iterator[str]:
    """The answer for people: the verdict first, then each family's ends, the kernel beside the oracle."""
    packet, kernel = answer["packet"], answer["kernel"]
    what = "ICMP echo" if packet["port"] is None else f"{packet['port']}/{packet['protocol']}"
    yield f"{style(answer['verdict'])}: {packet['from']} to {packet['to']}, {what}, in {packet['domain']}"
    live = {each["family"]: each for each in kernel.get("families", ())}
    for family in answer["oracle"]["families"]:
        yield f"{family['family']} {family['source']} to {family['target']}: {_word(family['allowed'])}"
        beside = live.get(family["family"], {})
        for direction, end in _SECTIONS.items():
            if family[direction] is not None:
                yield f"  {direction} {end} {packet[end]}: {reason(family[direction], direction)}"
            if (ruling := beside.get(direction)) is not None:
                yield f"    kernel: {_reading(ruling, direction)}"
        for guard in beside.get("hindered", ()):
            yield f"  dropped by the guards of the port, whatever policies say: {guard}"
    if not kernel["asked"]:
        yield f"kernel not asked: {kernel['reason']}"
    for end in kernel["notAsked"]:
        yield f"kernel not asked about the {end['direction']}: {end['end']} {end['reason']}"
    for end, port in kernel["muted"].items():
        yield f"muted here: {end} (port {port}); nothing passes, since this kernel cannot enforce what isolates it"
    if answer["verdict"] == "disagree":
        yield from _disagreement(answer)


def reason(ruling: Mapping[str, Any], direction: str) -> str:
    """Why one end allows or denies. Rules are counted as fields are: from 0."""
    if ruling["policy"] is not None:
        rule = f"rule {ruling['rule']} (spec.{direction}[{ruling['rule']}])"
        return f"{_word(ruling['allowed'])} by {ruling['policy']}, {rule}"
    if ruling["isolatedBy"]:
        return f"denied: isolated by {', '.join(ruling['isolatedBy'])}; none allows it"
    if ruling["allowed"]:
        return "allowed: no policy isolates it"
    return "denied"


def _reading(ruling: Mapping[str, Any], direction: str) -> str:
    if ruling["allowed"] is None:
        return f"unknown: somebody changed {', '.join(ruling['changed'])}"
    parts = [reason(ruling, direction)]
    if ruling["chain"] is not None:
        parts.append(f"chain {ruling['chain']}")
    if ruling["counter"] is not None:
        parts.append(f"counter {ruling['counter']} {_packets(ruling['packets'])}")
    return ", ".join(parts)


def _packets(count: int | None) -> str:
    return "is not there" if count is None else counted(count, "packet")


def _disagreement(answer: Mapping[str, Any]) -> Iterator[str]:
    versions, packet = answer["versions"], answer["packet"]
    yield ""
    yield "*** DISAGREEMENT: what should be enforced is not what this kernel enforces ***"
    yield "Somebody changed the rules of table `bridge homeport`, or this is a bug of Homeport: please report all of"
    yield "this, with the output of `-o json`."
    yield f"  versions: homeport {versions['homeport']}, kernel {versions['kernel']}; node {answer['node']}"
    port = "" if packet["port"] is None else f" port {packet['port']}"
    yield f"  packet:   {packet['from']} to {packet['to']}, {packet['protocol']}{port}, in {packet['domain']}"
    live = {each["family"]: each for each in answer["kernel"].get("families", ())}
    for family in answer["oracle"]["families"]:
        for direction in _SECTIONS:
            ruling, oracle = live.get(family["family"], {}).get(direction), family[direction]
            expected = oracle["allowed"] if oracle is not None else True
            if ruling is not None and ruling["allowed"] is not expected:
                told = "allowed: not asked" if oracle is None else reason(oracle, direction)
                where = f"{family['family']} {direction}"
                yield f"  {where}: oracle says {told}"
                yield f"  {' ' * len(where)}  kernel says {_reading(ruling, direction)}"


def _word(allowed: bool) -> str:
    return "allowed" if allowed else "denied"
