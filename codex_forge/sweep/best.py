"""Which trials may be the best: multiple comparisons with the best, studentised and resampled.

A trial is left out only when it is further behind the winner than chance would ever put the truly
best trial behind any of the others (Hsu, Multiple Comparisons, 1996, chapter 4; critical values
from resamples, as in Romano & Wolf, Econometrica 2005). The truly best one is therefore kept with
about the confidence asked for, however many trials there are and however they hang together;
docs/choosing.md has what was measured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codex_forge.compare.intervals import Floats
from codex_forge.sweep.effective import Effective

_RESAMPLES = 2_000
"""Enough for one quantile of each trial."""
_NOTHING = 1e-12
"""Of two variances, what is left of them by rounding alone."""


class Behind(NamedTuple):
    """How far each trial is behind the winner, with the ends of intervals; arrays (trials,)."""

    difference: Floats
    low: Floats
    high: Floats


def behind(full: Floats, means: Floats, winner: int, worth: Effective, confidence: float) -> Behind:
    """The winner minus each trial; a lower end above 0 says that the trial is not the best.

    Args:
        full: mean score of each trial.
        means: the same on every resample, shape (trials, resamples).
        winner: its place.
        worth: of the groups of questions that were resampled.
        confidence: the chance to keep the truly best trial.
    """
    moved = means[:, :_RESAMPLES] - full[:, None]
    difference = full[winner] - full
    errors = _errors(moved)
    reach = np.array(
        [
            worth.expanded(_critical(moved, trial, own, confidence)) * float(own[winner])
            for trial, own in enumerate(errors)
        ]
    )
    return Behind(difference, difference - reach, difference + reach)


def _critical(moved: Floats, trial: int, errors: Floats, confidence: float) -> float:
    """By how many standard errors chance puts this trial behind the luckiest of the others."""
    if not errors.any():
        return 0.0
    ahead = (moved - moved[trial])[errors > 0]
    ahead /= errors[errors > 0, None]
    return float(np.quantile(ahead.max(axis=0), confidence))


def _errors(moved: Floats) -> Floats:
    """Standard errors of differences, shape (trials, trials); 0 where two always move alike."""
    centred = moved - moved.mean(axis=1, keepdims=True)
    shared = centred @ centred.T / moved.shape[1]
    both = np.add.outer(shared.diagonal(), shared.diagonal())
    variances = both - 2 * shared
    found: Floats = np.sqrt(np.where(variances > _NOTHING * both, variances, 0.0))
    return found
