"""Scores where there are scored pairs alone: a measure of all pairs together, resampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from codex_forge.agreement import means_the_same
from codex_forge.artifact import Artifact
from codex_forge.compare.intervals import Floats, Interval
from codex_forge.compare.pair_measures import MEASURES, Model, Sample
from codex_forge.errors import ConfigError, InputError
from codex_forge.jsonl import read_json, read_jsonl
from codex_forge.sweep.choice import Choice, choose_by
from codex_forge.sweep.effective import Effective
from codex_forge.sweep.resampling import resampled
from codex_forge.sweep.scores import Drawing

_MOST = 20_000_000
"""Pairs times resamples; 27 trials of more take minutes, and get fewer resamples."""
_LEAST_RESAMPLES = 1_000


class PairScores:
    """One measure of the pairs of one part, the same pairs for all systems."""

    def __init__(self, metric: str, part: str, ids: Sequence[str], drawing: Drawing) -> None:
        """`ids` are the pairs that count, in their order.

        Raises:
            ConfigError: there is no such measure of pairs.
        """
        if metric not in MEASURES:
            raise ConfigError(
                f"there is no measure {metric!r} of pairs; there are {', '.join(MEASURES)}",
                where="sweep.metric",
                do="choose one of them",
            )
        self._metric, self._part, self._ids, self._drawing = metric, part, list(ids), drawing
        self.count = len(self._ids)
        self._models: dict[str, Model] = {}
        self._sample: Sample | None = None

    def add(self, name: str, artifact: Artifact) -> str:
        """Take in a system; returns why not, or nothing."""
        found = read_jsonl(artifact.path("per_pair.jsonl"))
        rows = {row["pair_id"]: row for row in found if row["part"] == self._part}
        if rows.keys() != set(self._ids):
            return "scored on other pairs than the run's: not ranked"
        in_order = [rows[each] for each in self._ids]
        sample = _sample(in_order)
        threshold = read_json(artifact.path("report.json"))["pairs"]["threshold"]
        if self._metric not in sample.measures((threshold,)):
            return f"{self._metric} cannot be measured on these pairs: not ranked"
        cosines = np.array([row["cosine"] for row in in_order], dtype=float)
        model = Model(sample, cosines, threshold)
        if not np.isfinite(model((self._metric,), np.ones(self.count))).all():
            return f"{self._metric} cannot be measured, since all cosines are equal: not ranked"
        self._models[name] = model
        self._sample = sample
        return ""

    def choose(self, names: Sequence[str]) -> Choice:
        """The best of some of them."""
        bank, seed, resamples = self._drawn(names)
        confidence = self._drawing.confidence
        return choose_by(names, bank, self.count, seed, resamples, confidence, "scored pairs")

    def of(self, name: str) -> Interval:
        """One system's score."""
        return self.choose([name]).score

    def difference(self, name: str, baseline: str) -> Interval:
        """What one has above another, on the same resamples."""
        bank, seed, resamples = self._drawn([baseline, name])
        found = resampled(bank, resamples, seed)
        apart = found.scores[1] - found.scores[0]
        low, high = Effective.of(bank.sizes).ends(apart[None], self._drawing.confidence)
        return Interval(float(found.full[1] - found.full[0]), float(low[0]), float(high[0]))

    def _drawn(self, names: Sequence[str]) -> tuple[_Bank, int, int]:
        """What was answered, the seed, and how many resamples: as many for one trial as for all."""
        if self._sample is None:
            raise InputError("no trial has a score", do="run the trials first")
        models = [self._models[name] for name in names]
        resamples = resamples_of(self.count, self._drawing.resamples)
        bank = _Bank(self._sample, models, self._metric)
        return bank, self._drawing.seed, resamples


class _Bank(NamedTuple):
    """The cosines of several models for the same pairs."""

    sample: Sample
    models: Sequence[Model]
    metric: str

    @property
    def sizes(self) -> Floats:
        """How many pairs each group has."""
        return np.bincount(self.sample.group).astype(float)

    def measured(self, weights: Floats) -> Floats:
        """The measure where each group counts `weights` times, shape (models, resamples)."""
        found = np.empty((len(self.models), len(weights)))
        for i, drawn in enumerate(weights):
            own = drawn[self.sample.group]
            found[:, i] = [model((self.metric,), own)[0] for model in self.models]
        return found


def resamples_of(pairs: int, wanted: int) -> int:
    """How many resamples so many pairs get, whatever the number of trials."""
    return min(wanted, max(_LEAST_RESAMPLES, _MOST // pairs))


def _sample(rows: Sequence[dict[str, Any]]) -> Sample:
    groups = np.unique([row["group"] for row in rows], return_inverse=True)[1]
    scores = [np.nan if row["score"] is None else float(row["score"]) for row in rows]
    alike = [means_the_same(row["score"], row["label"]) for row in rows]
    return Sample(groups.astype(np.int64), np.array(scores), np.array(alike))
