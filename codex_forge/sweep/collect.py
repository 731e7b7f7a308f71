"""`--collect`: all trials' scores in one leaderboard, a winner, and its one score on test."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from codex_forge.artifact import Artifact, Draft, Recipe
from codex_forge.errors import EXIT_GATE_NOT_MET, InputError, NotMade
from codex_forge.job import Job
from codex_forge.jsonl import read_json, write_json
from codex_forge.sweep import beside, page
from codex_forge.sweep.before import before
from codex_forge.sweep.board import Dev, Entry, Test, damaged, entries_of, missing_of
from codex_forge.sweep.gate import unmet
from codex_forge.sweep.inputs import check_files
from codex_forge.sweep.plan import Plan, Trial, plan_of, ranges
from codex_forge.sweep.run import told
from codex_forge.sweep.states import STALE, States
from codex_forge.sweep.steps import has_part
from codex_forge.sweep.trial import MODES, Modes, StepJob

log = logging.getLogger("codex_forge")

_FILES = ("leaderboard.json", "leaderboard.md", "leaderboard.html")
"""They hold seconds, which differ between equal runs."""
_FORCED = " with --force"
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
    check_files(job, plan.trials)
    states = States(job.store, job.scratch).of_all(plan)
    for line in told(plan, states):
        log.info("%s", line)
    entries = entries_of(job, plan, states)
    sides = {who: beside.on_dev(job, who, modes) for who in _SIDES}
    chosen = _chosen(job, modes, entries, sides, accept=accept)
    board, where = _Leaderboard(job, plan, sides, chosen).write()
    _say(board, job, where)
    _check(board, where, accept=accept)


class _Chosen(NamedTuple):
    """What was chosen, among which trials, and what was scored on test."""

    entries: list[Entry]
    dev: Dev
    tested: dict[str, Artifact]

    @property
    def winner(self) -> Trial | None:
        """The winner on dev."""
        choice = self.dev.choice
        found = [e.trial for e in self.entries if choice and e.trial.name == choice.winner]
        return found[0] if found else None


def _chosen(
    job: Job,
    modes: Modes,
    entries: list[Entry],
    sides: Mapping[str, Artifact | None],
    *,
    accept: bool,
) -> _Chosen:
    """Choose, and score the winner on test; one whose vectors are damaged is no trial that is
    there.
    """
    while True:
        chosen = _Chosen(entries, Dev(job, entries, sides), {})
        winner = chosen.winner
        if winner is None or (missing_of(entries) and not accept) or not _has_test(job):
            return chosen
        try:
            scored = beside.winner_on_test(job, winner, modes)
        except InputError as error:
            log.warning("%s cannot be scored on test: %s", winner.name, error)
            entries = [damaged(e, error) if e.trial == winner else e for e in entries]
            continue
        found = {who: beside.on_test(job, who) for who in _SIDES}
        more = {f"test-{who}": artifact for who, artifact in found.items() if artifact}
        return chosen._replace(tested={"test-winner": scored, **more})


def _check(board: Board, where: str, *, accept: bool) -> None:
    """End with 3 unless there is what was asked for."""
    missing, trials = board["missing"], len(board["trials"])
    if missing and not accept:
        raise TrialsMissing(
            f"{len(missing)} of {trials} trials are missing, so that nothing was scored on test",
            where=where,
            do=f"run trials {ranges(row['index'] for row in missing)}"
            f"{_FORCED if any(row['state'] == STALE for row in missing) else ''}"
            ", or give --accept-missing",
        )
    if board["choice"] is None:
        reasons = dict.fromkeys(row["said"] for row in board["trials"] if row["said"])
        raise TrialsMissing(
            f"none of {trials} trials has a rank: {'; '.join([*reasons][:3])}",
            where=where,
            do="mend what is said there; trials that answered the run's own dev questions can be "
            "ranked",
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
        sides: Mapping[str, Artifact | None],
        chosen: _Chosen,
    ) -> None:
        self._job, self._plan, self._sides = job, plan, sides
        self._entries, self._dev, self._tested = chosen
        self._before = before(job, plan, chosen.winner if chosen.tested else None)
        self._gate = unmet(job)
        won = chosen.winner
        self._model = f"train/{won.config.run_name}" if won else ""

    def write(self) -> tuple[Board, str]:
        """Write it, unless it is there; returns its tree and where it is."""
        own = StepJob("sweep", self._job.config, self._job.store, self._job.scratch, force=True)
        draft = own.begin(self._recipe(own))
        if not isinstance(draft, Draft):
            done = self._job.open("sweep", self._plan.name)
            return read_json(done.path(_FILES[0])), done.version_url
        self._job.drafts.append(draft)
        board = self._board()
        model = _model(board, self._job)
        write_json(draft.path("leaderboard.json"), board)
        draft.path("leaderboard.md").write_text(page.markdown(board, model), encoding="utf-8")
        draft.path("leaderboard.html").write_text(page.html(board, model), encoding="utf-8")
        write_json(draft.path("plan.json"), self._plan.tree())
        choice = self._dev.choice
        counts = {"trials": len(self._plan.trials), "ranked": len(self._dev.ranked)}
        winner = choice.winner if choice else None
        # What the next leaderboard has to know of this one.
        summary = {"winner": winner, "tested": winner if self._tested else None}
        draft.commit(counts, summary, volatile=_FILES)
        return board, draft.url

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
            "scored_before": self._before.names,
            "scored_as_run": self._before.as_run,
            "known": self._before.known,
            "gate": self._gate,
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
            "scored_before": self._before.names,
            "scored_as_run": self._before.as_run,
            "missing": missing_of(self._entries),
            "gate": self._gate,
            "model": self._model,
        }

    def _test(self) -> Board | None:
        choice = self._dev.choice
        if not self._tested or choice is None:
            return None
        sides = {who: self._tested.get(f"test-{who}") for who in _SIDES}
        winner = self._tested["test-winner"]
        return Test(self._job, choice.winner, winner, sides, self._before).tree()


def _model(board: Board, job: Job) -> str:
    """Where the winner's model is, as people can go there; the board itself names no place, so that
    it is the same on every store.
    """
    return f"{job.store.url(board['model'])}/" if board["model"] else ""


def _say(board: Board, job: Job, where: str) -> None:
    said = page.text(board, _model(board, job))
    sys.stdout.write(f"\n{said}\nleaderboard: {where}/leaderboard.html\n")
