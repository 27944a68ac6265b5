"""What a list of measurements says: medians, the 99th percentile, and ratios with an interval of 95 %. Pure.

Contenders are measured in turn, round by round, so a machine that is busy for a second slows all of them. A ratio's
interval comes from drawing whole rounds anew (bootstrap), which keeps what one round had in common.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

DRAWS = 1_000

Figure = Callable[[Sequence[float]], float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """`low` and `high` bound 95 % of the draws."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f}× ({self.low:.2f} to {self.high:.2f})"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def p99(values: Sequence[float]) -> float:
    return percentile(values, 0.99)


def ratio(ours: Sequence[float], theirs: Sequence[float], figure: Figure = median) -> Ratio:
    """`figure` of ours over `figure` of theirs; the two lists hold the same rounds in the same order."""
    rounds = list(zip(ours, theirs, strict=True))
    draw = random.Random(1)
    drawn = []
    for _ in range(DRAWS):
        mine, other = zip(*draw.choices(rounds, k=len(rounds)), strict=True)
        drawn.append(figure(mine) / figure(other))
    return Ratio(figure(ours) / figure(theirs), percentile(drawn, 0.025), percentile(drawn, 0.975))


__all__ = ["Figure", "Ratio", "median", "p99", "percentile", "ratio"]
