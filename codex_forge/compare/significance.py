"""Is the difference real? Paired intervals and tests that respect groups of questions.

Questions with the same answer are not independent, so whole groups are resampled (cluster
bootstrap: Davison & Hinkley, 1997, section 3.8) and whole groups change sign in the paired
randomisation test (Smucker, Allan & Carterette, CIKM 2007).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codex_forge.compare.intervals import Floats, Interval, ends
from codex_forge.compare.power import smallest_detectable

_BLOCK = 500
_TIE = 1e-9


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
    """Resamples of the groups of one question bank, the same for every measure."""

    def __init__(self, groups: Sequence[str], resamples: int, confidence: float, seed: int) -> None:
        """`groups` names the group of each question."""
        names, self._group = np.unique(np.asarray(groups), return_inverse=True)
        self.groups = len(names)
        self._resamples, self._confidence, self._seed = resamples, confidence, seed

    def compare(self, baseline: Sequence[float], candidate: Sequence[float]) -> Paired:
        """Everything about one measure; the values are parallel to the questions."""
        return self.compare_all([baseline], [candidate])[0]

    def compare_all(self, baselines: ArrayLike, candidates: ArrayLike) -> list[Paired]:
        """Everything about several measures, or systems, on the same resamples.

        Args:
            baselines: shape (measures, questions).
            candidates: of the same shape.
        """
        before, after = np.asarray(baselines, float), np.asarray(candidates, float)
        values = np.stack([before, after, after - before], axis=1)
        sums = self._sums(values)
        means = self._means(sums.reshape(-1, self.groups)).reshape(*sums.shape[:2], -1)
        p_values = self._p_values(sums[:, 2])
        return [self._paired(*each) for each in zip(values, means, p_values, strict=True)]

    def _paired(self, values: Floats, means: Floats, p_value: np.float64) -> Paired:
        """Of one measure: `values` has shape (3, questions), `means` (3, resamples)."""
        low, high = ends(means, self.groups, self._confidence)
        baseline, candidate, difference = (
            Interval(float(own.mean()), float(lo), float(hi))
            for own, lo, hi in zip(values, low, high, strict=True)
        )
        error = float(means[2].std())
        return Paired(
            baseline=baseline,
            candidate=candidate,
            difference=difference,
            p_value=float(p_value),
            win=int((values[2] > _TIE).sum()),
            tie=int((abs(values[2]) <= _TIE).sum()),
            loss=int((values[2] < -_TIE).sum()),
            smallest_detectable=smallest_detectable(error, self.groups, self._confidence),
        )

    def _sums(self, values: Floats) -> Floats:
        """Sums by group, shape (measures, 3, groups)."""
        rows = values.reshape(-1, values.shape[-1])
        sums: Floats = np.stack([np.bincount(self._group, row, self.groups) for row in rows])
        found: Floats = sums.reshape(*values.shape[:-1], self.groups)
        return found

    def _means(self, sums: Floats) -> Floats:
        """Means of each row in every resample, shape (rows, resamples)."""
        sizes = np.bincount(self._group, minlength=self.groups).astype(float)
        found = [(sums @ weights.T) / (weights @ sizes) for weights in self._weights()]
        return np.concatenate(found, axis=1)

    def _weights(self) -> Iterator[Floats]:
        """How often each group is drawn, shape (resamples, groups), in blocks."""
        rng = np.random.default_rng(self._seed)
        for start in range(0, self._resamples, _BLOCK):
            size = min(_BLOCK, self._resamples - start)
            drawn = rng.integers(0, self.groups, size=(size, self.groups))
            drawn += np.arange(size)[:, None] * self.groups
            counts = np.bincount(drawn.ravel(), minlength=size * self.groups)
            yield counts.reshape(size, self.groups).astype(float)

    def _p_values(self, sums: Floats) -> Floats:
        """Two-sided, of each row of differences; signs of whole groups are flipped at random."""
        observed = abs(sums.sum(axis=1)) - 1e-9
        rng = np.random.default_rng(self._seed + 1)
        extreme: NDArray[np.int64] = np.zeros(len(sums), dtype=np.int64)
        for start in range(0, self._resamples, _BLOCK):
            size = min(_BLOCK, self._resamples - start)
            signs = rng.integers(0, 2, size=(size, self.groups)) * 2.0 - 1.0
            extreme += (abs(signs @ sums.T) >= observed).sum(axis=0)
        found: Floats = (1 + extreme) / (1 + self._resamples)
        return found


def verdict(paired: Paired, confidence: float) -> str:
    """`improved` or `worse` only when the interval excludes 0 and the test agrees."""
    return judged(paired.difference, paired.p_value, confidence)


def judged(difference: Interval, p_value: float, confidence: float) -> str:
    """The verdict on one difference.

    The test keeps a handful of groups from deciding: with three of them no p-value is below 0.25.
    """
    if p_value > 1 - confidence:
        return "unchanged"
    if difference.low > 0:
        return "improved"
    return "worse" if difference.high < 0 else "unchanged"
