"""`--collect`: all trials' scores in one leaderboard, a winner, and its one score on test."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from codex_forge.artifact import Artifact, Draft, Recipe
from codex_forge.errors import EXIT_GATE_NOT_MET, InputError, NotMade
from codex_forge.job import Job
from codex_forge.jsonl import read_json, write_json
from codex_forge.sweep import beside, page
from codex_forge.sweep.board import Dev, Entry, Test, entries_of, missing_of
from codex_forge.sweep.plan import Plan, plan_of
from codex_forge.sweep.run import ranges, told
from codex_forge.sweep.states import States
from codex_forge.sweep.steps import has_part
from codex_forge.sweep.trial import MODES, Modes, StepJob

log = logging.getLogger("codex_forge")

_FILES = ("leaderboard.json", "leaderboard.md", "leaderboard.html")
"""They hold seconds, which differ between equal runs."""
_SIDES = (beside.BASELINE, beside.AS_IT_STANDS)

Board = dict[str, Any]


class TrialsMissing(NotMade):
    """The leaderboard is written; trials are missing, so that nothing was scored on test."""

    exit_code = EXIT_GATE_NOT_MET


def collect(job: Job, modes: Modes = MODES) -> None:
    """Write the leaderboard; the winner is scored on test once no trial is missing.

    Raises:
        TrialsMissing: some are.
    """
    _collect(job, modes, accept=False)


def collect_what_is_there(job: Job, modes: Modes = MODES) -> None:
    """Write the leaderboard, and score the winner of the trials that are there on test."""
    _collect(job, modes, accept=True)


def _collect(job: Job, modes: Modes, *, accept: bool) -> None:
    plan = plan_of(job.config)
    states = States(job.store, job.scratch).of_all(plan)
    for line in told(plan, states):
        log.info("%s", line)
    entries = entries_of(job, plan, states)
    missing = missing_of(entries)
    sides = {who: beside.on_dev(job, who, modes) for who in _SIDES}
    dev = Dev(job, entries, sides)
    tested = {}
    if dev.choice is not None and (accept or not missing) and _has_test(job):
        winner = next(e.trial for e in entries if e.trial.name == dev.choice.winner)
        tested["test-winner"] = beside.winner_on_test(job, winner, modes)
        found = {who: beside.on_test(job, who) for who in _SIDES}
        tested |= {f"test-{who}": artifact for who, artifact in found.items() if artifact}
    made = _Leaderboard(job, plan, entries, dev, sides, tested)
    board, where = made.write()
    _say(board, where)
    if missing and not accept:
        raise TrialsMissing(
            f"{len(missing)} of {len(plan.trials)} trials are missing, so that nothing was scored "
            "on test",
            where=where,
            do=f"run trials {ranges(row['index'] for row in missing)}, or give --accept-missing",
        )


def _has_test(job: Job) -> bool:
    pairs = job.open("pairs", job.config.pairs_name)
    if not has_part(pairs, "test"):
        log.warning("%s: its test part is empty; the winner is not scored on it", pairs.url)
    return has_part(pairs, "test")


class _Leaderboard:
    """The sweep artifact."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        entries: list[Entry],
        dev: Dev,
        sides: Mapping[str, Artifact | None],
        tested: Mapping[str, Artifact],
    ) -> None:
        self._job, self._plan, self._entries, self._dev = job, plan, entries, dev
        self._sides, self._tested = sides, tested
        self._before = beside.scored_on_test(job, plan, self._there())

    def write(self) -> tuple[Board, str]:
        """Write it, unless it is there; returns its tree and where it is."""
        own = StepJob("sweep", self._job.config, self._job.store, self._job.scratch, force=True)
        draft = own.begin(self._recipe(own))
        if not isinstance(draft, Draft):
            done = self._job.open("sweep", self._plan.name)
            return read_json(done.path(_FILES[0])), done.version_url
        self._job.drafts.append(draft)
        board = self._board()
        write_json(draft.path("leaderboard.json"), board)
        draft.path("leaderboard.md").write_text(page.markdown(board), encoding="utf-8")
        draft.path("leaderboard.html").write_text(page.html(board), encoding="utf-8")
        write_json(draft.path("plan.json"), self._plan.tree())
        choice = self._dev.choice
        counts = {"trials": len(self._plan.trials), "ranked": len(self._dev.ranked)}
        draft.commit(counts, {"winner": choice.winner if choice else None}, volatile=_FILES)
        return board, draft.url

    def _there(self) -> Board:
        """The leaderboard that was there before."""
        try:
            return read_json(self._job.open("sweep", self._plan.name).path(_FILES[0]))
        except InputError:
            return {}

    def _recipe(self, job: Job) -> Recipe:
        config = job.config
        settings = {
            "seed": config.seed,
            "sweep": {"metric": config.sweep.metric},
            "compare": {
                "resamples": config.compare.resamples,
                "confidence": config.compare.confidence,
            },
            "trials": {trial.name: dict(trial.overrides) for trial in self._plan.trials},
            "order": [trial.name for trial in self._plan.trials],
            "missing": missing_of(self._entries),
            "scored_before": self._before if self._tested else [],
        }
        given = {e.trial.name: e.artifact for e in self._entries if e.artifact is not None}
        named = {f"dev-{who}": artifact for who, artifact in self._sides.items() if artifact}
        every = {**given, **named, **self._tested}
        return job.recipe(self._plan.name, settings, {k: a.as_input() for k, a in every.items()})

    def _board(self) -> Board:
        config, dev = self._job.config, self._dev
        return {
            "name": self._plan.name,
            "metric": config.sweep.metric,
            "part": "dev",
            "questions": dev.questions,
            "confidence": config.compare.confidence,
            "resamples": config.compare.resamples,
            "keys": self._plan.keys,
            "trials": dev.rows(self._job),
            "baseline": dev.beside[beside.BASELINE],
            "as_it_stands": dev.beside[beside.AS_IT_STANDS],
            "choice": dev.choice.tree() if dev.choice else None,
            "test": self._test(),
            "missing": missing_of(self._entries),
        }

    def _test(self) -> Board | None:
        choice = self._dev.choice
        if not self._tested or choice is None:
            return None
        sides = {who: self._tested.get(f"test-{who}") for who in _SIDES}
        winner = self._tested["test-winner"]
        return Test(self._job, choice.winner, winner, sides, self._before).tree()


def _say(board: Board, where: str) -> None:
    lines = [""]
    if board["choice"]:
        lines.append(f"  {board['choice']['said']}")
    if test := board["test"]:
        won = test["winner"]
        lines.append(
            f"  on test questions: {won['score']:.3f} ({won['low']:.3f} to {won['high']:.3f})"
        )
        for who in _SIDES:
            if found := test[who]:
                lines.append(f"  {who.replace('_', ' ')}: {found['score']:.3f}")
        if before := test["scored_before"]:
            lines.append(f"  scored on test before: {', '.join(before)}")
    lines += ["", f"leaderboard: {where}/leaderboard.html"]
    sys.stdout.write("\n".join(lines) + "\n")
