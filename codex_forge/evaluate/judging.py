"""What each question scored, and the means over all of them and over slices."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from codex_forge.config.sections import EvaluateConfig
from codex_forge.corpus import Corpus
from codex_forge.entities import EntityIndex, TopicMatcher
from codex_forge.evaluate.bank import Bank
from codex_forge.metrics import NOT_GIVEN, ir_measures, mean, rubric, slice_value
from codex_forge.records import Chunk, Question, Run

log = logging.getLogger("codex_forge")

Row = dict[str, Any]

_SNIPPET = 400


def judge(bank: Bank, corpus: Corpus, run: Run, config: EvaluateConfig) -> Iterator[Row]:
    """One row a question: the record, its measures, and what was retrieved."""
    measures = ir_measures(bank.qrels, run, config.k)
    covered = _Covered(corpus, bank.questions)
    chunks = corpus.chunks
    for record, question in zip(bank.records, bank.questions, strict=True):
        best = run[question.query_id][: config.rubric_k]
        found = [chunks[chunks.position(chunk_id)] for chunk_id, _ in best]
        covers = [covered.topics(chunk, question.expected_topics) for chunk in found]
        grades = bank.qrels.get(question.query_id, {})
        relevant = [grades.get(chunk.chunk_id, 0) > 0 for chunk in found]
        score = rubric(question.expected_topics, covers, relevant)
        yield {
            **record,
            "measures": {"rubric": score, **measures[question.query_id]},
            "retrieved": [
                {
                    "rank": rank,
                    "chunk_id": chunk.chunk_id,
                    "filename": chunk.filename,
                    "score": round(score, 6),
                    "relevant": answers,
                    "covers": topics,
                    "text": chunk.text[:_SNIPPET],
                }
                for rank, (chunk, (_, score), topics, answers) in enumerate(
                    zip(found, best, covers, relevant, strict=True), start=1
                )
            ],
        }


class _Covered:
    """Which topics of a question a chunk covers; each chunk is matched once."""

    def __init__(self, corpus: Corpus, questions: Sequence[Question]) -> None:
        topics = {topic for question in questions for topic in question.expected_topics}
        self._matcher = TopicMatcher(topics, EntityIndex(corpus.entities))
        self._known: dict[str, dict[str, str]] = {}

    def topics(self, chunk: Chunk, expected: Sequence[str]) -> dict[str, str]:
        """Topic -> the name under which the chunk covers it."""
        if chunk.chunk_id not in self._known:
            self._known[chunk.chunk_id] = self._matcher.covered(chunk)
        covered = self._known[chunk.chunk_id]
        return {topic: covered[topic] for topic in expected if topic in covered}


def means(rows: Sequence[Row]) -> dict[str, float]:
    """Mean of every measure; none of no rows."""
    names = rows[0]["measures"] if rows else ()
    return {name: round(mean([row["measures"][name] for row in rows]), 6) for name in names}


def slices(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    """Mean measures by the values of each field."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(slice_value(row.get(name)), []).append(row)
        if groups.keys() <= {NOT_GIVEN}:
            log.warning("  no question has the field %s (evaluate.slices)", name)
            continue
        found[name] = {
            value: {"questions": len(group), "metrics": means(group)}
            for value, group in sorted(groups.items())
        }
    return found
