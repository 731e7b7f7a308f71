"""The best of many trials on the dev questions, and how sure that choice is.

Every trial answered the same questions. Resampling the questions says how far each mean may be off,
which trials cannot be told apart from the best, and how much of the winner's score it owes to
having been chosen (Tsamardinos, Greasidou & Borboudakis, Machine Learning 2018): the best of a
resample is measured on the questions that are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.compare.intervals import Floats, Interval
from codex_forge.errors import InputError
from codex_forge.sweep.best import behind
from codex_forge.sweep.effective import LEAST, Effective
from codex_forge.sweep.resampling import TIE, Bank, Means, resampled

_PLACES = 6


@dataclass(frozen=True)
class Standing:
    """Where one trial stands."""

    name: str
    rank: int
    """From 1; equal scores in the order of the plan."""
    score: Interval
    best_share: float
    """Share of the resamples in which it is the best; equal ones share."""
    behind: Interval | None
    """The winner's score minus its own; the interval allows for the number of trials. None for the
    winner."""
    alike: bool
    """It may be the best: it cannot be told apart from the winner. True for the winner, and for all
    where there are too few groups to choose by."""

    def tree(self) -> dict[str, Any]:
        """Its numbers for a row of the leaderboard."""
        return {
            **_interval("score", self.score),
            "rank": self.rank,
            "best_share": _rounded(self.best_share),
            "behind": None if self.behind is None else _interval("difference", self.behind),
            "alike": self.alike,
        }


@dataclass(frozen=True)
class Choice:
    """The winner, and all trials beside it."""

    winner: str
    """The highest mean; of equal ones the first of the plan."""
    optimism: float
    """How much its score is expected to be too high, because it was chosen by it."""
    standings: Mapping[str, Standing]
    """In the order of the plan."""
    questions: int
    worth: Effective
    """Of the groups of questions."""
    resamples: int
    """On which all trials had a score."""
    asked: str = "questions"
    """What there are so many of: `questions`, or `scored pairs`."""

    @property
    def score(self) -> Interval:
        """The winner's, as it was measured: too high by about the optimism."""
        return self.standings[self.winner].score

    @property
    def corrected(self) -> float:
        """The winner's score less the optimism."""
        return self.score.mean - self.optimism

    @property
    def alike(self) -> list[str]:
        """Trials that may be the best, by rank: the winner, and those like it."""
        ranked = sorted(self.standings.values(), key=lambda standing: standing.rank)
        return [standing.name for standing in ranked if standing.alike]

    @property
    def said(self) -> str:
        """The choice in one sentence."""
        found = f"{self.winner} scores {self.score.mean:.3f}"
        asked = f"on {self.questions} {self.asked}"
        if len(self.standings) == 1:
            return f"{found} {asked}; there was nothing to choose from."
        if self.worth.few:
            return (
                f"{found}, the highest of {len(self.standings)} trials {asked}; these are worth "
                f"{self.worth.groups:.1f} groups of equal size, and a choice needs {LEAST}, so "
                "any trial may be as good."
            )
        others = len(self.alike) - 1
        near = {0: "no other trial may be as good", 1: "one other trial may be as good"}
        return (
            f"{found}, the best of {len(self.standings)} trials {asked}; "
            f"{near.get(others, f'{others} other trials may be as good')}; having been chosen adds "
            f"about {max(self.optimism, 0.0):.3f} to its score."
        )

    def tree(self) -> dict[str, Any]:
        """The choice as it stands in leaderboard.json."""
        return {
            "winner": self.winner,
            **_interval("score", self.score),
            "optimism": _rounded(self.optimism),
            "corrected": _rounded(self.corrected),
            "alike": self.alike,
            "groups": round(self.worth.groups, 2),
            "too_few_groups": self.worth.few,
            "resamples": self.resamples,
            "said": self.said,
        }


def choose(
    scores: Mapping[str, Floats],
    *,
    seed: int,
    resamples: int,
    confidence: float,
    groups: Sequence[str] | None = None,
) -> Choice:
    """Choose the trial of the highest mean score.

    Args:
        scores: of each trial, in the order of the plan, its score on every question; the same
            questions in the same order.
        seed: of the resamples.
        resamples: how many.
        confidence: of intervals, and of keeping the truly best trial among those alike.
        groups: of each question, which others hang together with it; None: none.

    Raises:
        InputError: no trials, scores that are no numbers, or not the same questions for all.
    """
    table, group = _table(scores), _group(scores, groups)
    bank = Means.of(table, group)
    return choose_by(list(scores), bank, table.shape[1], seed, resamples, confidence)


def choose_by(
    names: Sequence[str],
    bank: Bank,
    questions: int,
    seed: int,
    resamples: int,
    confidence: float,
    asked: str = "questions",
) -> Choice:
    """Choose the trial of the highest score by any measure that can be taken on resamples.

    Args:
        names: of the trials, in the order of the plan and of the bank.
        bank: what they answered.
        questions: how many.
        seed: see `choose`, as the other two.
        resamples: how many.
        confidence: of intervals.
        asked: what there are so many of.
    """
    found = resampled(bank, resamples, seed)
    worth = Effective.of(bank.sizes)
    low, high = worth.ends(found.scores, confidence)
    gap = behind(found.full, found.scores, found.winner, worth, confidence)
    ranks = _ranks(found.full, found.winner)
    standings = {
        name: Standing(
            name,
            int(ranks[i]),
            Interval(float(found.full[i]), float(low[i]), float(high[i])),
            float(found.best_share[i]),
            None if i == found.winner else Interval(*(float(each[i]) for each in gap)),
            i == found.winner or worth.few or bool(gap.low[i] <= TIE),
        )
        for i, name in enumerate(names)
    }
    drawn = found.scores.shape[1]
    return Choice(names[found.winner], found.optimism, standings, questions, worth, drawn, asked)


def _ranks(full: Floats, winner: int) -> NDArray[np.int64]:
    """Ranks from 1 by mean score, equal ones in the order of the plan; the winner is first."""
    order = np.argsort(-np.round(full, 9), kind="stable")
    ranks = np.empty(len(full), dtype=np.int64)
    ranks[np.concatenate([[winner], order[order != winner]])] = np.arange(1, len(full) + 1)
    return ranks


def _table(scores: Mapping[str, Floats]) -> Floats:
    """Scores of shape (trials, questions)."""
    if not scores:
        raise InputError("no trial has a score", do="run the trials first")
    rows = {name: np.asarray(row, dtype=float) for name, row in scores.items()}
    counts = {name: row.shape for name, row in rows.items()}
    first, wanted = next(iter(counts.items()))
    for name, shape in counts.items():
        if shape != wanted:
            raise InputError(
                f"trial {name} has scores of shape {shape}, trial {first} of {wanted}",
                do="compare trials on the same questions",
            )
        if not np.isfinite(rows[name]).all():
            place = int(np.argmin(np.isfinite(rows[name])))
            raise InputError(f"trial {name} has no score on question {place}")
    return np.stack(list(rows.values()))


def _group(scores: Mapping[str, Floats], groups: Sequence[str] | None) -> NDArray[np.int64]:
    """The number of each question's group."""
    questions = len(next(iter(scores.values())))
    names = np.arange(questions) if groups is None else np.asarray(groups)
    if len(names) != questions:
        raise InputError(f"{len(names)} groups were given for {questions} questions")
    found, group = np.unique(names, return_inverse=True)
    if len(found) < 2:  # noqa: PLR2004
        raise InputError(
            f"{len(found)} group of questions cannot tell trials apart",
            do="put more questions into the dev part",
        )
    return group.astype(np.int64)


def _interval(mean: str, interval: Interval) -> dict[str, float]:
    return {
        mean: _rounded(interval.mean),
        "low": _rounded(interval.low),
        "high": _rounded(interval.high),
    }


def _rounded(value: float) -> float:
    """The same digits on every machine, and never -0.0."""
    return round(value, _PLACES) + 0.0
