"""`python -m tests.conformance.traces [WORLDS]`: random worlds on the real table of the Debian kernel, random packets
in each, and for every packet what `policy trace` says of it, by the table as the kernel lists it at that moment, beside
what became of it.

Exit codes: 0 all agree, 1 some do not, 3 the kernel for the packets cannot be had.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from homeport_dataplane.nft import Owned
from homeport_policy.live import Live, Port, read_listing
from homeport_policy.snapshot import EndpointKey
from homeport_policy.trace import Here, Outcome, Traced, trace, verdict
from tests.conformance.kernel import NotPlayed, play
from tests.conformance.memory import BASE, Judgement, judge_scenes
from tests.conformance.plan import new_numbers, plan_run
from tests.conformance.scene import Layout, mac_of
from tests.conformance.tally import Mismatch, explain
from tests.conformance.volley import Record, Run
from tests.conformance.worlds import PORTS, scene_of

COLUMN = "trace"
WORLDS = 400
"""More than 10,000 packets."""


def plan_traces(judgements: Sequence[Judgement], layout: Layout) -> Run:
    """As for packets alone, and the table is listed after each volley."""
    run = plan_run(COLUMN, judgements, layout, br_netfilter=False, ports=PORTS, numbers=new_numbers())
    return replace(run, volleys=tuple(replace(each, listed=True) for each in run.volleys))


def compare_traces(run: Run, record: Record, judgements: Sequence[Judgement], layout: Layout) -> Iterator[Mismatch]:
    """Each packet of which `trace` says something else than what was seen."""
    for volley, sighting, judgement in zip(run.volleys, record.sightings, judgements, strict=True):
        scene = judgement.scene
        if sighting.complaint or sighting.owned is None:
            yield Mismatch(scene.id, scene.file, COLUMN, sighting.complaint or "the table was not listed")
            continue
        arrived = {number for _, number in sighting.arrivals}
        traced = _trace(judgement, layout, live_of(judgement, layout, sighting.owned))
        for position, (number, said) in enumerate(zip(volley.numbers, traced, strict=True)):
            seen = Outcome.ALLOWED if number in arrived else Outcome.DENIED
            if (outcome := verdict((said,)).outcome) is not seen:
                text = f"{scene.questions[position].text}: trace says {outcome.value}, and it was {seen.value}"
                yield Mismatch(scene.id, scene.file, COLUMN, text, tuple(explain(judgement, position)))


def live_of(judgement: Judgement, layout: Layout, owned: Owned) -> Live:
    packets = {name: count.packets for name, count in owned.counters.items()}
    listing = read_listing(BASE, owned.rules, owned.elements, owned.maps, packets)
    return Live(BASE, judgement.compiled[layout].program, listing)


def _trace(judgement: Judgement, layout: Layout, live: Live) -> tuple[Traced, ...]:
    snapshot = judgement.scene.arranged(layout)

    def here(key: EndpointKey) -> Here | None:
        endpoint = snapshot.endpoints[key]
        if endpoint.port is None:
            return None
        return Here(Port(endpoint.port, mac_of(endpoint.port), node=endpoint.node), live)

    return trace(snapshot, [question.packet for question in judgement.scene.questions], here)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.conformance.traces", description="Holds traces against packets.")
    parser.add_argument("worlds", type=int, nargs="?", default=WORLDS, help="default: %(default)s")
    judgements = list(judge_scenes(map(scene_of, range(parser.parse_args(argv).worlds))))
    run = plan_traces(judgements, Layout.ACCESS)
    try:
        (record,) = play([run])
    except NotPlayed as reason:
        print(f"traces: {reason}", file=sys.stderr)
        return 3
    wrong = [*compare_traces(run, record, judgements, Layout.ACCESS)]
    asked = sum(len(each.scene.questions) for each in judgements)
    print(*wrong, f"{len(judgements)} worlds, {asked} packets, {len(wrong)} of them traced wrongly", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
