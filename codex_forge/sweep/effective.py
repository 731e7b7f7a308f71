"""How much uneven groups of questions are worth, and how wide intervals must be for them.

One group of forty questions beside twenty of one decides most of a mean, so such groups tell less
than as many of equal size (Kish, Survey Sampling, 1965). Resamples make the spread too small, too:
a large group draws the mean towards itself, and so seems to differ little from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit

from codex_forge.compare.intervals import Floats

LEAST = 5
"""Groups of equal size that a choice needs; with fewer the truly best trial is lost too often."""


@dataclass(frozen=True)
class Effective:
    """What the groups are worth."""

    groups: float
    """As many groups of equal size."""
    widening: float
    """The true spread of a mean, in spreads of the resamples."""

    @classmethod
    def of(cls, sizes: Floats) -> Effective:
        """Of groups of so many questions each."""
        if len(sizes) == 1:
            return cls(1.0, 1.0)
        share = sizes / sizes.sum()
        squares = share**2
        total = float(squares.sum())
        seen = float((squares * (1 - 2 * share + total)).sum())
        return cls(round(1 / total, 9), float(np.sqrt(total / seen)))

    @property
    def few(self) -> bool:
        """Are they too few to choose by?"""
        return self.groups < LEAST

    def reach(self, level: float) -> float:
        """How many spreads of the resamples leave out `level` on one side, of a t distribution."""
        if self.groups == 1:
            return -NormalDist().inv_cdf(level)
        return float(-stdtrit(self.groups - 1, level)) * self.widening

    def expanded(self, critical: float) -> float:
        """A critical value of a normal distribution, as large as so few groups need."""
        return self.reach(NormalDist().cdf(-max(critical, 0.0)))

    def ends(self, values: Floats, confidence: float) -> tuple[Floats, Floats]:
        """Expanded percentiles of each row; `values` has shape (rows, resamples)."""
        tail = NormalDist().cdf(-self.reach((1 - confidence) / 2))
        low, high = np.quantile(values, [tail, 1 - tail], axis=1)
        return low, high
