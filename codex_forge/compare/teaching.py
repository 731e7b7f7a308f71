"""The training pairs that taught a candidate's model, for the questions that a report shows."""

from __future__ import annotations

from typing import Any

from codex_forge.compare.lineage import ancestors
from codex_forge.compare.ranks import risen
from codex_forge.compare.sides import Row, Side
from codex_forge.compare.taught import Taught
from codex_forge.job import Job


class Teaching:
    """What taught each model of a side; nothing for a model that this store did not train."""

    def __init__(self, job: Job, side: Side) -> None:
        """Open what the models were trained on."""
        self._taught = [_taught(job, side, fold) for fold in range(len(side.artifacts))]

    def of(self, before: Row, after: Row) -> list[dict[str, Any]]:
        """The train pairs nearest to one question, with what the sides retrieved for it."""
        taught = self._taught[after.get("fold", 0)]
        if taught is None:
            return []
        up = risen(before["retrieved"], after["retrieved"])
        return taught.of(after["question"], up, after["expected_topics"])


def _taught(job: Job, side: Side, fold: int) -> Taught | None:
    """None when the fold's model is no trained one, or learned from no pairs."""
    made_from = {a.manifest.kind: a for a in ancestors(job, [side.artifacts[fold]])}
    trained, pairs = made_from.get("train"), made_from.get("pairs")
    if trained is None or pairs is None:
        return None
    return Taught(pairs, job.scratch, trained.manifest.settings.get("train"))
