"""Is the difference real? Paired intervals and tests that respect groups of questions.

Questions with the same answer are not independent, so whole groups are resampled (cluster
bootstrap: Davison & Hinkley, 1997, section 3.8) and whole groups change sign in the paired
randomisation test (Smucker, Allan & Carterette, CIKM 2007). Plain percentile intervals are too
narrow when there are few groups; these are expanded (Hesterberg, The American Statistician, 2015).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]

_BLOCK = 500
_POWER = 0.8
_TIE = 1e-9


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Candidate minus baseline on one measure."""

    baseline: Interval
    candidate: Interval
    difference: Interval
    p_value: float
    win: int
    tie: int
    loss: int
    smallest_detectable: float
    """The true difference that a bank of this size and spread finds with a chance of 80 %."""


class Resampler:
    """Resamples of the groups of one question bank, drawn once and used for every measure."""

    def __init__(self, groups: Sequence[str], resamples: int, confidence: float, seed: int) -> None:
        """`groups` names the group of each question."""
        names, self._group = np.unique(np.asarray(groups), return_inverse=True)
        self.groups = len(names)
        self._resamples, self._confidence, self._seed = resamples, confidence, seed

    def compare(self, baseline: Sequence[float], candidate: Sequence[float]) -> Paired:
        """Everything about one measure; the values are parallel to the questions."""
        before, after = np.asarray(baseline, float), np.asarray(candidate, float)
        difference = after - before
        means = self._means(np.stack([before, after, difference]))
        low, high = self._ends(means)
        observed = [float(values.mean()) for values in (before, after, difference)]
        b, c, d = (
            Interval(m, float(lo), float(hi)) for m, lo, hi in zip(observed, low, high, strict=True)
        )
        return Paired(
            baseline=b,
            candidate=c,
            difference=d,
            p_value=self._p_value(difference),
            win=int((difference > _TIE).sum()),
            tie=int((abs(difference) <= _TIE).sum()),
            loss=int((difference < -_TIE).sum()),
            smallest_detectable=self._smallest_detectable(float(means[2].std())),
        )

    def _means(self, values: Floats) -> Floats:
        """Means of each row of `values` in every resample, shape (rows, resamples)."""
        sums = np.stack([np.bincount(self._group, row, self.groups) for row in values])
        sizes = np.bincount(self._group, minlength=self.groups).astype(float)
        found = [(sums @ weights) / (sizes @ weights) for weights in self._weights()]
        return np.concatenate(found, axis=1)

    def _weights(self) -> Iterator[Floats]:
        """How often each group is drawn, shape (groups, resamples), in blocks."""
        rng = np.random.default_rng(self._seed)
        equal = np.full(self.groups, 1.0 / self.groups)
        for start in range(0, self._resamples, _BLOCK):
            size = min(_BLOCK, self._resamples - start)
            yield rng.multinomial(self.groups, equal, size=size).T.astype(float)

    def _ends(self, means: Floats) -> tuple[Floats, Floats]:
        """Expanded percentiles: as far out as a t interval of so many groups would reach."""
        tail = NormalDist().cdf(-self._reach())
        low, high = np.quantile(means, [tail, 1 - tail], axis=1)
        return low, high

    def _reach(self) -> float:
        """Half the width of the interval, in standard errors of the bootstrap."""
        if self.groups == 1:
            return NormalDist().inv_cdf((1 + self._confidence) / 2)
        quantile = float(stdtrit(self.groups - 1, (1 + self._confidence) / 2))
        return quantile * math.sqrt(self.groups / (self.groups - 1))

    def _p_value(self, difference: Floats) -> float:
        """Two-sided; signs of whole groups are flipped at random."""
        sums = np.bincount(self._group, difference, self.groups)
        observed = abs(sums.sum()) - 1e-9
        rng = np.random.default_rng(self._seed + 1)
        extreme = 0
        for start in range(0, self._resamples, _BLOCK):
            size = min(_BLOCK, self._resamples - start)
            signs = rng.integers(0, 2, size=(size, self.groups)) * 2 - 1
            extreme += int((abs(signs @ sums) >= observed).sum())
        return (1 + extreme) / (1 + self._resamples)

    def _smallest_detectable(self, standard_error: float) -> float:
        return (self._reach() + NormalDist().inv_cdf(_POWER)) * standard_error


def verdict(paired: Paired, confidence: float) -> str:
    """`improved` or `worse` only when the interval excludes 0 and the test agrees.

    The test keeps a handful of groups from deciding: with three of them no p-value is below 0.25.
    """
    if paired.p_value > 1 - confidence:
        return "unchanged"
    if paired.difference.low > 0:
        return "improved"
    return "worse" if paired.difference.high < 0 else "unchanged"
