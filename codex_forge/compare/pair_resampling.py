"""Intervals and a test for measures of scored pairs, which respect groups of pairs.

Pairs that share a text are not independent, so whole groups are drawn (cluster bootstrap), for all
models alike. The test asks whether the two models' orders of the pairs could be exchanged: it
ranks the pairs by each model, exchanges the ranks of whole groups at random, ranks again, and
measures (Venkatraman & Begg, Biometrika 1996, for ROC curves; here also for the rank correlation).
Ranks, and not cosines, since models differ in how high their cosines lie: exchanged cosines would
give orders that neither model ever gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from codex_forge.compare.intervals import Floats
from codex_forge.compare.pair_measures import (
    Model,
    Sample,
    area,
    correlation,
    levels_of,
    midranks,
)
from codex_forge.progress import progress

_MOST = 200_000_000
"""Pairs times resamples; more pairs get fewer resamples, which takes minutes as it is."""
_LEAST_RESAMPLES = 1_000


def resamples_of(pairs: int, wanted: int) -> int:
    """How many resamples so many pairs get."""
    return min(wanted, max(_LEAST_RESAMPLES, _MOST // pairs))


def resampled(
    models: Sequence[Model], measures: tuple[str, ...], sample: Sample, resamples: int, seed: int
) -> Floats:
    """Measures in every resample, shape (models, measures, resamples); NaN where undefined."""
    found = np.empty((len(models), len(measures), resamples))
    for i, weights in enumerate(
        progress(_weights(sample, resamples, seed), "resamples", resamples)
    ):
        for place, model in enumerate(models):
            found[place, :, i] = model(measures, weights)
    return found


def _weights(sample: Sample, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each pair counts, shape (pairs,)."""
    rng = np.random.default_rng(seed)
    groups = sample.groups
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(0, groups, groups), minlength=groups)
        yield drawn.astype(float)[sample.group]


def exchange_test(
    one: Floats, other: Floats, sample: Sample, measure: str, resamples: int, seed: int
) -> float:
    """Two-sided p-value of the difference of two models' `spearman` or `roc_auc`.

    `one` and `other` are cosines of the pairs, shape (pairs,).
    """
    kept = np.isfinite(sample.scores) if measure == "spearman" else np.ones(len(one), bool)
    ranked = _Ranked(sample.scores[kept], sample.alike[kept], measure)
    first, second = (_doubled_ranks(cosines[kept]) for cosines in (one, other))
    group = np.unique(sample.group[kept], return_inverse=True)[1]
    groups = int(group.max()) + 1
    observed = abs(ranked(first) - ranked(second)) - 1e-12
    rng = np.random.default_rng(seed)
    extreme = 0
    for _ in progress(range(resamples), "exchanges of ranks"):
        exchanged = (rng.integers(0, 2, groups) > 0)[group]
        mine, theirs = np.where(exchanged, second, first), np.where(exchanged, first, second)
        extreme += abs(ranked(mine) - ranked(theirs)) >= observed
    return (1 + extreme) / (1 + resamples)


def _doubled_ranks(cosines: Floats) -> NDArray[np.int64]:
    """Twice the ranks, which are whole numbers."""
    levels = levels_of(cosines)
    ranks = midranks(levels, np.ones(len(levels)), int(levels.max()) + 1)
    found: NDArray[np.int64] = np.round(2 * ranks).astype(np.int64)
    return found


class _Ranked:
    """Measures an order of the pairs, given as whole numbers up to twice their count."""

    def __init__(self, scores: Floats, alike: NDArray[np.bool_], measure: str) -> None:
        self._ones = np.ones(len(alike))
        self._alike = alike.astype(float)
        self._size = 2 * len(alike) + 1
        self._of_scores = None
        if measure == "spearman":
            levels = levels_of(scores)
            self._of_scores = midranks(levels, self._ones, int(levels.max()) + 1)

    def __call__(self, order: NDArray[np.int64]) -> float:
        ranks = midranks(order, self._ones, self._size)
        if self._of_scores is None:
            return area(ranks, self._alike, self._ones)
        return correlation(ranks, self._of_scores, self._ones)
