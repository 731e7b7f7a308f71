"""The mode `train`: audited pairs in, `train/<name>/` out; torch comes after the checks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from codex_forge.artifact import Artifact, Checkpoints, Draft, Recipe
from codex_forge.config.train import StageConfig, TrainConfig
from codex_forge.errors import (
    Damaged,
    ForgeError,
    GateNotMet,
    InputError,
    NotFound,
    Preempted,
    TryAgain,
)
from codex_forge.job import Job
from codex_forge.model.locate import locate
from codex_forge.stopping import stop
from codex_forge.train import ranks
from codex_forge.train.data.needs import check
from codex_forge.train.data.teachers import find_teachers
from codex_forge.train.report.reporting import check_report_to

log = logging.getLogger("codex_forge")


_OPERATION = {
    "frozen_cache_gib",
    "report_to",
    "require_audit",
    "save_minutes",
    "save_steps",
    "save_total_limit",
}
"""Keys that change how a run is operated, not what comes out of it."""


_STAGE_KEYS = {"stages", *StageConfig.model_fields}


def run(job: Job) -> None:
    """Fine-tune the run's base model on its pairs, unless that is done.

    Raises:
        GateNotMet: the audit of these pairs failed.
        InputError: there are no pairs, or they are not audited.
        Preempted: a signal came; the run goes on from its checkpoint when it is started again.
    """
    config = job.config
    pairs = job.open("pairs", config.pairs_name)
    for stage in config.train.resolved_stages:
        check(stage, pairs)
    check_report_to(config.train)
    if config.train.require_audit:
        check_audit(job, pairs)
    base = locate(config.model)
    settings = {
        "seed": config.seed,
        "train": _settings(config.train),
        "model": config.model.model_dump(mode="json", exclude={"base", "revision", "device"}),
        "processes": ranks.world_size(),
    }
    inputs = {"pairs": pairs.as_input(), "model": base.identity}
    for number, teacher in enumerate(find_teachers(config)):
        inputs[f"teacher-{number}"] = teacher.identity
    if job.plan:
        from codex_forge.train.planning.probe import plan_training

        plan_training(job, pairs, base.folder)
        return
    recipe = job.recipe(config.run_name, settings, inputs)
    if ranks.rank() > 0:
        log.setLevel(logging.WARNING)
    with ranks.together():
        start = _begin(job, recipe)
        if any(ranks.any_of(stop.requested)):
            raise Preempted("stopped before the first step")
        if start is not None:
            _train(job, pairs, base.folder, start)


def _settings(train: TrainConfig) -> dict[str, Any]:
    """What determines a training, by the keys that a config has for it."""
    found = train.model_dump(mode="json", exclude=_OPERATION | _STAGE_KEYS)
    stages = [stage.model_dump(mode="json") for stage in train.resolved_stages]
    if not train.stages:
        return {**found, **stages[0]}
    return {**found, "stages": {str(number): stage for number, stage in enumerate(stages, 1)}}


class _Start(NamedTuple):
    """What a rank trains with: the draft is rank 0's."""

    draft: Draft | None
    checkpoint: Path | None


def _train(job: Job, pairs: Artifact, base: Path, start: _Start) -> None:
    if start.checkpoint is not None:
        log.info("  going on from a checkpoint: %s", start.checkpoint.name)
    from codex_forge.train.trainer import fine_tune

    fine_tune(job, pairs, base, start.draft, start.checkpoint)
    # A rank that ended well could not be started again, should the first fail to publish.
    ranks.from_first(None)
    if start.draft is not None:
        log.info("wrote %s", start.draft.url)


def _begin(job: Job, recipe: Recipe) -> _Start | None:
    """Rank 0 begins the artifact and finds the checkpoint; all others follow it, or end as it."""
    if ranks.rank() > 0:
        return _follow(job, ranks.from_first(None))
    try:
        state = job.begin(recipe)
        found = None
        if isinstance(state, Draft):
            checkpoints = state.work.checkpoints(job.config.train.save_total_limit)
            found = checkpoints.latest(job.scratch / "resume")
    except (ForgeError, Preempted) as error:
        ranks.from_first({"exit_code": error.exit_code, "said": str(error)})
        raise
    if not isinstance(state, Draft):
        ranks.from_first({})
        return None
    ranks.from_first({"checkpoints": state.work.checkpoints_folder, "found": found and found[0]})
    return _Start(state, found[1] if found else None)


def _follow(job: Job, told: dict[str, Any]) -> _Start | None:
    """What rank 0 told to do."""
    if "exit_code" in told:
        error = ForgeError(f"rank 0 ended: {told['said']}")
        error.exit_code = told["exit_code"]
        raise error
    if not told:
        return None
    if told["found"] is None:
        return _Start(None, None)
    local = job.scratch / "resume"
    try:
        Checkpoints(job.store, told["checkpoints"], None, 1).fetch(told["found"], local)
    except (NotFound, Damaged) as error:  # rank 0 has read it; it will choose again
        raise TryAgain(error.what, where=error.where, do="start all ranks again") from error
    return _Start(None, local)


def check_audit(job: Job, pairs: Artifact) -> None:
    """Refuse pairs that are not audited, or failed their audit."""
    audit = job.open("audit", job.config.audit_name)
    if audit.manifest.inputs["pairs"].digest != pairs.digest:
        raise InputError(
            "the audit is of other pairs than these", where=audit.url, do="run jobs.audit --force"
        )
    if audit.manifest.summary["verdict"] != "pass":
        raise GateNotMet(
            "the audit of these pairs failed",
            where=audit.url,
            do="see its report.json; train.require_audit=false trains all the same",
        )
