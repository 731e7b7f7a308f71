"""The mode `sweep`: all trials one after another, one by its index, or what is to be done."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from codex_forge.errors import (
    EXIT_TRY_AGAIN,
    ConfigError,
    ForgeError,
    NotMade,
    StorageDown,
    TryAgain,
)
from codex_forge.job import Job, exit_code_of
from codex_forge.stopping import stop
from codex_forge.sweep.choosable import check_can_choose
from codex_forge.sweep.gate import check_baseline, check_tiers
from codex_forge.sweep.inputs import check_files, check_inputs
from codex_forge.sweep.plan import Plan, Trial, plan_of, ranges
from codex_forge.sweep.processes import together
from codex_forge.sweep.states import DONE, RUNNING, STALE, State, States
from codex_forge.sweep.trial import MODES, Modes, run_trial

log = logging.getLogger("codex_forge")

_WORST = (1, 2, 3)
"""Exit codes of failed trials: the first of these that occurred is the sweep's."""
_SHOWN = 5
_WIDEST = 24


class TrialsFailed(ForgeError):
    """Some trials failed; the others were tried all the same."""


def run(job: Job, modes: Modes = MODES, *, gated: bool = True) -> None:
    """Run all trials that are not done, one after another; a trial that fails stops no other.

    Raises:
        TrialsFailed: some failed; ends with the exit code of one of them.
        TryAgain: some are being made by other processes.
        GateNotMet: the run as it stands is not good enough yet (see `check_baseline`).
    """
    if together() > 1:
        raise ConfigError(
            "several processes train one trial at a time",
            do="start each trial with --shards and its index",
        )
    plan = plan_of(job.config)
    _check(job, plan, gated=gated)
    tried = (_attempt(job, trial, modes) for trial in plan.trials)
    _report(plan, [failed for failed in tried if failed is not None])


def run_without_gate(job: Job, modes: Modes = MODES) -> None:
    """Like `run`; whether the run as it stands is good enough is not asked."""
    run(job, modes, gated=False)


def run_one(job: Job, modes: Modes = MODES, *, gated: bool = True) -> None:
    """Run the trial whose index the launcher has set.

    Raises:
        ConfigError: `--shards` is not the number of trials.
        GateNotMet: the run as it stands is not good enough yet (see `check_baseline`).
    """
    plan = plan_of(job.config)
    if job.shards != len(plan.trials):
        raise ConfigError(
            f"the sweep has {len(plan.trials)} trials",
            where=f"--shards {job.shards}",
            do=f"start it with --shards {len(plan.trials)} (see --plan)",
        )
    _check(job, plan, gated=gated)
    run_trial(job, plan.trials[job.shard], modes)


def run_one_without_gate(job: Job, modes: Modes = MODES) -> None:
    """Like `run_one`; whether the run as it stands is good enough is not asked."""
    run_one(job, modes, gated=False)


def _check(job: Job, plan: Plan, *, gated: bool) -> None:
    """What would make all trials useless is found before the first is trained."""
    check_tiers(job)
    if gated:
        check_baseline(job)
    else:
        log.warning("--no-gate: whether the run as it stands is good enough was not asked")
    check_inputs(job, plan)
    check_can_choose(job)


class _Failed(NamedTuple):
    """A trial that failed. The error itself would keep its model in memory."""

    trial: Trial
    code: int
    said: str


def _attempt(job: Job, trial: Trial, modes: Modes) -> _Failed | None:
    """Run a trial, and tell how it failed by itself, if it did.

    What would stop the others, too, is raised: a signal, a storage that is down, inputs that are
    not there.
    """
    try:
        run_trial(job, trial, modes)
    except (StorageDown, NotMade):
        raise
    except Exception as error:  # the bug of one trial is told at the end
        stop.demand()  # a stop may come as an error of somebody else's making
        shown = None if isinstance(error, ForgeError) else error
        log.error("trial %d, %s: failed: %s", trial.index, trial.label, error, exc_info=shown)
        return _Failed(trial, exit_code_of(error), str(error))
    return None


def _report(plan: Plan, failed: Sequence[_Failed]) -> None:
    if not failed:
        return
    codes = [each.code for each in failed]
    told = "; ".join(f"{each.trial.label}: {each.said}" for each in failed[:_SHOWN])
    more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
    what = f"{len(failed)} of {len(plan.trials)} trials are not done: {told}{more}"
    if set(codes) == {EXIT_TRY_AGAIN}:
        raise TryAgain(what, do="run again")
    error = TrialsFailed(what, do="mend what they say, and run again: what is done stays")
    error.exit_code = next(code for code in _WORST if code in codes)
    raise error


# --- what is to be done --------------------------------------------------------------------------


def show_plan(job: Job) -> None:
    """Print the trials as a table."""
    _say(*table(plan_of(job.config)))


def show_plan_as_json(job: Job) -> None:
    """Print the trials for machines."""
    _say(json.dumps(plan_of(job.config).tree(), indent=1, ensure_ascii=False))


def show_size(job: Job) -> None:
    """Print the number of trials."""
    _say(str(len(plan_of(job.config).trials)))


def show_missing(job: Job) -> None:
    """Print the indexes of trials to start, as `sbatch --array` takes them."""
    plan = plan_of(job.config)
    check_files(job, plan.trials)
    states = States(job.store, job.scratch).of_all(plan)
    for line in told(plan, states):
        log.info("%s", line)
    _say(ranges([i for i, state in enumerate(states) if state.word not in (DONE, RUNNING)]))


def told(plan: Plan, states: Sequence[State]) -> Iterator[str]:
    """How far the trials are, in words: the numbers, and why each failed one did."""
    counts = Counter(state.word for state in states)
    listed = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    yield f"{len(plan.trials)} trials: {listed}"
    for trial, state in zip(plan.trials, states, strict=True):
        if state.said and state.said != "not started":
            yield f"  {trial.index} {trial.label}: {state.word}: {state.said}"
    if counts[STALE]:
        yield "  stale trials are made anew with --force"


def table(plan: Plan) -> Iterator[str]:
    """The trials as lines, with the values of the keys that vary."""
    keys = plan.keys or list(dict.fromkeys(k for t in plan.trials for k in t.overrides))
    rows = [["index", *keys, "name"]]
    for trial in plan.trials:
        values = [_cell(trial, key) for key in keys]
        rows.append([str(trial.index), *values, trial.name])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(text.ljust(wide) for text, wide in zip(row, widths, strict=True)).rstrip()
    yield ""
    yield f"{len(plan.trials)} trials: an array of size {len(plan.trials)}, indexes " + ranges(
        range(len(plan.trials))
    )


def _cell(trial: Trial, key: str) -> str:
    if key not in trial.overrides:
        return "-"
    value = trial.overrides[key]
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}\u2026"


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
