"""Retrievers behind one form: a query text in, the best chunks out, within a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from codex_forge.corpus import ChunkTable
from codex_forge.model.encoder import Encoder
from codex_forge.progress import progress
from codex_forge.records import Question, Run
from codex_forge.search import Bm25, ExactDense, Mask

_WARM_UP = 5


class Retriever(Protocol):
    """Finds chunks for queries."""

    chunk_ids: list[str]

    def prepare(self, texts: Sequence[str]) -> Sequence[object]:
        """Queries in the form that `search` takes, all at once."""
        ...

    def search(self, query: object, k: int, allowed: Mask | None) -> list[tuple[str, float]]:
        """The `k` best chunks for one prepared query; `allowed` is parallel to `chunk_ids`."""
        ...


class Bm25Retriever:
    """Words alone."""

    def __init__(self, chunks: ChunkTable) -> None:
        """Index the texts of the chunks."""
        self._index = Bm25(_ids(chunks), list(chunks.texts()))
        self.chunk_ids = self._index.chunk_ids

    def prepare(self, texts: Sequence[str]) -> Sequence[object]:
        """Texts as they are."""
        return texts

    def search(self, query: object, k: int, allowed: Mask | None) -> list[tuple[str, float]]:
        """Chunks that share a word with the query."""
        return self._index.search(str(query), k, allowed)


class DenseRetriever:
    """Exact cosine over the vectors of an embed artifact."""

    def __init__(
        self, encoder: Encoder, chunk_ids: Sequence[str], vectors: NDArray[np.float32]
    ) -> None:
        """`vectors` has shape (chunks, dimension), made by the same model as the encoder's."""
        self._encoder = encoder
        self._index = ExactDense(chunk_ids, vectors)
        self.chunk_ids = self._index.chunk_ids

    def prepare(self, texts: Sequence[str]) -> Sequence[object]:
        """Query vectors, with the model's query prompt."""
        return list(self._encoder.encode_query(texts))

    def search(self, query: object, k: int, allowed: Mask | None) -> list[tuple[str, float]]:
        """Nearest chunks."""
        return self._index.search(np.asarray(query), k, allowed)


def retrieve(
    retriever: Retriever, questions: Sequence[Question], chunks: ChunkTable, depth: int
) -> Run:
    """A run of `depth` chunks for every question; chunks later than its time limit are left out."""
    mask_of = _masks(retriever, chunks)
    prepared = retriever.prepare([question.text for question in questions])
    return {
        question.query_id: retriever.search(query, depth, mask_of(question.temporal_limit))
        for question, query in progress(
            list(zip(questions, prepared, strict=True)), "questions searched"
        )
    }


def latency(
    retriever: Retriever, questions: Sequence[Question], depth: int, most: int
) -> dict[str, float]:
    """Milliseconds of one query alone, from text to ranking: p50 and p95 over at most `most`."""
    texts = [question.text for question in questions[:most]]
    for text in texts[:_WARM_UP]:
        retriever.search(retriever.prepare([text])[0], depth, None)
    times = []
    for text in texts:
        start = time.perf_counter()
        retriever.search(retriever.prepare([text])[0], depth, None)
        times.append(1000 * (time.perf_counter() - start))
    p50, p95 = np.percentile(times, [50, 95]) if times else (0.0, 0.0)
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "queries": len(times)}


def _masks(retriever: Retriever, chunks: ChunkTable) -> Callable[[float | None], Mask | None]:
    """A function from a time limit to the chunks that may be known then."""
    row_of = {chunk_id: row for row, chunk_id in enumerate(_ids(chunks))}
    times = chunks.times[[row_of[chunk_id] for chunk_id in retriever.chunk_ids]]

    def mask(limit: float | None) -> Mask | None:
        return None if limit is None else np.isnan(times) | (times <= limit)

    return mask


def _ids(chunks: ChunkTable) -> list[str]:
    return [chunks.chunk_id(row) for row in range(len(chunks))]
