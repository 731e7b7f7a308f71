"""All trials measured on the same resamples of the questions, a block of resamples at a time.

Questions with the same answer are not independent, so whole groups are drawn. The draws follow
from the seed and the number of groups alone: adding a trial changes nothing about the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from codex_forge.compare.intervals import Floats
from codex_forge.errors import InputError

_AT_ONCE = 4_000_000
"""Numbers of one array of a block; 32 MB."""
TIE = 1e-9
"""Scores this near are equal."""


class Bank(Protocol):
    """What each trial answered, to be measured again and again."""

    @property
    def sizes(self) -> Floats:
        """How many questions each group has."""
        ...

    def measured(self, weights: Floats) -> Floats:
        """The score of each trial where each group counts `weights` times.

        Args:
            weights: shape (resamples, groups).

        Returns:
            Shape (trials, resamples); NaN where there is no score.
        """
        ...


@dataclass(frozen=True)
class Means:
    """Mean scores: sums over the questions of each group, and how many there are."""

    sums: Floats
    """Shape (trials, groups)."""
    sizes: Floats
    """Questions of each group."""

    @classmethod
    def of(cls, scores: Floats, group: NDArray[np.int64]) -> Means:
        """Of scores of shape (trials, questions); `group` numbers the group of each question."""
        groups = int(group.max()) + 1
        sums = np.stack([np.bincount(group, row, groups) for row in scores]).astype(float)
        return cls(sums, np.bincount(group, minlength=groups).astype(float))

    def measured(self, weights: Floats) -> Floats:
        """See `Bank`."""
        found: Floats = (self.sums @ weights.T) / (weights @ self.sizes)
        return found


@dataclass(frozen=True)
class Resampled:
    """What all resamples together say."""

    full: Floats
    """Score of each trial on all questions."""
    winner: int
    """Place of the highest; of equal ones the first."""
    scores: Floats
    """Of each trial on every resample that gives all of them one, shape (trials, resamples)."""
    best_share: Floats
    """Share of the resamples in which a trial is the best; equal ones share."""
    optimism: float
    """By how much the winner is above the best of a resample on the questions not in it."""


def resampled(bank: Bank, resamples: int, seed: int) -> Resampled:
    """Draw, measure all trials, and choose again on every resample.

    Raises:
        InputError: no resample gives all trials a score.
    """
    groups = len(bank.sizes)
    full = bank.measured(np.ones((1, groups)))[:, 0]
    winner = int(np.argmax(full >= full.max() - TIE))
    scores, best, lost = [], np.zeros(len(full)), []
    for weights in _weights(groups, max(len(full), groups), resamples, seed):
        found = bank.measured(weights)
        defined = np.isfinite(found).all(axis=0)
        found = found[:, defined]
        share = (found >= found.max(axis=0) - TIE).astype(float)
        share /= share.sum(axis=0)
        best += share.sum(axis=1)
        lost.append(_lost_elsewhere(bank, winner, share, weights[defined]))
        scores.append(found)
    if not any(found.shape[1] for found in scores):
        raise InputError("on no resample of the questions does every trial have a score")
    drawn, elsewhere = np.concatenate(scores, axis=1), np.concatenate(lost)
    optimism = float(elsewhere.mean()) if len(elsewhere) else 0.0
    return Resampled(full, winner, drawn, best / drawn.shape[1], optimism)


def _lost_elsewhere(bank: Bank, winner: int, share: Floats, weights: Floats) -> Floats:
    """What the best of a resample lacks on the questions that are not in it; one number a resample.

    It is taken from the winner's score on the same questions, which on average is its score on all.
    """
    out = (weights == 0).astype(float)
    left = out.any(axis=1)
    found = bank.measured(out[left])
    lost: Floats = found[winner] - (share[:, left] * found).sum(axis=0)
    return lost[np.isfinite(lost)]


def _weights(groups: int, width: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each group is drawn, shape (resamples, groups), in blocks."""
    rng = np.random.default_rng(seed)
    block = max(1, _AT_ONCE // width)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(0, groups, size=(size, groups))
        drawn += np.arange(size)[:, None] * groups
        counts = np.bincount(drawn.ravel(), minlength=size * groups)
        yield counts.reshape(size, groups).astype(float)
