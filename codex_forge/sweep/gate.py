"""A sweep waits until the run as it stands has been compared with its baseline and has passed.

A grid of trials over data or a setup that does not work costs most and tells least.
"""

from __future__ import annotations

import re

from codex_forge.artifact import Artifact, Input
from codex_forge.compare.gate import check_gate
from codex_forge.config.sections import GateConfig
from codex_forge.errors import EXIT_GATE_NOT_MET, ConfigError, GateNotMet, InputError, NotMade
from codex_forge.job import Job
from codex_forge.jsonl import read_json
from codex_forge.sweep.made_with import differences
from codex_forge.sweep.scores import check_metric

_DO = "run the modes up to compare for this config, or give --no-gate to start all the same"
_BEATEN = "trials start once the run as it stands has beaten its baseline"
_PASSES = "trials start once the run as it stands passes sweep.gate"
_PROMISE = re.compile(rf"^(?:{re.escape(_BEATEN)}|{re.escape(_PASSES)})(?:, and|;|:) ")


class NotCompared(NotMade):
    """The comparison that a sweep waits for is not there."""

    exit_code = EXIT_GATE_NOT_MET


def check_baseline(job: Job) -> None:
    """Refuse to start before the run as it stands is known to work.

    Raises:
        NotCompared: it has not been compared with its baseline yet.
        GateNotMet: the comparison is of another state of the run, or did not pass `sweep.gate`.
    """
    config = job.config
    try:
        compared = job.open("compare", config.compare_name)
    except NotMade as error:
        raise NotCompared(
            f"{_BEATEN}, and {error.what}",
            where=error.where,
            do=_DO,
        ) from error
    _check_present(job, compared)
    report = read_json(compared.path("report.json"))
    check_metric(config.sweep.metric, report["metrics"] or report["pairs"]["measures"])
    gate = GateConfig(enforce=True, **config.sweep.gate.model_dump())
    try:
        check_gate(report, config.compare.model_copy(update={"gate": gate}), compared.url)
    except GateNotMet as error:
        raise GateNotMet(
            f"{_PASSES}: {error.what}",
            where=error.where,
            do="see report.html there, mend the run or loosen sweep.gate; --no-gate starts all the "
            "same",
        ) from error


def unmet(job: Job) -> str:
    """What the run as it stands lacks for `sweep.gate`, in words that are the same on every store;
    empty when it has passed.

    Raises:
        ConfigError: the gate names no tier.
    """
    check_tiers(job)
    try:
        check_baseline(job)
    except (GateNotMet, InputError, ConfigError) as error:
        return _PROMISE.sub("", error.what)
    return ""


def check_tiers(job: Job) -> None:
    """Refuse a gate that names no tier, whether or not it is asked.

    Raises:
        ConfigError: names those that there are.
    """
    gate, compare = job.config.sweep.gate, job.config.compare
    given = (("min_tier", compare.tiers), ("min_measure_tier", compare.measure_tiers))
    for key, tiers in given:
        wanted, names = getattr(gate, key), [tier.name for tier in tiers]
        if wanted is not None and wanted not in names:
            raise ConfigError(
                f"{wanted!r} is not one of {', '.join(names)}",
                where=f"sweep.gate.{key}",
                do="name one of them",
            )


def _check_present(job: Job, compared: Artifact) -> None:
    """The comparison must be of the pairs and settings that are there now."""
    pairs = job.open("pairs", job.config.pairs_name)
    split, inputs = job.config.pairs.split, compared.manifest.inputs
    own = inputs.get(f"candidate-fold{split.fold}" if split.folds else "candidate")
    chain = _chain(job, compared, own if own and own.kind == "evaluate" else None)
    if pairs.digest not in [a.manifest.inputs["pairs"].digest for a in chain if _reads_pairs(a)]:
        raise _outdated(compared, "it was made from other pairs than are there now")
    for artifact in (each for each in chain if each.manifest.kind != "evaluate"):
        if said := differences(artifact.manifest, job.config):
            which = f"{artifact.manifest.kind} {artifact.manifest.name}"
            raise _outdated(compared, f"in {which}, {said[0]}")


def _reads_pairs(artifact: Artifact) -> bool:
    return "pairs" in artifact.manifest.inputs


def _chain(job: Job, compared: Artifact, given: Input | None) -> list[Artifact]:
    """What the candidate was made from: evaluate, embed and train artifacts."""
    found: list[Artifact] = []
    while given is not None:
        artifact = job.open(given.kind, given.name)
        if artifact.digest != given.digest:
            raise _outdated(compared, f"{given.kind} {given.name} was made again since")
        found.append(artifact)
        inputs = artifact.manifest.inputs.values()
        given = next((each for each in inputs if each.kind in ("embed", "train")), None)
    return found


def _outdated(compared: Artifact, said: str) -> GateNotMet:
    return GateNotMet(
        f"{_BEATEN}; {said}",
        where=compared.url,
        do=_DO,
    )
