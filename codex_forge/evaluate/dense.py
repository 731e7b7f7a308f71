"""Exact cosine over the vectors of an embed artifact, however many there are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from codex_forge import embeddings
from codex_forge.artifact import Artifact
from codex_forge.errors import InputError
from codex_forge.evaluate.retrieve import Asked, Ranking
from codex_forge.evaluate.times import Times, numbers_of
from codex_forge.progress import progress
from codex_forge.search import Blocks, Floats, Numbers, nearest

log = logging.getLogger("codex_forge")

FITS = 2 * 1024**3
"""Bytes of float32 vectors that are held in memory; more are read from disk for each search."""


class QueryEncoder(Protocol):
    """What makes vectors of queries."""

    def encode_query(self, texts: Sequence[str]) -> Floats:
        """Unit vectors, shape (texts, dimension)."""
        ...


class Vectors:
    """The vectors of an embed artifact: in memory where they fit, else read for each search."""

    def __init__(self, artifact: Artifact, fits: int | None = None) -> None:
        """Read them, if they take no more than `fits` bytes as float32 (`FITS` when not given)."""
        self._artifact, self._held = artifact, None
        rows = artifact.counts["chunks"]
        _, first = next(embeddings.vector_batches(artifact))
        self.dimension = first.shape[1]
        self.in_memory = 4 * rows * self.dimension <= (FITS if fits is None else fits)
        if self.in_memory:
            self._held = self._read(rows)
        else:
            log.info("  %d vectors are more than is held in memory: searched on disk", rows)

    @property
    def stored_bytes(self) -> int:
        """What ids and vectors take on disk, compressed as they are."""
        files = map(self._artifact.path, embeddings.parts(self._artifact))
        return sum(_column_bytes(pq.read_metadata(path)) for path in files)

    def blocks(self) -> Blocks:
        """Ids and vectors, some at a time."""
        if self._held is not None:
            yield self._held
            return
        rows = embeddings.vector_batches(self._artifact)
        for ids, vectors in progress(rows, "blocks of vectors searched"):
            yield numbers_of(ids), vectors

    def _read(self, rows: int) -> tuple[Numbers, Floats]:
        ids = np.empty(rows, dtype=np.uint64)
        vectors: NDArray[np.float32] = np.empty((rows, self.dimension), dtype=np.float32)
        start = 0
        for some, block in embeddings.vector_batches(self._artifact):
            here = slice(start, start + len(some))
            if here.stop <= rows:
                ids[here], vectors[here] = numbers_of(some), block
            start = here.stop
        if start != rows:
            raise InputError(
                f"holds {start} vectors, not {rows} as it says",
                where=self._artifact.url,
                do="run python -m jobs.embed --force",
            )
        return ids, vectors


def _column_bytes(file: pq.FileMetaData) -> int:
    groups = [file.row_group(i) for i in range(file.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    kept = ("chunk_id", "vector")
    return sum(c.total_compressed_size for c in columns if c.path_in_schema.split(".")[0] in kept)


class DenseRetriever:
    """Nearest chunks by exact cosine."""

    def __init__(self, encoder: QueryEncoder, vectors: Vectors, times: Times) -> None:
        """The encoder is of the model that made the vectors."""
        self._encoder, self._vectors, self._times = encoder, vectors, times
        self.dimension: int | None = vectors.dimension
        self.index_bytes: int | None = vectors.stored_bytes
        self.in_memory = vectors.in_memory

    def search(self, asked: Sequence[Asked], k: int) -> list[Ranking]:
        """Every chunk is compared with every query."""
        queries = self._encoder.encode_query([one.text for one in asked])
        if queries.shape[1] != self.dimension:
            raise InputError(
                f"the model gives queries vectors of {queries.shape[1]} numbers, and gave chunks "
                f"{self.dimension}",
                do="run python -m jobs.embed --force with the model that is there now",
            )
        found = nearest(self._vectors.blocks(), queries, k, self._times.late(asked))
        return [[(f"{number:016x}", score) for number, score in ranking] for ranking in found]
