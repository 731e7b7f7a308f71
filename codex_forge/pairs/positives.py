"""Which chunks answer a question, and how well: by its `relevant`, or by topic coverage.

Coverage of a chunk = expected topics that it names, in text or mentions, under any alias, divided
by all expected topics of the question.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codex_forge.artifact import Work
from codex_forge.config.pairs import PairsConfig
from codex_forge.corpus import Corpus
from codex_forge.entities import EntityIndex, TopicMatcher
from codex_forge.jsonl import read_jsonl, write_jsonl
from codex_forge.pairs.query import Positions, positions_of
from codex_forge.progress import progress
from codex_forge.records import Chunk, Qrels, Question

MAX_GRADE = 3
_BLOCK = 20_000
"""Chunks matched before what was found is committed."""
_NEVER_GENERIC = 3
"""A topic that so few chunks name is not generic, however small the corpus."""
_NONE: Positions = np.zeros(0, dtype=np.int32)


class Answers(NamedTuple):
    """The chunks that answer one question, best first, as parallel arrays."""

    positions: Positions
    coverage: NDArray[np.float32]
    grades: NDArray[np.int8]

    def best(self, most: int) -> tuple[int, ...]:
        """Those that cover the most topics, at most so many: half an answer is not trained on."""
        whole = self.positions[:most][self.coverage[:most] == self.coverage[:1]]
        return tuple(whole.tolist())


class Judge:
    """Judges chunks of one corpus for any question over a known set of topics."""

    def __init__(
        self,
        corpus: Corpus,
        index: EntityIndex,
        topics: Iterable[str],
        config: PairsConfig,
        work: Work,
    ) -> None:
        """One pass over the corpus, committed in blocks."""
        self._chunks = corpus.chunks
        self.minimum = config.min_topic_coverage
        """Share of its topics that a chunk covers which answers a question."""
        self._telling = max(
            _NEVER_GENERIC, config.negatives.generic_topic_share * len(corpus.chunks)
        )
        names = sorted(set(topics))
        matcher = TopicMatcher(names, index)
        number_of = {name: number for number, name in enumerate(names)}

        def make(path: Path, block: Sequence[Chunk]) -> None:
            covered = ({"t": [number_of[t] for t in matcher.covered(chunk)]} for chunk in block)
            write_jsonl(path, progress(covered, "chunks matched", len(block)))

        found = [array("i") for _ in names]
        position = 0
        with closing(work.in_blocks("topics", corpus.chunks, _BLOCK, make, ".jsonl")) as blocks:
            for line in (line for block in blocks for line in read_jsonl(block.local)):
                for number in line["t"]:
                    found[number].append(position)
                position += 1
        self._holders = {
            name: np.frombuffer(positions, dtype=np.int32)
            for name, positions in zip(names, found, strict=True)
            if positions
        }

    def holders(self, topic: str) -> Positions:
        """Positions of the chunks that name the topic."""
        return self._holders.get(topic, _NONE)

    def is_generic(self, topic: str) -> bool:
        """Whether so many chunks name the topic that naming it tells nothing."""
        return len(self.holders(topic)) > self._telling

    def covering(self, topics: Sequence[str]) -> tuple[Positions, Positions]:
        """Positions of the chunks that name any of `topics`, and how many of them each names."""
        held = [self.holders(topic) for topic in topics]
        positions, counts = np.unique(np.concatenate([_NONE, *held]), return_counts=True)
        return positions, counts.astype(np.int32)

    def answers(self, question: Question) -> Answers:
        """The chunks that answer the question, best first; equal ones in the order of their ids.

        With `relevant` they are the chunks of those files or ids, each with grade 1. Otherwise
        those that cover enough topics, graded 1 to 3 by the share that they cover.
        """
        topics, chunks = question.expected_topics, self._chunks
        positions, counts = self.covering(topics)
        if question.relevant:
            named = positions_of(np.concatenate([chunks.named(n) for n in question.relevant]))
            covered = np.zeros(len(named), dtype=np.int32)
            both = np.isin(named, positions)
            covered[both] = counts[np.searchsorted(positions, named[both])]
            positions, counts, grades = named, covered, np.ones(len(named), dtype=np.int8)
        else:
            enough = counts >= self.minimum * len(topics) - 1e-9
            positions, counts = positions[enough], counts[enough]
            grades = np.maximum(1, MAX_GRADE * counts // max(1, len(topics))).astype(np.int8)
        allowed = in_time(chunks.times[positions], question.temporal_limit)
        positions, counts, grades = positions[allowed], counts[allowed], grades[allowed]
        coverage = (counts / max(1, len(topics))).astype(np.float32)
        order = np.lexsort((chunks.ids[positions], -coverage))
        return Answers(positions[order], coverage[order], grades[order])


def in_time(times: NDArray[np.float64], limit: float | None) -> NDArray[np.bool_]:
    """Which chunks may be known at the limit; one without a time (NaN) always may."""
    if limit is None:
        return np.ones(len(times), dtype=np.bool_)
    return ~(times > limit)


def qrels_of(judged: Mapping[str, Answers], corpus: Corpus) -> Qrels:
    """Judgements as qrels."""
    return {
        query: {
            corpus.chunks.chunk_id(p): g
            for p, g in zip(found.positions.tolist(), found.grades.tolist(), strict=True)
        }
        for query, found in judged.items()
    }
