"""Retrievers behind one form: queries with their time limits in, the best chunks of each out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from codex_forge.records import Question, Run

_WARM_UP = 5
_FEW = 3
"""Queries that are timed where each reads all vectors from disk."""

Ranking = list[tuple[str, float]]
"""Chunk ids and scores, best first; equal scores by descending id, as trec_eval reads them."""


class Asked(NamedTuple):
    """A query text, and the time after which nothing may be found."""

    text: str
    limit: float | None = None


class Retriever(Protocol):
    """Finds chunks for queries."""

    dimension: int | None
    """Length of its vectors; None where there are none."""
    index_bytes: int | None
    """What its index takes, on disk or in memory; None where that is not known."""
    in_memory: bool
    """Whether one query is answered without reading the whole index from disk."""

    def search(self, asked: Sequence[Asked], k: int) -> list[Ranking]:
        """The `k` best chunks for each query, of those that are not later than its limit."""
        ...


def asked_of(questions: Sequence[Question]) -> list[Asked]:
    """What the questions ask."""
    return [Asked(question.text, question.temporal_limit) for question in questions]


class Searched(NamedTuple):
    """What was found for all questions, and how fast."""

    run: Run
    per_second: float


def retrieve(retriever: Retriever, questions: Sequence[Question], depth: int) -> Searched:
    """A run of `depth` chunks for every question, all questions at once."""
    start = time.perf_counter()
    found = retriever.search(asked_of(questions), depth)
    seconds = time.perf_counter() - start
    run = {q.query_id: ranking for q, ranking in zip(questions, found, strict=True)}
    return Searched(run, round(len(questions) / seconds, 3))


def latency(
    retriever: Retriever, questions: Sequence[Question], depth: int, most: int
) -> dict[str, float]:
    """Milliseconds of one query alone, from text to ranking: p50 and p95 over at most `most`.

    Of an index that is read from disk for every query, only the first three are timed.
    """
    most = most if retriever.in_memory else min(most, _FEW)
    asked = asked_of(questions[:most])
    for one in asked[: _WARM_UP if retriever.in_memory else 0]:
        retriever.search([one], depth)
    times = []
    for one in asked:
        start = time.perf_counter()
        retriever.search([one], depth)
        times.append(1000 * (time.perf_counter() - start))
    p50, p95 = np.percentile(times, [50, 95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "queries": len(times)}
