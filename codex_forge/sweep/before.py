"""What was scored on test questions before the winner was: how much its own score there can tell.

Told by models, not by names alone: a trial that is the run as it stands once more was scored when
the run was, and so was one whose model was evaluated on all questions, or by another retriever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from codex_forge.artifact import Input, Manifest, open_artifact
from codex_forge.artifact.places import versions, whole_of
from codex_forge.errors import InputError
from codex_forge.job import Job
from codex_forge.pair_files import has_questions
from codex_forge.sweep.plan import Plan, Trial

_AT_ONCE = 16
_PAIRS = (
    "evaluating pairs measures dev and test pairs in one go, so that every trial has test values"
)


class Before(NamedTuple):
    """Scores on test that were there."""

    names: list[str]
    """Trials, without the winner, that were scored on test; also those of earlier leaderboards."""
    as_run: list[str]
    """Trials whose model is that of the run as it stands, which was scored on test."""
    known: str
    """Why the winner's score is not the first look at the test part; empty when it is."""

    @property
    def once(self) -> bool:
        """Whether the test part has judged the winner alone."""
        return not self.names and not self.known


class _Look(NamedTuple):
    """An evaluation that has seen test questions."""

    name: str
    run: str
    """Name in the config that it was made with."""
    model: str
    """Digest of the trained model; empty when it is of none, or of one that is gone."""


def before(job: Job, plan: Plan, winner: Trial | None) -> Before:
    """What was scored on test, on this store.

    The winner's own score there does not count; there is no winner while none was scored.
    """
    own = winner.evaluate_name.removesuffix("-dev") if winner else None
    looks = [look for look in _looks(job) if look.name != own]
    models = _models(job, plan, looks)
    found = {trial.name: _of(trial, looks, models) for trial in plan.trials}
    run = {look.name for look in looks if look.run == job.config.name}
    as_run = [name for name, seen in found.items() if run.intersection(seen)]
    others = {name for name, seen in found.items() if set(seen) - run} | _told_before(job)
    names = sorted(others - ({winner.name} if winner else set()), key=_place(plan))
    known = _known(job, found[winner.name], run) if winner else ""
    return Before(names, as_run, known)


def _known(job: Job, seen: Sequence[str], run: set[str]) -> str:
    if not has_questions(job.open("pairs", job.config.pairs_name)):
        return _PAIRS
    if mine := sorted(run.intersection(seen)):
        return (
            "the winner is the run as it stands once more, which was scored on test before "
            f"(evaluate/{mine[0]})"
        )
    return f"its model was scored on test before (evaluate/{sorted(seen)[0]})" if seen else ""


def _of(trial: Trial, looks: Sequence[_Look], models: Mapping[str, str]) -> list[str]:
    """Evaluations that have shown how a trial does on test."""
    mine = models.get(trial.name)
    return [look.name for look in looks if look.run == trial.name or (mine and look.model == mine)]


def _place(plan: Plan) -> Callable[[str], tuple[int, str]]:
    """The order of the plan; then those that are in it no longer."""
    places = {trial.name: trial.index for trial in plan.trials}
    return lambda name: (places.get(name, len(places)), name)


def _told_before(job: Job) -> set[str]:
    """What the leaderboard that is there names, and its winner, if that was scored on test.

    The manifest has both, and outlives a leaderboard whose files are damaged.
    """
    whole = whole_of(versions(job.store, f"sweep/{job.config.run_name}", strict=False))
    if not whole:
        return set()
    manifest = whole[0].manifest
    tested = manifest.summary.get("tested")
    return {*manifest.settings.get("scored_before", ()), *([tested] if tested else ())}


def _looks(job: Job) -> list[_Look]:
    folders = {path.split("/")[1] for path in job.store.list("evaluate")}
    with ThreadPoolExecutor(1 if job.store.is_local else _AT_ONCE) as pool:
        found = pool.map(lambda name: _manifest(job, "evaluate", name), sorted(folders))
        seen = [each for each in found if each and _part(each) != "dev"]
    return [_Look(each.name, each.config.get("name", ""), _model(job, each)) for each in seen]


def _part(manifest: Manifest) -> str:
    return str(manifest.settings["evaluate"]["part"])


def _manifest(job: Job, kind: str, name: str) -> Manifest | None:
    whole = whole_of(versions(job.store, f"{kind}/{name}", strict=False))
    return whole[0].manifest if whole else None


def _model(job: Job, manifest: Manifest) -> str:
    """Digest of the trained model that something was made with."""
    for given in manifest.inputs.values():
        if given.kind == "train":
            return given.digest
        if given.kind == "embed":
            return _model_of_vectors(job, given)
    return ""


def _model_of_vectors(job: Job, given: Input) -> str:
    """Vectors may have been made anew since they were searched: then nobody can tell."""
    try:
        found = open_artifact(job.store, "embed", given.name, job.scratch)
    except InputError:
        return ""
    return _model(job, found.manifest) if found.digest == given.digest else ""


def _models(job: Job, plan: Plan, looks: Sequence[_Look]) -> dict[str, str]:
    """The digest of each trial's model; of none when no model was scored on test."""
    if not any(look.model for look in looks):
        return {}
    with ThreadPoolExecutor(1 if job.store.is_local else _AT_ONCE) as pool:
        return dict(pool.map(lambda trial: (trial.name, _trained(job, trial)), plan.trials))


def _trained(job: Job, trial: Trial) -> str:
    try:
        return open_artifact(job.store, "train", trial.config.run_name, job.scratch).digest
    except InputError:
        return ""
