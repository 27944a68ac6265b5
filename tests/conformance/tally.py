"""What a run has found: how many verdicts of each kind, and each one that is not what its case says."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from homeport_policy.evaluate import Decision, Ruling
from homeport_policy.program import Program
from homeport_policy.simulate import Judged
from tests.conformance.case import Case
from tests.conformance.memory import Judgement

ORACLE, COMPILER, PARSER = "oracle", "compiler", "parser"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """`column` is who was wrong; `lines` say what it and the others made of the packet."""

    case: str
    file: str
    column: str
    text: str
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join((f"MISMATCH {self.case} [{self.column}]: {self.text}", *self.lines))


@dataclass(slots=True)
class Tally:
    """`verdicts` by file and column."""

    cases: Counter[str] = field(default_factory=Counter)
    verdicts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    mismatches: list[Mismatch] = field(default_factory=list)

    def count_case(self, case: Case) -> None:
        """A case whose policies our parser refuses is wrong as a whole: they are all valid."""
        self.cases[case.file] += 1
        if case.refused is not None:
            self.mismatches.append(Mismatch(case.id, case.file, PARSER, "policies are refused", (case.refused,)))

    def count_memory(self, judgement: Judgement) -> None:
        scene = judgement.scene
        for number, question in enumerate(scene.questions):
            self.verdicts[scene.file][ORACLE] += 1
            self.verdicts[scene.file][COMPILER] += len(judgement.compiled)
            wrong = [COMPILER for each in judgement.compiled.values() if each.allows(number) != question.allowed]
            if judgement.oracle[number].allowed != question.allowed:
                wrong.insert(0, ORACLE)
            if wrong:
                lines = tuple(explain(judgement, number))
                self.mismatches.append(
                    Mismatch(scene.id, scene.file, " and ".join(dict.fromkeys(wrong)), question.text, lines)
                )
        for layout, compiled in judgement.compiled.items():
            if not compiled.fresh:
                text = f"changes led to another program than a fresh start makes ({layout.value})"
                self.mismatches.append(Mismatch(scene.id, scene.file, COMPILER, text))

    def add(self, file: str, column: str, verdicts: int, mismatches: Iterable[Mismatch]) -> None:
        self.verdicts[file][column] += verdicts
        self.mismatches += mismatches


def explain(judgement: Judgement, number: int) -> Iterable[str]:
    """What oracle and compiled rules made of a question."""
    yield f"oracle: {_decision(judgement.oracle[number])}"
    for layout, compiled in judgement.compiled.items():
        yield f"rules ({layout.value}): {_judged(compiled.program, compiled.judged[number])}"


def _decision(decision: Decision) -> str:
    sides = {"egress": decision.egress, "ingress": decision.ingress}
    return "; ".join(f"{side} {_ruling(ruling)}" for side, ruling in sides.items() if ruling) or "nobody is asked"


def _ruling(ruling: Ruling) -> str:
    if ruling.policy is not None:
        return f"allowed by {ruling.policy}, rule {ruling.rule}"
    if ruling.allowed:
        return "allowed, since no policy isolates it"
    return f"denied by {', '.join(map(str, ruling.isolated_by))}"


def _judged(program: Program, judged: Judged) -> str:
    counted = []
    for name in judged.counted:
        meant = program.counters.get(name)
        said = f"{meant.policy} rule {meant.rule}" if meant and meant.policy else ""
        counted.append(f"{name} ({said})" if said else name)
    return f"{judged.verdict}, counted by {', '.join(counted) or 'no counter'}"
