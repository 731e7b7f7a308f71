"""The mode `train`: audited pairs in, `train/<name>/` out; torch comes after the checks."""

from __future__ import annotations

import logging
import os

from codex_forge.artifact import Artifact, Draft
from codex_forge.errors import ConfigError, GateNotMet, InputError
from codex_forge.job import Job
from codex_forge.model.locate import locate

log = logging.getLogger("codex_forge")


def run(job: Job) -> None:
    """Fine-tune the run's base model on its pairs, unless that is done.

    Raises:
        GateNotMet: the audit of these pairs failed.
        InputError: there are no pairs, or they are not audited.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "this version trains in one process", where="WORLD_SIZE", do="start it without torchrun"
        )
    config = job.config
    pairs = job.open("pairs", config.name)
    if config.train.require_audit:
        check_audit(job, pairs)
    base = locate(config.model)
    settings = {
        "seed": config.seed,
        "train": config.train.model_dump(mode="json", exclude={"require_audit"}),
        "model": config.model.model_dump(mode="json", exclude={"base", "revision", "device"}),
    }
    inputs = {"pairs": pairs.as_input(), "model": base.identity}
    recipe = job.recipe(config.name, settings, inputs)
    draft = job.begin(recipe)
    if isinstance(draft, Draft):
        from codex_forge.train.trainer import fine_tune

        fine_tune(config, pairs, base.folder, draft, job.scratch)
        log.info("wrote %s", job.store.url(recipe.folder))


def check_audit(job: Job, pairs: Artifact) -> None:
    """Refuse pairs that are not audited, or failed their audit."""
    audit = job.open("audit", job.config.name)
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
