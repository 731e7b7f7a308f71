"""The score on all questions, trained ones too: shown beside the held-out number, never judged."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from codex_forge.artifact import Artifact
from codex_forge.compare.asked import MEASURE
from codex_forge.compare.sides import Side
from codex_forge.job import Job
from codex_forge.jsonl import read_json

log = logging.getLogger("codex_forge")

_SAME = ("pairs", "embed")


def find_all(job: Job, sides: Mapping[str, Side]) -> dict[str, Artifact]:
    """The evaluations of all questions by the same models; none unless both sides have theirs.

    With folds each model has seen other questions, so there are none.
    """
    found: dict[str, Artifact] = {}
    for role, side in sides.items():
        name = f"{side.name}-all"
        if side.folds or not any(job.store.list(f"evaluate/{name}")):
            return {}
        found[role] = job.open("evaluate", name)
        if not _same(found[role], side.artifacts[0]):
            log.warning(
                "  %s is of other models, questions or settings: left out (evaluate again with "
                "evaluate.part=all --force)",
                name,
            )
            return {}
    return found


def _same(everything: Artifact, judged: Artifact) -> bool:
    """Whether two evaluations differ in the part alone."""
    settings = [{**a.manifest.settings["evaluate"], "part": ""} for a in (everything, judged)]
    digests = [
        [a.manifest.inputs[role].digest for role in _SAME if role in a.manifest.inputs]
        for a in (everything, judged)
    ]
    return settings[0] == settings[1] and digests[0] == digests[1]


def all_questions(found: Mapping[str, Artifact]) -> dict[str, Any] | None:
    """The rubric of both sides on all questions and on each part, without any verdict."""
    if not found:
        return None
    reports = {role: read_json(artifact.path("report.json")) for role, artifact in found.items()}
    parts = reports["candidate"]["slices"]["part"]
    return {
        "questions": reports["candidate"]["questions"],
        **_numbers(reports),
        "parts": {
            part: {
                "questions": parts[part]["questions"],
                **_numbers({role: r["slices"]["part"][part] for role, r in reports.items()}),
            }
            for part in parts
        },
    }


def _numbers(scored: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    values: dict[str, float] = {role: found["metrics"][MEASURE] for role, found in scored.items()}
    return {**values, "difference": round(values["candidate"] - values["baseline"], 6)}
