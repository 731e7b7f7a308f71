"""What the audit of the candidate's pairs said about texts that the model does not read whole."""

from __future__ import annotations

from typing import Any

from codex_forge.artifact import Artifact
from codex_forge.compare.sides import Side
from codex_forge.errors import InputError
from codex_forge.job import Job
from codex_forge.jsonl import read_json


def find_audit(job: Job, candidate: Side) -> Artifact | None:
    """The audit of the pairs that the candidate was evaluated on (of the first fold); None when
    there is none, or it is of other pairs.
    """
    pairs = candidate.artifacts[0].manifest.inputs["pairs"]
    try:
        found = job.open("audit", pairs.name)
    except InputError:  # none, or one in the making
        return None
    given = found.manifest.inputs.get("pairs")
    return found if given is not None and given.digest == pairs.digest else None


def cut_texts(audit: Artifact | None) -> dict[str, Any] | None:
    """How many texts of each kind are cut, and how many pairs lose what they expect."""
    if audit is None:
        return None
    report = read_json(audit.path("report.json"))
    return {
        "limit": report["limit"],
        "lost": report["evidence"]["lost"],
        "kinds": {
            kind: {"texts": found["texts"], "truncated": found["truncated"]}
            for kind, found in report["lengths"].items()
        },
    }
