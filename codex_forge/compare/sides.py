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
from codex_forge.compare.presence import check_there, names_of
from codex_forge.config import RunConfig
from codex_forge.config.sections import FOLD
from codex_forge.errors import ConfigError, InputError
from codex_forge.job import Job
from codex_forge.jsonl import read_json, read_jsonl

Row = dict[str, Any]

_SAME = ("part", "rubric_k", "k", "depth")
_QUESTIONS, _PAIRS = "per_question.jsonl", "per_pair.jsonl"


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
            if _QUESTIONS in artifact.files:  # scored pairs alone ask nothing
                rows += ({**r, **extra} for r in read_jsonl(artifact.path(_QUESTIONS)))
        return rows

    def pair_rows(self) -> list[Row]:
        """One row a held-out scored pair; none with folds, as cosines of several models are not
        on one scale.
        """
        if self.folds or _PAIRS not in self.artifacts[0].files:
            return []
        part = self.artifacts[0].manifest.settings["evaluate"]["part"]
        rows = read_jsonl(self.artifacts[0].path(_PAIRS))
        return [row for row in rows if row["part"] == part]

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
    config, folds = job.config, job.config.pairs.split.folds
    names = (config.baseline_name, config.candidate_name)
    check_there(job, names)
    baseline, candidate = (Side(name, _open(job, name, folds), folds) for name in names)
    _check_comparable(job, baseline, candidate, "candidate")
    if folds:
        check_folds(job, baseline.artifacts)
        _check_each_once(candidate)
    return baseline, candidate


def other_names(config: RunConfig) -> list[str]:
    """The names of `compare.others` that are neither the baseline's nor the candidate's, each once.

    Raises:
        ConfigError: with folds one does not hold `{fold}`, or without folds one does.
    """
    folds = config.pairs.split.folds
    judged = (config.baseline_name, config.candidate_name)
    names = [name for name in dict.fromkeys(config.other_names) if name not in judged]
    for name in names:
        if bool(folds) != (FOLD in name):
            must = "must" if folds else "can, without pairs.split.folds, not"
            raise ConfigError(f"compare.others {name!r} {must} hold {FOLD}")
    return names


def open_others(job: Job, baseline: Side) -> tuple[Side, ...]:
    """Open what is shown beside, and check that it answered the same questions as the baseline.

    Raises:
        ConfigError: see `other_names`.
        InputError: some are not there (all are named), or they cannot be compared.
    """
    names = other_names(job.config)
    check_there(job, names)
    found = tuple(Side(name, _open(job, name, baseline.folds), baseline.folds) for name in names)
    for side in found:
        _check_comparable(job, baseline, side, side.label)
    return found


def _check_comparable(job: Job, baseline: Side, side: Side, who: str) -> None:
    for before, after in zip(baseline.artifacts, side.artifacts, strict=True):
        _check_same_questions(before, after, who)
    if side.folds:
        check_folds(job, side.artifacts)


def _open(job: Job, name: str, folds: int) -> tuple[Artifact, ...]:
    return tuple(job.open("evaluate", each) for each in names_of(name, folds))


def _check_same_questions(baseline: Artifact, other: Artifact, who: str) -> None:
    """Both must have answered the same held-out questions under the same rubric."""
    settings = [a.manifest.settings["evaluate"] for a in (baseline, other)]
    differing = [key for key in _SAME if settings[0][key] != settings[1][key]]
    where = f"{baseline.url} and {other.url}"
    if differing:
        raise InputError(
            f"baseline and {who} differ in evaluate.{differing[0]}",
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
    if baseline.manifest.inputs["pairs"].digest != other.manifest.inputs["pairs"].digest:
        raise InputError(
            f"baseline and {who} were evaluated on different question banks",
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
