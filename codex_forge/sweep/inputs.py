"""What trials read of their run must be what the config says: else a trial's name tells untruths.

With `use` a run reads what another run has made, with that run's settings: the config need not
repeat those, unless a trial sets some of them otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from codex_forge.artifact import Artifact, Manifest
from codex_forge.config import RunConfig
from codex_forge.corpus import check_same_files, find_files
from codex_forge.errors import InputError, NotMade
from codex_forge.job import Job
from codex_forge.sweep.made_with import differences
from codex_forge.sweep.plan import Plan, Trial
from codex_forge.sweep.sharing import touches

_SECTIONS = {"pairs": ("corpus", "pairs"), "audit": ("corpus", "pairs", "model", "audit")}
"""Sections that say what an artifact of the run is."""
_ROLES = ("chunks", "indexes", "questions")


def reads(trial: Trial, kind: str) -> bool:
    """Whether a trial reads an artifact of its run, and by the config's own settings."""
    run, config = trial.run, trial.config
    own, read = (
        (run.use.pairs, config.pairs_name == run.pairs_name)
        if kind == "pairs"
        else (run.use.audit, config.train.require_audit and config.audit_name == run.audit_name)
    )
    return read and (own is None or touches(trial.overrides, *_SECTIONS[kind]))


def other_than_said(manifest: Manifest, run: RunConfig) -> str:
    """What an artifact of the run was made with that its config says otherwise; empty if nothing.

    It is the run's config that counts: a trial's own seed changes no pairs.
    """
    found = differences(manifest, run)
    told = "; ".join(found[:3])
    return f"{manifest.kind} of the run: made with other settings: {told}" if found else ""


def check_inputs(job: Job, plan: Plan) -> None:
    """Refuse to train on other pairs than the config tells.

    Raises:
        InputError: the pairs, or their audit, were made with other settings or from other files.
    """
    for kind, name in (("pairs", job.config.pairs_name), ("audit", job.config.audit_name)):
        if not _are_held(kind, job.config, plan.trials):
            continue
        found = job.open(kind, name)
        if said := other_than_said(found.manifest, job.config):
            raise InputError(
                f"{said}; trials would not be what they are called",
                where=found.url,
                do=f"run python -m jobs.{kind} --force and the modes after it, or change the "
                "config back",
            )
    check_files(job, plan.trials)


def _are_held(kind: str, config: RunConfig, trials: Sequence[Trial]) -> bool:
    """Whether the run's own settings matter: its own are read, or some trial differs from them."""
    own = config.use.pairs if kind == "pairs" else config.use.audit
    if own is None:
        return kind == "pairs" or any(reads(trial, kind) for trial in trials)
    return any(touches(trial.overrides, *_SECTIONS[kind]) for trial in trials)


def check_files(job: Job, trials: Sequence[Trial]) -> None:
    """Where the config names other corpus files than the pairs were made from, read them.

    Raises:
        InputError: they hold something else, or are not there.
    """
    if not any(reads(trial, "pairs") for trial in trials):
        return
    try:
        pairs = job.open("pairs", job.config.pairs_name)
    except NotMade:
        return
    if named := _named_otherwise(pairs, job.config):
        check_same_files(pairs, find_files(job.config.corpus).inputs(named), named)


def _named_otherwise(pairs: Artifact, config: RunConfig) -> tuple[str, ...]:
    """The files that the pairs were made from and that have another name in the config now."""
    before = pairs.manifest.config.get("corpus", {})
    now = config.corpus.model_dump(mode="json")
    return tuple(
        role
        for role in _ROLES
        if role in pairs.manifest.inputs and before.get(role) != now.get(role)
    )
