"""Chunks nearest to queries by the base model, over its embed artifact; vectors stay on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codex_forge import embeddings
from codex_forge.artifact import Artifact
from codex_forge.config import RunConfig
from codex_forge.corpus import ChunkTable
from codex_forge.errors import InputError
from codex_forge.model.in_use import EncoderInUse, ModelInUse, load_encoder
from codex_forge.pairs.query import Query

_ROWS = 16_384
"""Vectors compared at once."""

Floats = NDArray[np.float32]


class Near(NamedTuple):
    """The nearest chunks of one query, and how near they and its positives are (cosine)."""

    positions: NDArray[np.int64]
    similarities: Floats
    to_positives: Floats


class NearestByModel:
    """Exact nearest chunks by cosine, for blocks of queries."""

    def __init__(
        self,
        chunks: ChunkTable,
        embedded: Artifact,
        config: RunConfig,
        model: ModelInUse,
        scratch: Path,
    ) -> None:
        """Copy the vectors into one file of float16, shape (chunks, dimension)."""
        self._config, self._model, self._depth = config, model, config.pairs.negatives.nearest_depth
        self._encoder: EncoderInUse | None = None
        self._vectors = _copied(chunks, embedded, scratch / "nearest.f16")

    def of(self, queries: Sequence[Query]) -> list[Near]:
        """The nearest chunks of each query."""
        vectors = self._encode([query.text for query in queries])
        best, which = self._search(vectors)
        return [
            Near(which[row], best[row], self._to_positives(query, vectors[row]))
            for row, query in enumerate(queries)
        ]

    def _encode(self, texts: list[str]) -> Floats:
        if self._encoder is None:
            self._encoder = load_encoder(self._model, self._config)
        return np.asarray(self._encoder.encode_query(texts), dtype=np.float32)

    def _search(self, queries: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """Best similarities and their positions, both of shape (queries, depth), best first."""
        best = np.zeros((len(queries), 0), dtype=np.float32)
        which = np.zeros((len(queries), 0), dtype=np.int64)
        for start in range(0, len(self._vectors), _ROWS):
            block = self._vectors[start : start + _ROWS].astype(np.float32)
            scores = queries @ block.T
            here = np.broadcast_to(np.arange(start, start + len(block)), scores.shape)
            best = np.concatenate([best, scores], axis=1)
            which = np.concatenate([which, here], axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, : self._depth]
            best = np.take_along_axis(best, order, axis=1)
            which = np.take_along_axis(which, order, axis=1)
        return best, which

    def _to_positives(self, query: Query, vector: Floats) -> Floats:
        if not query.positives:
            return np.zeros(0, dtype=np.float32)
        return self._vectors[list(query.positives)].astype(np.float32) @ vector


def below_margin(near: Near, positive: int, margin: float) -> list[int]:
    """Positions that are less similar to the query than (1 - margin) x its positive is.

    The relative margin of NV-Retriever (Moreira et al., 2024, `TopK-PercPos`).

    Args:
        near: the nearest chunks.
        positive: which of the query's positives, counted from 0.
        margin: share of the positive's similarity.
    """
    most = (1.0 - margin) * float(near.to_positives[positive])
    return [int(p) for p in near.positions[near.similarities < most]]


def _copied(
    chunks: ChunkTable, embedded: Artifact, path: Path
) -> np.memmap[tuple[int, ...], np.dtype[np.float16]]:
    """The vectors in the order of the chunks, on disk.

    Raises:
        InputError: the artifact does not hold exactly these chunks.
    """
    place = {int(chunk_id): position for position, chunk_id in enumerate(chunks.ids)}
    dimension = int(embedded.manifest.summary["dimension"])
    vectors = np.memmap(path, np.float16, "w+", shape=(len(chunks), dimension))
    for ids, block in embeddings.vector_batches(embedded):
        found = [place.pop(int(chunk_id, 16), -1) for chunk_id in ids]
        if -1 in found:
            break
        vectors[found] = block
    else:
        if not place:
            return vectors
    raise InputError(
        "holds the vectors of other chunks than the corpus has",
        where=embedded.url,
        do="run python -m jobs.embed embed.model=base --force",
    )
