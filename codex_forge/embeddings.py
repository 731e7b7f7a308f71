"""Embeddings as Parquet: `chunk_id`, `filename`, `text`, `metadata`, and a float32 `vector`.

`metadata` is a JSON object of the chunk's plain fields, the file name among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from codex_forge.artifact import Artifact
from codex_forge.records import Chunk


class EmbeddingsWriter:
    """Writes one Parquet file, a row group at a time; use as a context manager."""

    def __init__(self, path: Path, dimension: int) -> None:
        """Vectors have `dimension` numbers."""
        self._schema = pa.schema(
            [
                ("chunk_id", pa.string()),
                ("filename", pa.string()),
                ("text", pa.string()),
                ("metadata", pa.string()),
                ("vector", pa.list_(pa.float32(), dimension)),
            ]
        )
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> EmbeddingsWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(self, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        """Add one row group; `vectors` has shape (chunks, dimension)."""
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
        columns = [
            pa.array([chunk.chunk_id for chunk in chunks]),
            pa.array([chunk.filename for chunk in chunks]),
            pa.array([chunk.text for chunk in chunks]),
            pa.array([json.dumps(metadata_of(chunk), ensure_ascii=False) for chunk in chunks]),
            pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))


def metadata_of(chunk: Chunk) -> dict[str, str | int | float | bool]:
    """What a vector store keeps beside a vector: the plain fields of the chunk, for filters."""
    plain = {k: v for k, v in chunk.metadata.items() if _kept(k, v)}
    if chunk.chunk_type:
        plain["wiki_type"] = chunk.chunk_type
    if chunk.temporal_order is not None:
        plain["temporal_order"] = chunk.temporal_order
    return {**plain, "filename": chunk.filename}


def _kept(key: str, value: object) -> bool:
    """Plain values under names that ChromaDB takes (`chroma:` is its own)."""
    return (
        isinstance(value, str | int | float | bool) and bool(key) and not key.startswith("chroma:")
    )


def dimension_of(path: Path) -> int:
    """Length of the vectors of a file that `EmbeddingsWriter` wrote."""
    return int(pq.read_schema(path).field("vector").type.list_size)


def parts(artifact: Artifact) -> list[str]:
    """Names of an embed artifact's Parquet files."""
    return [name for name in artifact.files if name.endswith(".parquet")]


def batches(artifact: Artifact, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """All rows of an embed artifact, a record batch at a time; all columns when none are named."""
    for name in parts(artifact):
        with pq.ParquetFile(artifact.path(name)) as file:
            yield from file.iter_batches(batch_size=4096, columns=columns)


def vector_batches(artifact: Artifact) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Chunk ids and their vectors of shape (rows, dimension), a record batch at a time."""
    for batch in batches(artifact, ["chunk_id", "vector"]):
        flat = batch.column("vector").flatten().to_numpy()
        yield batch.column("chunk_id").to_pylist(), flat.reshape(batch.num_rows, -1)


def vectors(artifact: Artifact) -> tuple[list[str], NDArray[np.float32]]:
    """All chunk ids, and their vectors of shape (chunks, dimension)."""
    ids: list[str] = []
    found: list[NDArray[np.float32]] = []
    for some, block in vector_batches(artifact):
        ids.extend(some)
        found.append(block)
    return ids, np.concatenate(found) if found else np.zeros((0, 0), dtype=np.float32)
