"""The two sides of a comparison: an evaluate artifact each, or with folds one a fold and side.

Cross-fitting: every question is scored by the model of the fold that held it out, so K evaluate
artifacts together are one result over the whole bank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codex_forge.artifact import Artifact, Input, hash_json
from codex_forge.compare.lineage import check_folds
from codex_forge.config.sections import FOLD
from codex_forge.errors import InputError
from codex_forge.job import Job
from codex_forge.jsonl import read_json, read_jsonl

Row = dict[str, Any]

_SAME = ("part", "rubric_k", "k", "depth")


@dataclass(frozen=True)
class Side:
    """What one side scored on every question."""

    name: str
    artifacts: tuple[Artifact, ...]
    """One, or one a fold in their order."""
    folds: int
    """0 without cross-fitting."""

    @property
    def label(self) -> str:
        """The name that people read."""
        if not self.folds:
            return self.name
        return f"{self.name.replace(f'-fold{FOLD}', '')} ({self.folds} folds)"

    def rows(self) -> list[Row]:
        """One row a question; with folds each says in `fold` by which model it was scored."""
        rows: list[Row] = []
        for fold, artifact in enumerate(self.artifacts):
            extra = {"fold": fold} if self.folds else {}
            rows += ({**r, **extra} for r in read_jsonl(artifact.path("per_question.jsonl")))
        return rows

    def reports(self) -> list[dict[str, Any]]:
        """The report of each artifact."""
        return [read_json(artifact.path("report.json")) for artifact in self.artifacts]

    def facts(self) -> dict[str, Any]:
        """What the side is."""
        manifests = [artifact.manifest for artifact in self.artifacts]
        reports = self.reports()
        return {
            "name": self.label,
            "fingerprint": _one([m.fingerprint for m in manifests]),
            "digest": _one([m.digest for m in manifests]),
            "retriever": reports[0]["retriever"],
            "model": ", ".join(dict.fromkeys(report["model"] for report in reports)),
        }

    def inputs(self, role: str) -> dict[str, Input]:
        """What a comparison records of it."""
        if not self.folds:
            return {role: self.artifacts[0].as_input()}
        return {f"{role}-fold{i}": found.as_input() for i, found in enumerate(self.artifacts)}


def _one(hashes: Sequence[str]) -> str:
    return hashes[0] if len(hashes) == 1 else hash_json(list(hashes))


def open_sides(job: Job) -> tuple[Side, Side]:
    """Open baseline and candidate, and check that they answered the same held-out questions.

    Raises:
        InputError: some are not there (all are named), or they cannot be compared.
    """
    config = job.config
    folds = config.pairs.split.folds
    names = {"baseline": config.baseline_name, "candidate": config.candidate_name}
    if folds:
        _check_there(job, names, folds)
    baseline, candidate = (Side(n, _open(job, n, folds), folds) for n in names.values())
    for before, after in zip(baseline.artifacts, candidate.artifacts, strict=True):
        _check_same_questions(before, after)
    if folds:
        for side in (baseline, candidate):
            check_folds(job, side.artifacts)
        _check_each_once(candidate)
    return baseline, candidate


def _names(name: str, folds: int) -> list[str]:
    return [name.replace(FOLD, str(fold)) for fold in range(folds)] if folds else [name]


def _open(job: Job, name: str, folds: int) -> tuple[Artifact, ...]:
    return tuple(_open_evaluated(job, each) for each in _names(name, folds))


def _open_evaluated(job: Job, name: str) -> Artifact:
    """Open an evaluate artifact; when it is not there, say which commands make it."""
    made_by = {
        f"{job.config.name}-base": "jobs.embed and then jobs.evaluate with embed.model=base",
        f"{job.config.name}-bm25": "jobs.evaluate with evaluate.retriever=bm25",
    }
    try:
        return job.open("evaluate", name)
    except InputError as error:
        if name not in made_by:
            raise
        raise InputError(error.what, where=error.where, do=f"run {made_by[name]}") from error


def _check_there(job: Job, names: dict[str, str], folds: int) -> None:
    """Name all that is missing at once: each is the work of a fold."""
    missing: dict[int, list[str]] = {}
    for name in names.values():
        for fold, each in enumerate(_names(name, folds)):
            if not any(job.store.list(f"evaluate/{each}")):
                missing.setdefault(fold, []).append(each)
    if missing:
        told = [name for _, found in sorted(missing.items()) for name in found]
        raise InputError(
            f"cross-fitting needs all {folds} folds, and there is no evaluate artifact "
            + ", ".join(map(repr, told)),
            where=job.store.url("evaluate"),
            do=f"run make crossfit CONFIG=... FOLDS={folds}, or all modes with "
            f"pairs.split.folds={folds} and pairs.split.fold="
            + " or ".join(map(str, sorted(missing))),
        )


def _check_same_questions(baseline: Artifact, candidate: Artifact) -> None:
    """Both must have answered the same held-out questions under the same rubric."""
    settings = [a.manifest.settings["evaluate"] for a in (baseline, candidate)]
    differing = [key for key in _SAME if settings[0][key] != settings[1][key]]
    where = f"{baseline.url} and {candidate.url}"
    if differing:
        raise InputError(
            f"baseline and candidate differ in evaluate.{differing[0]}",
            where=where,
            do="evaluate both with the same settings",
        )
    if settings[0]["part"] == "all":
        raise InputError(
            "evaluations of all questions hold questions that were trained on: no verdict, tier "
            "or gate is given on them",
            where=where,
            do="name evaluations of the test part; the number on all questions is shown beside",
        )
    if baseline.manifest.inputs["pairs"].digest != candidate.manifest.inputs["pairs"].digest:
        raise InputError(
            "baseline and candidate were evaluated on different question banks",
            where=where,
            do="evaluate both on the same pairs artifact",
        )


def _check_each_once(side: Side) -> None:
    seen: dict[str, int] = {}
    for row in side.rows():
        if (other := seen.setdefault(row["query_id"], row["fold"])) != row["fold"]:
            raise InputError(
                f"question {row['query_id']} is in folds {other} and {row['fold']}",
                where=side.artifacts[row["fold"]].url,
                do="make all folds from the same files, with --force",
            )
