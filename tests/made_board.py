"""Leaderboards that are made up for tests of what is shown; the numbers are chosen by `choose`."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from codex_forge.sweep.choice import Choice, choose

Tree = dict[str, Any]

HOSTILE = "</script><script>window.owned = 1</script><img src=x onerror=alert(1)>|`&amp;"
GRID: dict[str, list[Any]] = {
    "train.learning_rate": [1e-5, 2e-5, 5e-5],
    "train.epochs": [2, 4, 6],
    "train.warmup_steps": [50, 100, 200],
}
QUESTIONS = 140


def trials_of(grid: dict[str, list[Any]]) -> list[Tree]:
    """The points of a grid as rows of a leaderboard without any score."""
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return [_trial(index, point) for index, point in enumerate(points)]


def _trial(index: int, overrides: Tree) -> Tree:
    label = "-".join(f"{key.rpartition('.')[2]}-{value}" for key, value in overrides.items())
    return {
        "index": index,
        "name": f"harbour-{label}",
        "label": label,
        "overrides": overrides,
        "state": "done",
        "exit_code": 0,
        "said": "",
        "score": None,
        "low": None,
        "high": None,
        "rank": None,
        "best_share": None,
        "behind": None,
        "alike": False,
        "measures": {},
        "seconds": None,
    }


def scored(
    trials: list[Tree], seed: int = 3, spread: float = 0.06, groups: int = QUESTIONS
) -> Choice:
    """Give each trial scores on rubric-like questions, and choose."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(3.0, 1.2, size=QUESTIONS)
    skill = spread * rng.normal(size=len(trials))
    scores = {
        trial["name"]: np.clip(
            np.round(hard + skill[i] + rng.normal(0, 0.5, size=QUESTIONS), 1), 0, 5
        )
        for i, trial in enumerate(trials)
    }
    group = [f"g{i % groups:03d}" for i in range(QUESTIONS)]
    choice = choose(scores, seed=7, resamples=1000, confidence=0.95, groups=group)
    for trial in trials:
        own = choice.standings[trial["name"]]
        mean = own.score.mean
        trial.update(own.tree())
        trial["measures"] = {"rubric": mean, "ndcg@10": mean / 7, "recall@5": mean / 6}
        trial["seconds"] = {"train": 61.0 + 40 * trial["index"]}
    return choice


def side(name: str, score: float) -> Tree:
    """A score with an interval."""
    return {"name": name, "score": score, "low": score - 0.2, "high": score + 0.2}


def board(trials: list[Tree], choice: Choice | None, **other: Any) -> Tree:
    """A whole leaderboard around these trials."""
    winner = choice.winner if choice else ""
    values = {
        key: {str(trial["overrides"].get(key)) for trial in trials}
        for trial in trials
        for key in trial["overrides"]
    }
    test = {
        "winner": side(winner, 3.11),
        "baseline": side("harbour-base", 2.47),
        "as_it_stands": side("harbour", 3.02),
        "difference": {"difference": 0.64, "low": 0.41, "high": 0.87},
        "gain": {"difference": 0.09, "low": -0.02, "high": 0.2},
        "scored_before": [],
        "once": True,
        "known": "",
    }
    return {
        "name": "harbour",
        "metric": "rubric",
        "part": "dev",
        "questions": QUESTIONS,
        "confidence": 0.95,
        "resamples": 1000,
        "keys": [key for key in values if len(values[key]) > 1],
        "trials": trials,
        "baseline": side("harbour-base", 2.51),
        "as_it_stands": side("harbour", 3.01),
        "choice": choice.tree() if choice else None,
        "test": test if choice else None,
        "scored_before": [],
        "scored_as_run": [],
        "missing": [],
        "gate": "",
        "model": f"train/{winner}" if winner else "",
        **other,
    }


def whole() -> Tree:
    """27 trials, all done."""
    trials = trials_of(GRID)
    return board(trials, scored(trials))


def with_missing() -> Tree:
    """Three of 27 without a score, and one that was asked other questions."""
    trials = trials_of(GRID)
    left = {
        4: ("failed", 2, "train.batch_size 4096 does not fit on this device; lower it"),
        5: ("missing", None, "never started"),
        6: ("missing", None, HOSTILE),
    }
    done = [trial for trial in trials if trial["index"] not in (*left, 9)]
    choice = scored(done)
    for index, (state, code, said) in left.items():
        trials[index].update(state=state, exit_code=code, said=said)
    trials[9]["said"] = "evaluated on other questions"
    told = ("index", "name", "state", "said")
    missing = [{key: trials[index][key] for key in told} for index in left]
    return board(trials, choice, missing=missing, test=None)


def too_few() -> Tree:
    """All questions are of four groups."""
    trials = trials_of(GRID)
    return board(trials, scored(trials, groups=4))


def nothing() -> Tree:
    """No trial has a score."""
    trials = trials_of(GRID)
    for trial in trials:
        trial.update(state="missing", exit_code=None, said="never started")
    told = ("index", "name", "state", "said")
    missing = [{key: trial[key] for key in told} for trial in trials]
    return board(trials, None, missing=missing, baseline=None, as_it_stands=None)


def single() -> Tree:
    """One trial and nothing beside it."""
    trials = [_trial(0, {"train.epochs": 3})]
    return board(trials, scored(trials), baseline=None, as_it_stands=None, test=None)


def hostile() -> Tree:
    """Names, labels, keys, values and reasons that would do harm where they are not escaped."""
    trials = trials_of({f"train.{HOSTILE}": ["a", HOSTILE, "\u202eb", None]})
    for trial in trials:
        trial["label"] = f"{HOSTILE} {trial['index']}"
    found = board(trials, scored(trials), name=HOSTILE, metric=f"m{HOSTILE}")
    found["test"].update(scored_before=[HOSTILE], once=False, known=HOSTILE)
    found["scored_as_run"] = [HOSTILE]
    found["gate"] = HOSTILE
    found["missing"] = [{"index": 9, "name": HOSTILE, "state": HOSTILE, "said": HOSTILE}]
    return found


def many(count: int = 1000) -> Tree:
    """A thousand trials."""
    trials = trials_of({"train.learning_rate": [i * 1e-6 for i in range(1, count // 10 + 1)],
                        "train.epochs": list(range(1, 11))})  # fmt: skip
    return board(trials, scored(trials))


BOARDS = {
    "whole": whole,
    "with missing": with_missing,
    "too few": too_few,
    "nothing": nothing,
    "single": single,
    "hostile": hostile,
    "many": many,
}
