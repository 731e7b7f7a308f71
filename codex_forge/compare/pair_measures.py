"""Measures of scored pairs in resamples: each pair counts as often as it was drawn.

A value's rank among repeated values follows from a running sum over its levels, so that a resample
takes time in proportion to the pairs, and nothing is sorted again. With every weight 1 the measures
are those of scipy and scikit-learn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codex_forge.compare.intervals import Floats

MEASURES = ("spearman", "pearson", "roc_auc", "average_precision", "f1")
Levels = NDArray[np.int64]
"""Of each value its place among the distinct values, the lowest 0."""


class Sample(NamedTuple):
    """What was said of some pairs, and which of them hang together; arrays of shape (pairs,)."""

    group: NDArray[np.int64]
    scores: Floats
    """NaN for a pair without one."""
    alike: NDArray[np.bool_]

    @property
    def groups(self) -> int:
        """How many groups there are; they are numbered from 0."""
        return int(self.group.max()) + 1

    @property
    def main(self) -> str:
        """The measure that is judged."""
        return "spearman" if self._correlates else "roc_auc"

    @property
    def _correlates(self) -> bool:
        return len(np.unique(self.scores[np.isfinite(self.scores)])) > 1

    def measures(self, thresholds: tuple[float | None, ...]) -> tuple[str, ...]:
        """Those that these pairs can give, in the order of `MEASURES`."""
        found = ["spearman", "pearson"] if self._correlates else []
        if self.alike.any() and not self.alike.all():
            found += ["roc_auc", "average_precision"]
        if self.alike.any() and None not in thresholds:
            found.append("f1")
        return tuple(found)


def levels_of(values: Floats) -> Levels:
    """Of each value its place among the distinct ones."""
    found: Levels = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return found


def midranks(levels: Levels, weights: Floats, size: int) -> Floats:
    """Ranks from 1 of the values, equal ones sharing their mean; `size` levels there are."""
    counts = np.bincount(levels, weights, size)
    found: Floats = (np.cumsum(counts) - (counts - 1) / 2)[levels]
    return found


def correlation(one: Floats, other: Floats, weights: Floats) -> float:
    """Pearson's correlation of weighted values; NaN when one of them is constant."""
    total = weights.sum()
    first, second = one - weights @ one / total, other - weights @ other / total
    weighted = weights * first
    spread = (weighted @ first) * ((weights * second) @ second)
    return float(weighted @ second / np.sqrt(spread)) if spread > 0 else float("nan")


def area(ranks: Floats, alike: Floats, weights: Floats) -> float:
    """Area under the ROC curve from the ranks of all pairs (Mann & Whitney, 1947)."""
    chosen = weights * alike
    positive = chosen.sum()
    negative = weights.sum() - positive
    if not positive or not negative:
        return float("nan")
    return float((chosen @ ranks - positive * (positive + 1) / 2) / (positive * negative))


def precision(levels: Levels, alike: Floats, weights: Floats, size: int) -> float:
    """Average precision: precision at each level from the top, weighted by the recall it adds."""
    hits = np.bincount(levels, weights * alike, size)[::-1]
    above = np.cumsum(np.bincount(levels, weights, size)[::-1])
    total = hits.sum()
    if not total:
        return float("nan")
    return float(hits @ (np.cumsum(hits) / np.maximum(above, 1)) / total)


class Model:
    """One model's cosines of a sample, ready to be measured again and again."""

    def __init__(self, sample: Sample, cosines: Floats, threshold: float | None) -> None:
        """`threshold` is the model's own, chosen on dev pairs."""
        self._levels = levels_of(cosines)
        self._size = int(self._levels.max()) + 1
        self._alike = sample.alike.astype(float)
        self._said = np.isfinite(sample.scores)
        self._scores = np.where(self._said, sample.scores, 0.0)
        self._of_scores = levels_of(self._scores)
        self._all_said = bool(self._said.all())
        self._cosines = cosines
        self._called = np.zeros(len(cosines)) if threshold is None else cosines >= threshold

    def __call__(self, measures: tuple[str, ...], weights: Floats) -> list[float]:
        """The measures of pairs that count `weights` times (shape (pairs,)), as asked for."""
        said = weights if self._all_said else weights * self._said
        ranks = midranks(self._levels, weights, self._size)
        taken = {
            "spearman": lambda: self._spearman(ranks, said),
            "pearson": lambda: correlation(self._cosines, self._scores, said),
            "roc_auc": lambda: area(ranks, self._alike, weights),
            "average_precision": lambda: precision(self._levels, self._alike, weights, self._size),
            "f1": lambda: self._f1(weights),
        }
        return [taken[name]() for name in measures]

    def _spearman(self, ranks: Floats, said: Floats) -> float:
        own = ranks if self._all_said else midranks(self._levels, said, self._size)
        return correlation(own, midranks(self._of_scores, said, self._size), said)

    def _f1(self, weights: Floats) -> float:
        either = weights @ self._called + weights @ self._alike
        hits = weights @ (self._called * self._alike)
        return float(2 * hits / either) if either else float("nan")
