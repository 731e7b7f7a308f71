"""The facts of a comparison, from its sides: verdict, tiers, numbers, slices, systems, examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codex_forge.compare.advice import recommendations
from codex_forge.compare.asked import MEASURE, Asked
from codex_forge.compare.examples import Teach, examples, question_rows
from codex_forge.compare.power import power_curve
from codex_forge.compare.scored import ScoredPairs, scored_pairs
from codex_forge.compare.sides import Row, Side
from codex_forge.compare.significance import judged, verdict
from codex_forge.compare.systems import System, latency_of, table
from codex_forge.compare.tiers import LEAST_GROUPS, NOT_JUDGED, TOO_FEW, measure_tier, tier_of
from codex_forge.config.sections import CompareConfig
from codex_forge.errors import InputError


def _teach_nothing(before: Row, after: Row) -> list[dict[str, Any]]:
    del before, after
    return []


class Comparison:
    """Two runs over the same questions, over the same scored pairs, or both; and others beside."""

    def __init__(
        self,
        baseline: Side,
        candidate: Side,
        config: CompareConfig,
        seed: int,
        *,
        others: Sequence[Side] = (),
        everything: dict[str, Any] | None = None,
        audit: dict[str, Any] | None = None,
        teach: Teach = _teach_nothing,
    ) -> None:
        """Read all sides.

        Args:
            baseline: what is to be beaten.
            candidate: what is judged.
            config: the section `compare`.
            seed: of all resamples.
            others: shown beside the two.
            everything: the numbers on all questions, which are told and not judged.
            audit: how many texts are cut.
            teach: gives the train pairs behind a question.
        """
        self._config, self._seed, self._others = config, seed, others
        self._told = {"all_questions": everything, "audit": audit}
        self._teach = teach
        self._sides = {"baseline": baseline, "candidate": candidate}
        self._reports = {name: side.reports() for name, side in self._sides.items()}
        self._asked = Asked(baseline, candidate, config, seed)
        beside = () if self._asked.pairs else others
        self._scored = scored_pairs(baseline, candidate, beside, config, seed)

    def report(self) -> dict[str, Any]:
        """Everything that `report.json` holds, but for `lineage` and `versions`.

        Raises:
            InputError: the sides have neither questions nor scored pairs to be compared on.
        """
        pairs = self._scored.report() if self._scored else None
        judgement = self._judgement()
        report: dict[str, Any] = {
            **judgement,
            "tiers": [tier.model_dump() for tier in self._config.tiers],
            "measure_tier": measure_tier(
                self._lows(judgement["metrics"], judgement["groups"], pairs),
                self._config.measure_tiers,
            ),
            "part": self._reports["candidate"][0]["part"],
            "folds": self._sides["candidate"].folds,
            "questions": len(self._asked.pairs),
            "confidence": self._config.confidence,
            "resamples": self._config.resamples,
            **{name: side.facts() for name, side in self._sides.items()},
            "at_ceiling": self._asked.at_ceiling(),
            "distribution": self._asked.distribution(),
            "pairs": pairs,
            "must_pass": {name: _must_pass(found) for name, found in self._reports.items()},
            "latency_ms": {name: latency_of(found) for name, found in self._reports.items()},
            **self._told,
            **examples(self._asked.pairs, self._config.shown, self._teach),
        }
        report["recommendations"] = recommendations(report)
        return report

    def rows(self) -> list[Row]:
        """One flat row a question."""
        return question_rows(self._asked.pairs, folds=bool(self._sides["candidate"].folds))

    def pair_rows(self) -> list[Row]:
        """One flat row a scored pair: what was said of it, and both cosines."""
        if self._scored is None:
            return []
        keys = ("pair_id", "category", "phase", "score", "label")
        before, after = self._scored.cosines[:2]
        return [
            {**{key: row[key] for key in keys}, "baseline": float(b), "candidate": float(a)}
            for row, b, a in zip(self._scored.rows, before, after, strict=True)
        ]

    def _judgement(self) -> dict[str, Any]:
        if self._asked.pairs:
            return self._judge_questions()
        if self._scored:
            return self._judge_pairs(self._scored)
        sides = self._sides.values()
        raise InputError(
            "there are no questions, and no scored pairs that can be compared",
            where=" and ".join(side.artifacts[0].url for side in sides),
            do="give questions, or more scored pairs (these are not cross-fitted)",
        )

    def _judge_questions(self) -> dict[str, Any]:
        main, groups = self._asked.found[MEASURE], self._asked.resampler.groups
        low, confidence = _round(main.candidate.low), self._config.confidence
        return {
            "verdict": verdict(main, confidence),
            "tier": tier_of(low, self._config.tiers) if groups >= LEAST_GROUPS else TOO_FEW,
            "tier_judged_at": low,
            "measure": MEASURE,
            "groups": groups,
            "smallest_detectable": _round(main.smallest_detectable) or None,
            "power": power_curve(main.smallest_detectable, groups, confidence),
            "metrics": self._asked.metrics(),
            "slices": self._asked.slices(self._fields()),
            "systems": table(self._asked.systems(self._others), confidence),
        }

    def _judge_pairs(self, scored: ScoredPairs) -> dict[str, Any]:
        smallest, confidence = scored.smallest_detectable, self._config.confidence
        difference = scored.difference(1, scored.main)
        return {
            "verdict": judged(difference, scored.candidate_p_value, confidence),
            "tier": NOT_JUDGED,
            "tier_judged_at": None,
            "measure": scored.main,
            "groups": 0,
            "smallest_detectable": _round(smallest) or None,
            "power": power_curve(smallest, scored.sample.groups, confidence),
            "metrics": {},
            "slices": {},
            "systems": table(_systems_of(scored), confidence),
        }

    def _fields(self) -> dict[str, list[str]]:
        """The values of each sliced field; a fold may lack one that another has."""
        found: dict[str, dict[str, None]] = {}
        for report in self._reports["candidate"]:
            for name, values in report["slices"].items():
                found.setdefault(name, {}).update(dict.fromkeys(values))
        sides = self._sides["candidate"]
        folds = {"fold": [str(fold) for fold in range(sides.folds)]} if sides.folds else {}
        return {**{name: sorted(values) for name, values in found.items()}, **folds}

    def _lows(
        self, metrics: Mapping[str, Any], groups: int, pairs: Mapping[str, Any] | None
    ) -> dict[str, float]:
        """Lower ends of the candidate's intervals, where there are enough groups to judge."""
        enough = metrics if groups >= LEAST_GROUPS else {}
        found = {name: numbers["candidate_low"] for name, numbers in enough.items()}
        if pairs and pairs["groups"] >= LEAST_GROUPS:
            found |= {name: each["candidate_low"] for name, each in pairs["measures"].items()}
        return found


def _systems_of(scored: ScoredPairs) -> list[System]:
    """All systems, the baseline first and the candidate last."""
    order = [0, *range(2, len(scored.sides)), 1]
    found = []
    for place in order:
        measures = {name: scored.interval(place, name) for name in scored.measures}
        role = {0: "baseline", 1: "candidate"}.get(place, "other")
        system = System(scored.sides[place], role, measures)
        system.more = {"candidate_over": None, "over_dense": None}
        if place:
            system.difference = scored.difference(place, scored.main)
            system.p_value = scored.candidate_p_value if place == 1 else scored.p_value(place)
        found.append(system)
    return found


def _must_pass(reports: Sequence[Row]) -> list[Row]:
    """Every scenario with its rank; with folds, by each model."""
    if len(reports) == 1:
        return list(reports[0].get("must_pass") or ())
    return [
        {**found, "fold": fold}
        for fold, report in enumerate(reports)
        for found in report.get("must_pass") or ()
    ]


def _round(value: float) -> float:
    return round(float(value), 6)
