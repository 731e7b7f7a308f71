"""Ready-made data in a run: divided, and as questions, queries and scored pairs.

Beside a corpus, ready-made pairs are train, dev and test rows of their own. Without one, their
texts are the corpus and their queries the question bank.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codex_forge.config.pairs import PairsConfig
from codex_forge.entities import normalise
from codex_forge.pair_files import PARTS
from codex_forge.pairs.query import Positions, Query
from codex_forge.ready_made import ReadyMade, questions_of, split_ready
from codex_forge.records import Question, ReadyPair, ScoredPair

_NOBODY: Positions = np.zeros(0, dtype=np.int32)


class Ready:
    """The ready-made records of a run, each in its part."""

    def __init__(self, made: ReadyMade | None, config: PairsConfig, seed: int, *, alone: bool):
        """`alone`: there is no corpus."""
        self._made, self.alone = made, alone
        self._split = split_ready(made, config.split, seed) if made else None
        self.has_scored = bool(made and made.scored)
        self.has_pairs = bool(made and made.pairs)

    @property
    def made(self) -> ReadyMade | None:
        """All records, in the order of the files."""
        return self._made

    def _records(self) -> Iterator[tuple[str, int, ReadyPair | ScoredPair]]:
        """Each record with its part and its group."""
        if self._made is not None and self._split is not None:
            groups = self._split.group_of.tolist()
            yield from zip(self._split.parts, groups, self._made, strict=True)

    def scored(self) -> Iterator[tuple[str, ScoredPair]]:
        """Scored and labelled pairs with their part."""
        for part, _, record in self._records():
            if isinstance(record, ScoredPair):
                yield part, record

    def queries(self, part: str) -> Iterator[Query]:
        """The pairs of a part as rows to be, when there is a corpus beside them."""
        if self.alone:
            return
        for its, _, record in self._records():
            if its == part and isinstance(record, ReadyPair):
                yield Query(
                    query_id=record.pair_id,
                    text=record.query,
                    topics=(),
                    positives=(),
                    answers=_NOBODY,
                    source="ready",
                    phase=record.phase,
                    positive_text=record.positive,
                    category=record.category,
                    domain=record.domain,
                    negatives=record.negatives,
                )

    def bank(self) -> tuple[dict[str, list[Question]], dict[str, str]]:
        """Questions by part, and the group of each, when there is no corpus."""
        parts: dict[str, list[Question]] = {}
        group_of: dict[str, str] = {}
        if not self.alone:
            return parts, group_of
        for part in PARTS:
            parts[part] = questions_of(r for its, _, r in self._records() if its == part)
        names = {
            record.pair_id: f"ready-{group}"
            for _, group, record in self._records()
            if isinstance(record, ReadyPair)
        }
        for questions in parts.values():
            group_of.update((q.query_id, names[q.query_id]) for q in questions)
        return parts, group_of

    def negatives(self) -> dict[str, tuple[str, ...]]:
        """The negatives that the data gives, by the normalised text of the query."""
        found: dict[str, dict[str, None]] = {}
        for _, _, record in self._records():
            if isinstance(record, ReadyPair) and record.negatives:
                found.setdefault(normalise(record.query), {}).update(
                    dict.fromkeys(record.negatives)
                )
        return {query: tuple(negatives) for query, negatives in found.items()}
