"""What stands beside the trials: base model and the run as it stands, and the winner on test.

All are ordinary evaluate artifacts, made once; only queries are encoded for them.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from codex_forge.artifact import Artifact, open_artifact
from codex_forge.config import RunConfig, changed
from codex_forge.errors import InputError
from codex_forge.job import Job
from codex_forge.sweep.made_with import differences
from codex_forge.sweep.plan import Trial
from codex_forge.sweep.steps import Step
from codex_forge.sweep.trial import Modes, check_files, run_step

log = logging.getLogger("codex_forge")

BASELINE, AS_IT_STANDS = "baseline", "as_it_stands"
_KEYS: dict[str, dict[str, Any]] = {BASELINE: {"embed.model": "base"}, AS_IT_STANDS: {}}


def on_dev(job: Job, who: str, modes: Modes) -> Artifact | None:
    """An evaluation of the base model, or of the run as it stands, on dev; None where there is no
    such model or no vectors of it.
    """
    config = _config(job.config, who, "dev")
    try:
        if who == AS_IT_STANDS:
            _check_as_it_stands(job, config)
        run_step(job, Step("evaluate", config.evaluate_name, config), modes)
        return _whole(job, config)
    except InputError as error:
        log.warning("%s is not shown beside the trials: %s", who.replace("_", " "), error)
        return None


def on_test(job: Job, who: str) -> Artifact | None:
    """The run's own evaluation on test, if it is there and of its present pairs; none is made."""
    config = _config(job.config, who, "test")
    try:
        if who == AS_IT_STANDS:
            _check_as_it_stands(job, config)
        found = _whole(job, config)
    except InputError:
        return None
    pairs = job.open("pairs", config.pairs_name)
    return found if found.manifest.inputs["pairs"].digest == pairs.digest else None


def winner_on_test(job: Job, trial: Trial, modes: Modes) -> Artifact:
    """Score the winner on the questions that nobody has chosen by.

    A score that is there is made anew when it is of other settings, or damaged.
    """
    config = changed(trial.config, {"evaluate.part": "test"}, where=trial.name)
    forced = replace(job, force=True)
    run_step(forced, Step("evaluate", config.evaluate_name, config), modes)
    return _whole(job, config)


def _whole(job: Job, config: RunConfig) -> Artifact:
    found = open_artifact(job.store, "evaluate", config.evaluate_name, job.scratch)
    check_files(found)
    return found


def _config(config: RunConfig, who: str, part: str) -> RunConfig:
    values = {"embed.chroma": {}, "evaluate.part": part, **_KEYS[who]}
    return changed(config, values, where=f"{config.name} ({who})")


def _check_as_it_stands(job: Job, config: RunConfig) -> None:
    """A model that was trained with other settings is not the run as it stands."""
    trained = open_artifact(job.store, "train", config.run_name, job.scratch)
    if found := differences(trained.manifest, config):
        raise InputError(
            f"was made with other settings: {found[0]}",
            where=trained.url,
            do="run train, embed and evaluate again with --force",
        )
