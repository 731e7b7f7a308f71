"""The leaderboard: one row a trial, the choice on dev, and the winner's one score on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from codex_forge.artifact import Artifact, open_artifact
from codex_forge.compare.intervals import Interval
from codex_forge.errors import InputError
from codex_forge.job import Job
from codex_forge.jsonl import read_json
from codex_forge.pair_files import has_questions, rows
from codex_forge.sweep.before import Before
from codex_forge.sweep.choice import Choice
from codex_forge.sweep.pair_scores import PairScores
from codex_forge.sweep.plan import Plan, Trial
from codex_forge.sweep.scores import Drawing, QuestionScores, Scores, check_metric, measures_of
from codex_forge.sweep.states import DONE, STALE, State
from codex_forge.sweep.trial import check_files

_PLACES = 6
_UNRANKED: dict[str, Any] = {
    "score": None,
    "low": None,
    "high": None,
    "rank": None,
    "best_share": None,
    "behind": None,
    "alike": False,
}

Row = dict[str, Any]


class Entry(NamedTuple):
    """A trial with its state and, when it is done, its evaluation."""

    trial: Trial
    state: State
    artifact: Artifact | None


def entries_of(job: Job, plan: Plan, states: Sequence[State]) -> list[Entry]:
    """All trials in the order of the plan."""
    return [_entry(job, trial, state) for trial, state in zip(plan.trials, states, strict=True)]


def _entry(job: Job, trial: Trial, state: State) -> Entry:
    if state.word != DONE:
        return Entry(trial, state, None)
    try:
        found = open_artifact(job.store, "evaluate", trial.evaluate_name, job.scratch)
        check_files(found)
    except InputError as error:
        return damaged(Entry(trial, state, None), error)
    return Entry(trial, state, found)


def damaged(entry: Entry, error: InputError) -> Entry:
    """A trial with a file that is not what was written: it has no rank, and stops no other."""
    return entry._replace(state=State(STALE, None, f"{error.where}: {error.what}"), artifact=None)


def scores_of(job: Job, part: str) -> Scores:
    """Nobody's scores yet, on the questions of one part of the run's pairs, or on its pairs."""
    config = job.config
    drawing = Drawing(config.seed, config.compare.resamples, config.compare.confidence)
    pairs = job.open("pairs", config.pairs_name)
    if has_questions(pairs):
        ids = [row["query_id"] for row in rows(pairs, f"questions-{part}")]
        if not ids:
            raise InputError(
                f"there are no {part} questions",
                where=pairs.url,
                do="give corpus.questions, or change pairs.split",
            )
        return QuestionScores(config.sweep.metric, ids, drawing)
    ids = [row["pair_id"] for row in rows(pairs, f"scored-{part}")]
    return PairScores(config.sweep.metric, part, ids, drawing)


class Dev:
    """What was scored on dev: the trials, and what stands beside them."""

    def __init__(
        self, job: Job, entries: Sequence[Entry], beside: Mapping[str, Artifact | None]
    ) -> None:
        """Read all scores, and choose."""
        self._metric = job.config.sweep.metric
        self._entries = entries
        self._scores = scores_of(job, "dev")
        self.why = {
            entry.trial.name: self._add(entry.trial.name, entry.artifact)
            for entry in entries
            if entry.artifact is not None
        }
        self.ranked = [name for name, why in self.why.items() if not why]
        self.choice: Choice | None = self._scores.choose(self.ranked) if self.ranked else None
        self.beside = {who: self._side(artifact) for who, artifact in beside.items()}
        self.questions = self._scores.count

    def _add(self, name: str, artifact: Artifact) -> str:
        check_metric(self._metric, measures_of(artifact))
        return self._scores.add(name, artifact)

    def _side(self, artifact: Artifact | None) -> Row | None:
        if artifact is None:
            return None
        name = artifact.manifest.name
        return None if self._add(name, artifact) else side(name, self._scores.of(name))

    def row(self, job: Job, entry: Entry) -> Row:
        """One trial's row."""
        trial, state = entry.trial, entry.state
        standing = self.choice.standings.get(trial.name) if self.choice else None
        return {
            "index": trial.index,
            "name": trial.name,
            "label": trial.label,
            "overrides": dict(trial.overrides),
            "state": state.word,
            "exit_code": state.exit_code,
            "said": state.said or self.why.get(trial.name, ""),
            **(standing.tree() if standing else _UNRANKED),
            "measures": measures_of(entry.artifact) if entry.artifact else {},
            "seconds": _seconds(job, trial) if entry.artifact else None,
        }

    def rows(self, job: Job) -> list[Row]:
        """All rows, in the order of the plan."""
        return [self.row(job, entry) for entry in self._entries]


class Test:
    """What was scored on test: the winner, and what the run has."""

    def __init__(
        self,
        job: Job,
        winner: str,
        artifact: Artifact,
        beside: Mapping[str, Artifact | None],
        before: Before,
    ) -> None:
        """The winner's name and evaluation; `before` says what was scored on test."""
        self._scores = scores_of(job, "test")
        self._winner, self._artifact = winner, artifact
        self._beside, self._before = beside, before

    def tree(self) -> Row | None:
        """The key `test`; None when the winner answered other questions than the run."""
        winner = self._winner
        if self._scores.add(winner, self._artifact):
            return None
        sides = {who: self._side(artifact) for who, artifact in self._beside.items()}
        return {
            "winner": side(winner, self._scores.of(winner)),
            **sides,
            "difference": self._above(sides["baseline"]),
            "gain": self._above(sides["as_it_stands"]),
            "scored_before": self._before.names,
            "once": self._before.once,
            "known": self._before.known,
        }

    def _above(self, other: Row | None) -> Row | None:
        """What the winner has above another, on the same questions."""
        if other is None:
            return None
        return numbers("difference", self._scores.difference(self._winner, other["name"]))

    def _side(self, artifact: Artifact | None) -> Row | None:
        if artifact is None or self._scores.add(artifact.manifest.name, artifact):
            return None
        return side(artifact.manifest.name, self._scores.of(artifact.manifest.name))


def side(name: str, score: Interval) -> Row:
    """What stands beside."""
    return {"name": name, **numbers("score", score)}


def numbers(mean: str, found: Interval) -> Row:
    """An interval, rounded so that machines agree."""
    values = {mean: found.mean, "low": found.low, "high": found.high}
    return {key: round(value, _PLACES) + 0.0 for key, value in values.items()}


def missing_of(entries: Sequence[Entry]) -> list[Row]:
    """Trials that are not done, and why."""
    return [
        {"index": e.trial.index, "name": e.trial.name, "state": e.state.word, "said": e.state.said}
        for e in entries
        if e.artifact is None
    ]


def _seconds(job: Job, trial: Trial) -> dict[str, float] | None:
    """How long the training took; differs between equal runs."""
    try:
        trained = open_artifact(job.store, "train", trial.config.run_name, job.scratch)
        return {"train": float(read_json(trained.path("metadata.json"))["seconds"])}
    except (InputError, KeyError):
        return None
