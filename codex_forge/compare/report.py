"""The facts of a comparison, from its two sides: numbers, slices, examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from codex_forge.compare.advice import (
    BELOW_ALL_TIERS,
    LEAST_GROUPS,
    MEASURE,
    NOT_JUDGED,
    recommendations,
)
from codex_forge.compare.sides import Row, Side
from codex_forge.compare.significance import Paired, Resampler, verdict
from codex_forge.config.sections import CompareConfig, Tier
from codex_forge.metrics import RUBRIC_MAXIMUM, slice_value

_TIMES = ("p50", "p95")


class Comparison:
    """Two runs over the same questions."""

    def __init__(
        self,
        baseline: Side,
        candidate: Side,
        config: CompareConfig,
        seed: int,
        everything: dict[str, Any] | None = None,
    ) -> None:
        """Read both; their questions are the same, in the same order.

        `everything` holds the numbers on all questions, which are told and not judged.
        """
        self._config, self._seed, self._everything = config, seed, everything
        self._sides = {"baseline": baseline, "candidate": candidate}
        self._reports = {name: side.reports() for name, side in self._sides.items()}
        self._rows = {name: side.rows() for name, side in self._sides.items()}
        self._pairs = list(zip(self._rows["baseline"], self._rows["candidate"], strict=True))

    def report(self) -> dict[str, Any]:
        """Everything that `report.json` holds."""
        resampler = self._resampler(self._pairs)
        measures = self._pairs[0][0]["measures"]
        found = {name: self._compare(resampler, self._pairs, name) for name in measures}
        main = found[MEASURE]
        report: dict[str, Any] = {
            "verdict": verdict(main, self._config.confidence),
            "tier": tier_of(_round(main.candidate.low), self._config.tiers)
            if resampler.groups >= LEAST_GROUPS
            else NOT_JUDGED,
            "tier_judged_at": _round(main.candidate.low),
            "tiers": [tier.model_dump() for tier in self._config.tiers],
            "measure": MEASURE,
            "part": self._reports["candidate"][0]["part"],
            "folds": self._sides["candidate"].folds,
            "questions": len(self._pairs),
            "groups": resampler.groups,
            "confidence": self._config.confidence,
            "resamples": self._config.resamples,
            "smallest_detectable": _round(main.smallest_detectable) or None,
            **{name: side.facts() for name, side in self._sides.items()},
            "metrics": {name: _numbers(paired) for name, paired in found.items()},
            "at_ceiling": sum(
                b["measures"][MEASURE] >= RUBRIC_MAXIMUM
                and a["measures"][MEASURE] >= RUBRIC_MAXIMUM
                for b, a in self._pairs
            ),
            "slices": self._slices(),
            "distribution": self._distribution(),
            "latency_ms": {side: _latency(found) for side, found in self._reports.items()},
            "all_questions": self._everything,
            **self._examples(),
        }
        report["recommendations"] = recommendations(report)
        return report

    def rows(self) -> list[Row]:
        """One flat row a question: what it is, both scores, the difference."""
        return [
            {
                "query_id": before["query_id"],
                **({"fold": before["fold"]} if self._sides["candidate"].folds else {}),
                "question": before["question"],
                "category": before["category"],
                "difficulty": before["difficulty"],
                "baseline": _round(before["measures"][MEASURE]),
                "candidate": _round(after["measures"][MEASURE]),
                "difference": _round(after["measures"][MEASURE] - before["measures"][MEASURE]),
            }
            for before, after in self._pairs
        ]

    def _resampler(self, pairs: Sequence[tuple[Row, Row]]) -> Resampler:
        groups = [before["group"] for before, _ in pairs]
        return Resampler(groups, self._config.resamples, self._config.confidence, self._seed)

    def _compare(self, resampler: Resampler, pairs: Sequence[tuple[Row, Row]], name: str) -> Paired:
        return resampler.compare(
            [before["measures"][name] for before, _ in pairs],
            [after["measures"][name] for _, after in pairs],
        )

    def _slices(self) -> dict[str, Any]:
        """The rubric of both sides by the values of every field that was sliced, and by fold."""
        found: dict[str, Any] = {}
        for name, values in self._values().items():
            found[name] = {}
            for value in values:
                pairs = [p for p in self._pairs if slice_value(p[0].get(name)) == value]
                paired = self._compare(self._resampler(pairs), pairs, MEASURE)
                numbers = _numbers(paired)
                kept = ("baseline", "candidate", "difference", "ci_low", "ci_high")
                found[name][value] = {
                    "questions": len(pairs),
                    **{key: numbers[key] for key in kept},
                }
        return found

    def _values(self) -> dict[str, list[str]]:
        """The values of each sliced field; a fold may lack one that another has."""
        found: dict[str, dict[str, None]] = {}
        for report in self._reports["candidate"]:
            for name, values in report["slices"].items():
                found.setdefault(name, {}).update(dict.fromkeys(values))
        sides = self._sides["candidate"]
        folds = {"fold": [str(fold) for fold in range(sides.folds)]} if sides.folds else {}
        return {**{name: sorted(values) for name, values in found.items()}, **folds}

    def _distribution(self) -> dict[str, Any]:
        edges = [0, 1, 2, 3, 4, 5]
        counts = {
            side: [int(n) for n in np.histogram([r["measures"][MEASURE] for r in rows], edges)[0]]
            for side, rows in self._rows.items()
        }
        return {"edges": edges, **counts}

    def _examples(self) -> dict[str, list[Row]]:
        """The questions that gained and lost the most, with what was retrieved on both sides."""
        by_gain = sorted(self._pairs, key=lambda p: (_gain(p), p[0]["query_id"]))
        shown = self._config.shown
        lost = [p for p in by_gain[:shown] if _gain(p) < 0]
        gained = [p for p in by_gain[::-1][:shown] if _gain(p) > 0]
        return {"gained": [_example(p) for p in gained], "lost": [_example(p) for p in lost]}


def tier_of(score: float, tiers: Sequence[Tier]) -> str:
    """The highest tier that a rubric score reaches."""
    reached = [tier.name for tier in tiers if score >= tier.at_least]
    return reached[-1] if reached else BELOW_ALL_TIERS


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


def _latency(reports: Sequence[Row]) -> dict[str, float]:
    """Milliseconds of one query; with folds the mean over their models."""
    timed = [report["latency_ms"] for report in reports]
    return {
        **{name: round(sum(t[name] for t in timed) / len(timed), 3) for name in _TIMES},
        "queries": sum(t["queries"] for t in timed),
    }


def _round(value: float) -> float:
    return round(float(value), 6)


def _gain(pair: tuple[Row, Row]) -> float:
    return float(pair[1]["measures"][MEASURE] - pair[0]["measures"][MEASURE])


def _example(pair: tuple[Row, Row]) -> Row:
    before, after = pair
    return {
        **{key: before[key] for key in ("query_id", "question", "category", "difficulty")},
        "baseline": _round(before["measures"][MEASURE]),
        "candidate": _round(after["measures"][MEASURE]),
        "topics": before["expected_topics"],
        "covered_baseline": _covered(before),
        "covered_candidate": _covered(after),
        "top_baseline": before["retrieved"],
        "top_candidate": after["retrieved"],
    }


def _covered(row: Row) -> dict[str, str]:
    found: dict[str, str] = {}
    for chunk in row["retrieved"]:
        for topic, name in chunk["covers"].items():
            found.setdefault(topic, name)
    return found
