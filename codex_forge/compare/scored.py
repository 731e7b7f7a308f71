"""The held-out scored pairs of a comparison: all models' cosines on the same resamples."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.agreement import means_the_same
from codex_forge.compare.intervals import Floats, Interval, ends
from codex_forge.compare.pair_measures import Model, Sample
from codex_forge.compare.pair_resampling import exchange_test, resampled, resamples_of
from codex_forge.compare.power import smallest_detectable
from codex_forge.compare.sides import Row, Side
from codex_forge.config.sections import CompareConfig

log = logging.getLogger("codex_forge")

_MOST_UNDEFINED = 0.05
"""A measure that has no value in more of the resamples is left out."""


class ScoredPairs:
    """Models on the same scored pairs; the first one is the baseline, the second the candidate."""

    def __init__(self, sides: Sequence[Side], config: CompareConfig, seed: int) -> None:
        """Read the pairs of all sides, each of which has them."""
        self.sides = tuple(sides)
        self._config, self._seed = config, seed
        self._reports = [side.reports()[0]["pairs"] for side in self.sides]
        rows = [{row["pair_id"]: row for row in side.pair_rows()} for side in self.sides]
        self.rows = list(rows[0].values())
        self.sample = _sample(self.rows)
        self.cosines = [np.array([own[pair]["cosine"] for pair in rows[0]]) for own in rows]
        self.resamples = resamples_of(len(self.rows), config.resamples)
        if self.resamples < config.resamples:
            log.info("  %d resamples of so many scored pairs", self.resamples)

    @cached_property
    def _thresholds(self) -> tuple[float | None, ...]:
        return tuple(report["threshold"] for report in self._reports)

    @cached_property
    def _values(self) -> dict[str, tuple[NDArray[Any], Floats]]:
        """Measure -> the models' values, and those of every resample, shape (models, resamples)."""
        names = self.sample.measures(self._thresholds)
        pairs = zip(self.cosines, self._thresholds, strict=True)
        models = [Model(self.sample, cosines, threshold) for cosines, threshold in pairs]
        ones = np.ones(len(self.rows))
        told = np.array([model(names, ones) for model in models]).reshape(len(models), len(names))
        drawn = resampled(models, names, self.sample, self.resamples, self._seed)
        found = {}
        for place, name in enumerate(names):
            defined = np.isfinite(drawn[:, place]).all(axis=0)
            if np.isfinite(told[:, place]).all() and defined.mean() >= 1 - _MOST_UNDEFINED:
                found[name] = (told[:, place], drawn[:, place][:, defined])
        return found

    @property
    def measures(self) -> tuple[str, ...]:
        """Those that have a value on every side, and in the resamples."""
        return tuple(self._values)

    @cached_property
    def main(self) -> str:
        """The measure that is judged; empty when none has a value."""
        if self.sample.main in self._values:
            return self.sample.main
        return "roc_auc" if "roc_auc" in self._values else ""

    def interval(self, place: int, measure: str) -> Interval:
        """Of one model's measure."""
        told, drawn = self._values[measure]
        return self._interval(told[place], drawn[place])

    def difference(self, place: int, measure: str) -> Interval:
        """Of one model minus the baseline."""
        told, drawn = self._values[measure]
        return self._interval(told[place] - told[0], drawn[place] - drawn[0])

    def _interval(self, told: float, drawn: Floats) -> Interval:
        low, high = ends(drawn[None], self.sample.groups, self._config.confidence)
        return Interval(float(told), float(low[0]), float(high[0]))

    def p_value(self, place: int) -> float:
        """Of one model against the baseline, on the judged measure."""
        return exchange_test(
            self.cosines[0],
            self.cosines[place],
            self.sample,
            self.main,
            self.resamples,
            self._seed + 1,
        )

    @cached_property
    def candidate_p_value(self) -> float:
        """Of the candidate against the baseline."""
        return self.p_value(1)

    @property
    def smallest_detectable(self) -> float:
        """The true difference of the judged measure that these pairs find 4 times in 5."""
        drawn = self._values[self.main][1]
        error = float((drawn[1] - drawn[0]).std())
        return smallest_detectable(error, self.sample.groups, self._config.confidence)

    def report(self) -> dict[str, Any]:
        """The key `pairs` of `report.json`."""
        names = ("baseline", "candidate")
        return {
            "pairs": len(self.rows),
            "groups": self.sample.groups,
            "measure": self.main,
            "resamples": self.resamples,
            "measures": {name: self._numbers(name) for name in self.measures},
            "thresholds": dict(zip(names, self._thresholds, strict=False)),
            "adversarial": {
                name: report["adversarial"]
                for name, report in zip(names, self._reports, strict=False)
            },
            "slices": self._slices(),
        }

    def _numbers(self, measure: str) -> dict[str, float | None]:
        baseline, candidate = (self.interval(place, measure) for place in (0, 1))
        difference = self.difference(1, measure)
        found = {
            "baseline": baseline.mean,
            "candidate": candidate.mean,
            "difference": difference.mean,
            "ci_low": difference.low,
            "ci_high": difference.high,
            "baseline_low": baseline.low,
            "baseline_high": baseline.high,
            "candidate_low": candidate.low,
            "candidate_high": candidate.high,
        }
        p_value = round(self.candidate_p_value, 6) if measure == self.main else None
        return {**{key: round(value, 6) for key, value in found.items()}, "p_value": p_value}

    def _slices(self) -> dict[str, Any]:
        """The judged measure by category and phase, as each side's evaluation has it."""
        before, after = (report["slices"] for report in self._reports[:2])
        return {
            field: {
                value: {
                    "pairs": found["pairs"],
                    "baseline": found["values"][self.main],
                    "candidate": after[field][value]["values"][self.main],
                }
                for value, found in values.items()
            }
            for field, values in before.items()
            if values
        }


def _sample(rows: Sequence[Row]) -> Sample:
    scores = [np.nan if row["score"] is None else float(row["score"]) for row in rows]
    groups = np.unique([row["group"] for row in rows], return_inverse=True)[1]
    alike = [means_the_same(row["score"], row["label"]) for row in rows]
    return Sample(groups.astype(np.int64), np.array(scores), np.array(alike))


def scored_pairs(
    baseline: Side, candidate: Side, others: Sequence[Side], config: CompareConfig, seed: int
) -> ScoredPairs | None:
    """The scored pairs of a comparison; None when a side has none, or they give no measure."""
    if not baseline.pair_rows() or not candidate.pair_rows():
        return None
    with_pairs = [side for side in others if side.pair_rows()]
    found = ScoredPairs((baseline, candidate, *with_pairs), config, seed)
    if not found.main:
        log.warning("  the scored pairs are too few, or too alike, to measure anything on them")
        return None
    return found
