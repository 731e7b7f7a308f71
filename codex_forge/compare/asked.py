"""The questions of a comparison: every system's measures on the same resamples of their groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from codex_forge.compare.holm import holm
from codex_forge.compare.sides import Row, Side
from codex_forge.compare.significance import Paired, Resampler
from codex_forge.compare.systems import System, interval_of, vectors_of
from codex_forge.config.sections import CompareConfig
from codex_forge.metrics import RUBRIC_MAXIMUM, slice_value

MEASURE = "rubric"
"""The measure of questions that is judged."""
_OF_SLICES = ("baseline", "candidate", "difference", "ci_low", "ci_high")
_PLACES = 6
Both = tuple[Row, Row]


class Asked:
    """Two systems' rows of the same questions, in the same order."""

    def __init__(self, baseline: Side, candidate: Side, config: CompareConfig, seed: int) -> None:
        """Read both."""
        self.baseline, self.candidate = baseline, candidate
        self._config, self._seed = config, seed
        self.pairs: list[Both] = list(zip(baseline.rows(), candidate.rows(), strict=True))

    @cached_property
    def resampler(self) -> Resampler:
        """Over all questions."""
        return self._resampler(self.pairs)

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """Names of all measures."""
        return tuple(self.pairs[0][0]["measures"])

    @cached_property
    def found(self) -> dict[str, Paired]:
        """Candidate against baseline, by measure."""
        return self._against([after for _, after in self.pairs])

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The key `metrics` of a report."""
        corrected = holm({name: paired.p_value for name, paired in self.found.items()})
        return {
            name: {**_numbers(paired), "p_holm": _round(corrected[name])}
            for name, paired in self.found.items()
        }

    def slices(self, fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The rubric of both sides by the values of every field."""
        found: dict[str, Any] = {}
        for name, values in fields.items():
            found[name] = {}
            for value in values:
                pairs = [p for p in self.pairs if slice_value(p[0].get(name)) == value]
                numbers = _numbers(self._resampler(pairs).compare(*_values(pairs)))
                kept = {key: numbers[key] for key in _OF_SLICES}
                found[name][value] = {"questions": len(pairs), **kept}
        return found

    def at_ceiling(self) -> int:
        """Questions that have the highest rubric on both sides."""
        return sum(min(map(_score, pair)) >= RUBRIC_MAXIMUM for pair in self.pairs)

    def distribution(self) -> dict[str, Any]:
        """Questions by bands of the rubric."""
        edges = [0, 1, 2, 3, 4, 5]
        before, after = (np.histogram(values, edges)[0] for values in _values(self.pairs))
        return {
            "edges": edges,
            "baseline": [int(count) for count in before],
            "candidate": [int(count) for count in after],
        }

    def systems(self, others: Sequence[Side]) -> list[System]:
        """All systems, the baseline first and the candidate last."""
        main = self.found[MEASURE]
        first = System(
            self.baseline, "baseline", {name: p.baseline for name, p in self.found.items()}
        )
        last = System(
            self.candidate,
            "candidate",
            {name: p.candidate for name, p in self.found.items()},
            main.difference,
            main.p_value,
        )
        rows = [side.rows() for side in others]
        between = [self._other(side, own) for side, own in zip(others, rows, strict=True)]
        found = [first, *between, last]
        every = [[b for b, _ in self.pairs], *rows, [a for _, a in self.pairs]]
        for system, own in zip(found, every, strict=True):
            system.more = self._more(system, own, list(zip(found, every, strict=True)))
        return found

    def _other(self, side: Side, rows: Sequence[Row]) -> System:
        found = self._against(rows)
        measures = {name: paired.candidate for name, paired in found.items()}
        return System(side, "other", measures, found[MEASURE].difference, found[MEASURE].p_value)

    def _more(
        self, system: System, rows: Sequence[Row], every: Sequence[tuple[System, Sequence[Row]]]
    ) -> dict[str, Any]:
        """How far the candidate is above a system, and a hybrid above its own vectors alone."""
        candidate = every[-1][1]
        told: dict[str, Any] = {"candidate_over": None, "over_dense": None}
        if system.role != "candidate":
            told["candidate_over"] = self._difference(rows, candidate)
        if system.side.reports()[0]["retriever"] == "hybrid":
            for other, own in every:
                same = vectors_of(other.side) == vectors_of(system.side) is not None
                if same and other.side.reports()[0]["retriever"] == "dense":
                    difference = self._difference(own, rows)
                    told["over_dense"] = {"name": other.side.label, **difference}
        return told

    def _difference(self, before: Sequence[Row], after: Sequence[Row]) -> dict[str, float]:
        paired = self.resampler.compare(*_values(list(zip(before, after, strict=True))))
        return interval_of(paired.difference)

    def _against(self, rows: Sequence[Row]) -> dict[str, Paired]:
        """A system's measures against those of the baseline."""
        before = [[row["measures"][name] for row, _ in self.pairs] for name in self.measures]
        after = [[row["measures"][name] for row in rows] for name in self.measures]
        found = self.resampler.compare_all(before, after)
        return dict(zip(self.measures, found, strict=True))

    def _resampler(self, pairs: Sequence[Both]) -> Resampler:
        groups = [before["group"] for before, _ in pairs]
        return Resampler(groups, self._config.resamples, self._config.confidence, self._seed)


def _score(row: Row) -> float:
    return float(row["measures"][MEASURE])


def _values(pairs: Sequence[Both]) -> tuple[list[float], list[float]]:
    return [_score(before) for before, _ in pairs], [_score(after) for _, after in pairs]


def _numbers(paired: Paired) -> dict[str, Any]:
    return {
        "baseline": _round(paired.baseline.mean),
        "candidate": _round(paired.candidate.mean),
        "difference": _round(paired.difference.mean),
        "ci_low": _round(paired.difference.low),
        "ci_high": _round(paired.difference.high),
        "p_value": _round(paired.p_value),
        "win": paired.win,
        "tie": paired.tie,
        "loss": paired.loss,
        "baseline_low": _round(paired.baseline.low),
        "baseline_high": _round(paired.baseline.high),
        "candidate_low": _round(paired.candidate.low),
        "candidate_high": _round(paired.candidate.high),
    }


def _round(value: float) -> float:
    return round(float(value), _PLACES)
