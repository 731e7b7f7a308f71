"""Words and meaning together: two rankings of one query made one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from codex_forge.config.sections import HybridConfig
from codex_forge.evaluate.retrieve import Asked, Ranking, Retriever
from codex_forge.metrics import ir_measures, mean
from codex_forge.records import Qrels

GRID = tuple(round(0.05 * step, 2) for step in range(21))
"""Weights of the dense scores that are tried."""
MEASURE = "ndcg@10"

Fuse = Callable[[Ranking, Ranking], Ranking]


def reciprocal_ranks(k: int) -> Fuse:
    """Reciprocal rank fusion: each ranking gives 1 / (k + rank) (Cormack et al., SIGIR 2009)."""

    def fuse(dense: Ranking, words: Ranking) -> Ranking:
        parts = [
            {chunk: 1 / (k + rank) for rank, (chunk, _) in enumerate(ranking, start=1)}
            for ranking in (dense, words)
        ]
        return _sum(*parts)

    return fuse


def weighted(weight: float) -> Fuse:
    """Scores of each ranking scaled to 0..1 and added: `weight` of the dense, the rest of BM25's.

    A convex combination (Bruch, Gai & Ingber, TOIS 2023). A chunk that one ranking does not hold
    gets 0 from it.
    """

    def fuse(dense: Ranking, words: Ranking) -> Ranking:
        return _sum(_scaled(dense, weight), _scaled(words, 1 - weight))

    return fuse


def _scaled(ranking: Ranking, weight: float) -> dict[str, float]:
    """Scores from 0 (the last) to `weight` (the first); all `weight` when they are equal."""
    if not ranking:
        return {}
    high, low = ranking[0][1], ranking[-1][1]
    width = high - low
    return {c: weight * ((s - low) / width if width > 0 else 1.0) for c, s in ranking}


def _sum(*parts: Mapping[str, float]) -> Ranking:
    total: dict[str, float] = {}
    for part in parts:
        for chunk, score in part.items():
            total[chunk] = total.get(chunk, 0.0) + score
    rounded = sorted(((c, float(np.float32(s))) for c, s in total.items()), reverse=True)
    return sorted(rounded, key=lambda found: -found[1])


class Lists(NamedTuple):
    """What both retrievers found for the same queries, parallel."""

    dense: Sequence[Ranking]
    words: Sequence[Ranking]

    def fused(self, fuse: Fuse, k: int) -> list[Ranking]:
        """One ranking of at most `k` chunks a query."""
        return [fuse(a, b)[:k] for a, b in zip(self.dense, self.words, strict=True)]


class HybridRetriever:
    """A dense retriever and BM25, each asked for as many chunks as are wanted of both."""

    def __init__(self, dense: Retriever, words: Retriever, fuse: Fuse) -> None:
        """Ask both; `fuse` makes one ranking of two."""
        self._dense, self._words, self._fuse = dense, words, fuse
        self.dimension, self.in_memory = dense.dimension, dense.in_memory
        sizes = (dense.index_bytes, words.index_bytes)
        self.index_bytes: int | None = sum(size or 0 for size in sizes)

    def search(self, asked: Sequence[Asked], k: int) -> list[Ranking]:
        """Search twice, and fuse."""
        return both(self._dense, self._words, asked, k).fused(self._fuse, k)


def both(dense: Retriever, words: Retriever, asked: Sequence[Asked], k: int) -> Lists:
    """What each finds."""
    return Lists(dense.search(asked, k), words.search(asked, k))


class Weighing(NamedTuple):
    """The weight that was chosen, and the measure of every weight that was tried."""

    weight: float
    curve: dict[str, float]


def weigh(lists: Lists, queries: Sequence[str], qrels: Qrels) -> Weighing:
    """The weight with the best mean ndcg@10 on these queries; of equal ones that nearest to 0.5.

    Args:
        lists: what was found, parallel to `queries`.
        queries: their ids.
        qrels: what answers them.
    """
    curve = {}
    for weight in GRID:
        run = dict(zip(queries, lists.fused(weighted(weight), 10), strict=True))
        rows = ir_measures({query: qrels[query] for query in queries}, run, (10,))
        curve[weight] = round(mean([row[MEASURE] for row in rows.values()]), 6)
    best = min(GRID, key=lambda weight: (-curve[weight], abs(weight - 0.5), weight))
    return Weighing(best, {f"{weight:.2f}": value for weight, value in curve.items()})


def facts(config: HybridConfig, weighing: Weighing | None) -> dict[str, Any]:
    """What the report says of the fusion."""
    if config.fusion == "rrf":
        return {"fusion": "rrf", "rrf_k": config.rrf_k, "weight": None, "dev": {}}
    weight = weighing.weight if weighing else config.weight
    curve = weighing.curve if weighing else {}
    return {"fusion": "weighted", "rrf_k": None, "weight": weight, "dev": curve}
