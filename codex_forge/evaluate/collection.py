"""Search in a ChromaDB collection, as a service does, and what its index misses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codex_forge.errors import InputError
from codex_forge.evaluate.dense import QueryEncoder
from codex_forge.evaluate.retrieve import Asked, Ranking
from codex_forge.evaluate.times import Times, numbers_of
from codex_forge.search import Floats

Ask = Callable[[Callable[[], Any]], Any]
"""Does what it is given, with patience for a database that is away."""

_QUERIES = 100
"""In one request."""
_SAME = 1e-6
"""Cosines that differ by less are equal: each engine rounds in its own way."""


class ChromaRetriever:
    """Nearest chunks by the collection's own approximate index."""

    index_bytes: int | None = None
    in_memory = True

    def __init__(
        self, encoder: QueryEncoder, collection: Any, times: Times, rows: int, ask: Ask
    ) -> None:
        """Ask a collection that must hold `rows` chunks, those of the corpus.

        Raises:
            InputError: it holds others.
        """
        self._encoder, self._collection, self._times = encoder, collection, times
        self._rows, self._patiently = rows, ask
        self.dimension: int | None = None
        if (found := ask(collection.count)) != rows:
            raise _other_chunks(collection.name, f"{found} chunks, not {rows}")

    def search(self, asked: Sequence[Asked], k: int) -> list[Ranking]:
        """Ask for many queries at a time; for more than `k` where some of them are too late."""
        vectors = self._encoder.encode_query([one.text for one in asked])
        self.dimension = vectors.shape[1]
        free = [i for i, one in enumerate(asked) if one.limit is None]
        found: dict[int, Ranking] = {}
        for start in range(0, len(free), _QUERIES):
            some = free[start : start + _QUERIES]
            found.update(zip(some, self._ask(vectors[some], k), strict=True))
        for i, one in enumerate(asked):
            if one.limit is not None:
                found[i] = self._within(vectors[i], k, one.limit)
        return [found[i] for i in range(len(asked))]

    def _within(self, vector: Floats, k: int, limit: float) -> Ranking:
        """The `k` best that are not later than `limit`, among ever more of the nearest."""
        wide = k
        while True:
            (ranking,) = self._ask(vector[None], wide)
            times = self._times.of(numbers_of([chunk_id for chunk_id, _ in ranking]))
            within = [each for each, time in zip(ranking, times, strict=True) if not time > limit]
            if len(within) >= k or wide >= self._rows:
                return within[:k]
            wide = min(4 * wide, self._rows)

    def _ask(self, vectors: Floats, k: int) -> list[Ranking]:
        k = min(k, self._rows)
        query = self._collection.query
        found = self._patiently(
            lambda: query(query_embeddings=vectors, n_results=k, include=["distances"])
        )
        rankings = []
        for ids, distances in zip(found["ids"], found["distances"], strict=True):
            for chunk_id in ids:
                if chunk_id not in self._times:
                    raise _other_chunks(self._collection.name, f"the unknown chunk {chunk_id}")
            scores = (1 - np.asarray(distances, dtype=np.float32)).tolist()
            by_id = sorted(zip(ids, scores, strict=True), reverse=True)
            rankings.append(sorted(by_id, key=lambda each: -each[1]))
        return rankings


def _other_chunks(name: str, what: str) -> InputError:
    return InputError(
        f"the Chroma collection {name!r} holds {what}",
        do="delete the collection and run python -m jobs.embed again",
    )


def recall_of_exact(found: Sequence[Ranking], exact: Sequence[Ranking], k: int) -> float:
    """The share of the exact `k` nearest that was found, as ANN benchmarks count it.

    A chunk counts when its cosine reaches that of the exact k-th (Aumüller et al., Information
    Systems 2020), so that which of several equal ones is found does not matter.
    """
    shares = []
    for mine, best in zip(found, exact, strict=True):
        if best:
            least = best[:k][-1][1] - _SAME
            shares.append(sum(score >= least for _, score in mine[:k]) / len(best[:k]))
    return round(float(np.mean(shares)), 6) if shares else 1.0
