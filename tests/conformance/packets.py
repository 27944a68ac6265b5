"""Judged scenes on the real table: which are played in which combination, and what came of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from tests.conformance.kernel import play
from tests.conformance.memory import Judgement
from tests.conformance.plan import compare, new_numbers, plan_run
from tests.conformance.scene import Layout
from tests.conformance.sessions import compare_sessions, plan_sessions, verdicts
from tests.conformance.tally import Tally
from tests.conformance.volley import Run

EACH_TENTH, EACH_25TH = 10, 25


@dataclass(frozen=True, slots=True)
class Combination:
    """How guests are attached, and whether br_netfilter is on; `sockets`: their stacks speak, else single frames."""

    layout: Layout
    br_netfilter: bool
    sockets: bool = False

    @property
    def name(self) -> str:
        return f"{'sockets ' if self.sockets else ''}{self.layout.value}{'+nf' if self.br_netfilter else ''}"


FRAMES = tuple(Combination(layout, on) for layout in Layout for on in (False, True))
SOCKETS = (Combination(Layout.ACCESS, False, True), Combination(Layout.TRUNK, True, True))
COLUMNS = tuple(each.name for each in (*FRAMES, *SOCKETS))


def play_packets(judgements: Sequence[Judgement], everything: bool, tally: Tally) -> None:
    """One combination in full, a tenth of the cases in the others, unless `everything`; of each 25th case a share by
    real sockets. Raises NotPlayed."""
    ports = sorted({port for each in judgements for port in each.scene.vlans()})
    numbers = new_numbers()
    played: list[tuple[Combination, Run, list[Judgement]]] = []
    for place, combination in enumerate(FRAMES):
        some = list(judgements) if everything or not place else list(_share(judgements, EACH_TENTH, place))
        run = plan_run(
            combination.name,
            some,
            combination.layout,
            br_netfilter=combination.br_netfilter,
            ports=ports,
            numbers=numbers,
        )
        played.append((combination, run, some))
    for place, combination in enumerate(SOCKETS):
        some = list(_talkative(judgements))[place :: len(SOCKETS)]
        run = plan_sessions(
            combination.name, some, combination.layout, br_netfilter=combination.br_netfilter, ports=ports
        )
        played.append((combination, run, some))
    records = play([run for _, run, _ in played])
    for (combination, run, some), record in zip(played, records, strict=True):
        wrong = (
            compare_sessions(run, record, some)
            if combination.sockets
            else compare(run, record, some, combination.layout)
        )
        tally.mismatches += wrong
        for judgement, session, heard in zip(some, run.sessions, record.heard, strict=False):
            tally.verdicts[judgement.scene.file][run.name] += verdicts(session, heard)
        for judgement, volley, sighting in zip(some, run.volleys, record.sightings, strict=False):
            if sighting.counters is not None:
                tally.verdicts[judgement.scene.file][run.name] += len(volley.numbers)


def _share(judgements: Sequence[Judgement], each: int, first: int) -> Iterator[Judgement]:
    """Whole chains, of each file at least one."""
    for _, of_file in groupby(judgements, key=lambda judgement: judgement.scene.file):
        chains = [list(chain) for _, chain in groupby(of_file, key=lambda judgement: judgement.scene.chain)]
        for chain in chains[first % min(each, len(chains)) :: each]:
            yield from chain


def _talkative(judgements: Sequence[Judgement]) -> Iterator[Judgement]:
    """Each 25th, and the first two of IPv6."""
    six = [each for each in judgements if each.scene.questions and each.scene.questions[0].packet.source.version == 6]
    yield from judgements[::EACH_25TH]
    yield from six[:2]
