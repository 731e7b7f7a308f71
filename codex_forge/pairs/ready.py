"""Ready-made data in a run: divided, and as questions, queries and scored pairs.

Beside a corpus, ready-made pairs are train, dev and test rows of their own. Without one, their
texts are the corpus and their queries the question bank.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from codex_forge.config.pairs import PairsConfig
from codex_forge.entities import normalise
from codex_forge.pairs.query import Positions, Query
from codex_forge.ready_made import ReadyMade, questions_of, split_ready
from codex_forge.records import PARTS, Question, ReadyPair, ScoredPair

_NOBODY: Positions = np.zeros(0, dtype=np.int32)


class Ready:
    """The ready-made records of a run, each in its part."""

    def __init__(self, made: ReadyMade | None, config: PairsConfig, seed: int, *, alone: bool):
        """`made` are all records, in the order of the files; `alone`: there is no corpus."""
        self.made, self.alone = made, alone
        self._split = split_ready(made, config.split, seed) if made else None
        self.has_scored = bool(made and made.scored)
        self.has_pairs = bool(made and made.pairs)

    def _records(self) -> Iterator[tuple[str, int, ReadyPair | ScoredPair]]:
        """Each record with its part and its group, read from the files."""
        if self.made is not None and self._split is not None:
            groups = self._split.group_of.tolist()
            yield from zip(self._split.parts, groups, self.made, strict=True)

    def _pairs(self) -> Iterator[tuple[str, int, ReadyPair]]:
        """Those that are pairs."""
        for part, group, record in self._records():
            if isinstance(record, ReadyPair):
                yield part, group, record

    def scored(self) -> Iterator[tuple[str, ScoredPair]]:
        """Scored and labelled pairs with their part."""
        for part, _, record in self._records():
            if isinstance(record, ScoredPair):
                yield part, record

    @cached_property
    def queries(self) -> dict[str, list[Query]]:
        """The pairs of each part as rows to be, when there is a corpus beside them."""
        found: dict[str, list[Query]] = {part: [] for part in PARTS}
        for part, _, pair in () if self.alone else self._pairs():
            found[part].append(_query_of(pair))
        return found

    def bank(self) -> tuple[dict[str, list[Question]], dict[str, str]]:
        """Questions by part, and the group of each, when there is no corpus."""
        pairs: dict[str, list[ReadyPair]] = {part: [] for part in PARTS}
        groups: dict[str, str] = {}
        for part, group, pair in self._pairs() if self.alone else ():
            pairs[part].append(pair)
            groups[pair.pair_id] = f"ready-{group}"
        parts = {part: questions_of(found) for part, found in pairs.items()}
        asked = (question.query_id for questions in parts.values() for question in questions)
        return parts, {query_id: groups[query_id] for query_id in asked}

    def negatives(self) -> dict[str, tuple[str, ...]]:
        """The negatives that the data gives, by the normalised text of the query."""
        found: dict[str, dict[str, None]] = {}
        for _, _, pair in self._pairs():
            if pair.negatives:
                found.setdefault(normalise(pair.query), {}).update(dict.fromkeys(pair.negatives))
        return {query: tuple(negatives) for query, negatives in found.items()}


def _query_of(pair: ReadyPair) -> Query:
    """A pair whose positive is no chunk of the corpus."""
    return Query(
        query_id=pair.pair_id,
        text=pair.query,
        topics=(),
        positives=(),
        answers=_NOBODY,
        source="ready",
        phase=pair.phase,
        positive_text=pair.positive,
        category=pair.category,
        domain=pair.domain,
        negatives=pair.negatives,
    )
