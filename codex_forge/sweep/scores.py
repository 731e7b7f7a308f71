"""What systems scored on the same questions: the numbers that a winner is chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from codex_forge.artifact import Artifact
from codex_forge.compare.intervals import Interval
from codex_forge.compare.significance import Resampler
from codex_forge.errors import ConfigError, InputError
from codex_forge.jsonl import read_json, read_jsonl
from codex_forge.sweep.choice import Choice, choose

Values = NDArray[np.float64]


class Drawing(NamedTuple):
    """How resamples are drawn."""

    seed: int
    resamples: int
    confidence: float


class Scores(Protocol):
    """Scores of several systems on one part."""

    count: int
    """Questions, or pairs."""

    def add(self, name: str, artifact: Artifact) -> str:
        """Take in a system by its evaluate artifact; returns why not, or nothing."""
        ...

    def choose(self, names: Sequence[str]) -> Choice:
        """The best of some of them."""
        ...

    def of(self, name: str) -> Interval:
        """One system's score."""
        ...

    def difference(self, name: str, baseline: str) -> Interval:
        """What one has above another."""
        ...


class QuestionScores:
    """A measure of each question, the same questions for all systems."""

    def __init__(self, metric: str, ids: Sequence[str], drawing: Drawing) -> None:
        """`ids` are the questions that count, in their order."""
        self._metric, self._ids, self._drawing = metric, list(ids), drawing
        self.count = len(self._ids)
        self._rows: dict[str, Values] = {}
        self._groups: list[str] = []

    def add(self, name: str, artifact: Artifact) -> str:
        """Take in a system.

        Raises:
            ConfigError: there is no such measure.
        """
        rows = {row["query_id"]: row for row in read_jsonl(artifact.path("per_question.jsonl"))}
        if rows.keys() != set(self._ids):
            return "scored on other questions than the run's: not ranked"
        in_order = [rows[each] for each in self._ids]
        check_metric(self._metric, in_order[0]["measures"])
        self._rows[name] = np.array([row["measures"][self._metric] for row in in_order], float)
        self._groups = self._groups or [row["group"] for row in in_order]
        return ""

    def choose(self, names: Sequence[str]) -> Choice:
        """The best of some of them."""
        rows = {name: self._rows[name] for name in names}
        seed, resamples, confidence = self._drawing
        return choose(
            rows, seed=seed, resamples=resamples, confidence=confidence, groups=self._groups
        )

    def of(self, name: str) -> Interval:
        """One system's score, by the same resamples."""
        return self.choose([name]).score

    def difference(self, name: str, baseline: str) -> Interval:
        """What one has above another on the same questions."""
        seed, resamples, confidence = self._drawing
        resampler = Resampler(self._groups, resamples, confidence, seed)
        rows = [self._rows[each].tolist() for each in (baseline, name)]
        return resampler.compare(*rows).difference


def check_metric(metric: str, known: Mapping[str, Any]) -> None:
    """Refuse a measure that was not taken.

    Raises:
        ConfigError: names those that were.
    """
    if metric not in known:
        raise ConfigError(
            f"there is no measure {metric!r}; there are {', '.join(known)}",
            where="sweep.metric",
            do="choose one of them",
        )


def measures_of(artifact: Artifact) -> dict[str, float]:
    """All measures of an evaluation: of its questions, or of its pairs."""
    report = read_json(artifact.path("report.json"))
    if report["metrics"]:
        return dict(report["metrics"])
    if report["pairs"] is None:
        raise InputError("holds no scores", where=artifact.url, do="make it again with --force")
    values = report["pairs"][report["part"]]["values"]
    return {name: value for name, value in values.items() if value is not None}
