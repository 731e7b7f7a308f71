"""Which chunks answer a question, and how well: by its `relevant`, or by topic coverage.

Coverage of a chunk = expected topics that it names, in text or mentions, under any alias, divided
by all expected topics of the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from codex_forge.artifact import Work
from codex_forge.corpus import Corpus
from codex_forge.entities import EntityIndex, TopicMatcher
from codex_forge.jsonl import read_jsonl, write_jsonl
from codex_forge.progress import progress
from codex_forge.records import Chunk, Qrels, Question

MAX_GRADE = 3
_BLOCK = 20_000
"""Chunks matched before what was found is committed."""


class Judged(NamedTuple):
    """A chunk that answers a question."""

    position: int
    grade: int
    coverage: float


class Judge:
    """Judges chunks of one corpus for any question over a known set of topics."""

    def __init__(
        self, corpus: Corpus, index: EntityIndex, topics: set[str], minimum: float, work: Work
    ) -> None:
        """One pass over the corpus, committed in blocks; `minimum` is the least coverage."""
        self._chunks = corpus.chunks
        self._by_name = corpus.chunks_by_name()
        self._minimum = minimum
        self._positions: dict[str, list[int]] = {topic: [] for topic in topics}
        matcher = TopicMatcher(topics, index)

        def make(path: Path, block: Sequence[Chunk]) -> None:
            covered = ({"topics": list(matcher.covered(chunk))} for chunk in block)
            write_jsonl(path, progress(covered, "chunks matched", len(block)))

        position = 0
        with closing(work.in_blocks("topics", corpus.chunks, _BLOCK, make, ".jsonl")) as blocks:
            for line in (line for block in blocks for line in read_jsonl(block.local)):
                for topic in line["topics"]:
                    self._positions[topic].append(position)
                position += 1
        self._holders = {topic: frozenset(found) for topic, found in self._positions.items()}

    def holders(self, topic: str) -> frozenset[int]:
        """Positions of the chunks that name the topic."""
        return self._holders.get(topic, frozenset())

    def coverage(self, topics: Sequence[str]) -> dict[int, int]:
        """Position -> how many of `topics` the chunk names, for chunks that name any."""
        covered: dict[int, int] = {}
        for topic in topics:
            for position in self._positions.get(topic, ()):
                covered[position] = covered.get(position, 0) + 1
        return covered

    def answers(self, question: Question) -> list[Judged]:
        """The chunks that answer the question, best first.

        With `relevant` they are the chunks of those files or ids, each with grade 1. Otherwise
        those that cover enough topics, graded 1 to 3 by the share that they cover.
        """
        topics = question.expected_topics
        covered = self.coverage(topics)
        if question.relevant:
            named = {p for name in question.relevant for p in self._by_name.get(name, [])}
            judged = [Judged(p, 1, covered.get(p, 0) / len(topics)) for p in named]
        else:
            judged = [
                Judged(p, max(1, MAX_GRADE * count // len(topics)), count / len(topics))
                for p, count in covered.items()
                if count >= self._minimum * len(topics) - 1e-9
            ]
        allowed = [j for j in judged if in_time(self._chunks[j.position], question.temporal_limit)]
        return sorted(allowed, key=lambda j: (-j.coverage, self._chunks[j.position].chunk_id))


def in_time(chunk: Chunk, limit: float | None) -> bool:
    """Whether a chunk may be known at the time limit; chunks without a time always may."""
    return limit is None or chunk.temporal_order is None or chunk.temporal_order <= limit


def qrels_of(judged: dict[str, list[Judged]], chunks: Sequence[Chunk]) -> Qrels:
    """Judgements as qrels."""
    return {
        query: {chunks[j.position].chunk_id: j.grade for j in answers}
        for query, answers in judged.items()
    }
