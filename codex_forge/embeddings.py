"""Embeddings as Parquet: `chunk_id`, `filename`, `text`, `metadata`, and a `vector`.

`metadata` is a JSON object of the chunk's plain fields, the file name among them. `vector` is a
list of fixed size, of numbers of the type that the file's own metadata names:

    float32   as the model gave them
    float16   rounded: half the size
    int8      times 127 / its largest number, rounded: a quarter (a cosine needs no scale)
    binary    the signs, eight a byte: a thirty-second

Whoever reads gets float32, of unit length.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from codex_forge.artifact import Artifact
from codex_forge.records import Chunk

Floats = NDArray[np.float32]
Stored = NDArray[Any]
"""Vectors as they are kept, shape (rows, numbers or, for binary, bytes)."""

_TYPES: dict[str, Any] = {
    "float32": np.float32, "float16": np.float16, "int8": np.int8, "binary": np.uint8,
}  # fmt: skip
_DTYPE, _DIMENSION = b"codex_forge.dtype", b"codex_forge.dimension"
_BATCH = 4096
_TINY = 1e-12


def to_stored(vectors: Floats, dtype: str) -> Stored:
    """Vectors of shape (rows, dimension) as `dtype` keeps them."""
    if dtype == "binary":
        packed: Stored = np.packbits(vectors > 0, axis=1)
        return packed
    if dtype == "int8":
        largest = np.abs(vectors).max(axis=1, keepdims=True, initial=_TINY)
        vectors = np.rint(vectors * (127 / largest))
    return np.ascontiguousarray(vectors, dtype=_TYPES[dtype])


def from_stored(stored: Stored, dtype: str, dimension: int) -> Floats:
    """What `to_stored` made as float32 vectors of unit length, shape (rows, dimension)."""
    if dtype == "float32":
        return stored
    if dtype == "binary":
        bits = np.unpackbits(stored, axis=1, count=dimension).astype(np.float32)
        signs: Floats = (2 * bits - 1) / np.float32(np.sqrt(dimension))
        return signs
    numbers = stored.astype(np.float32)
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)
    found: Floats = numbers / np.maximum(lengths, _TINY)
    return found


class EmbeddingsWriter:
    """Writes one Parquet file, a row group at a time; use as a context manager."""

    def __init__(self, path: Path, dimension: int, dtype: str = "float32") -> None:
        """Vectors have `dimension` numbers, and are kept as `dtype`."""
        self._dtype = dtype
        self._schema = _schema(dimension, dtype)
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

    def write(self, chunks: Sequence[Chunk], vectors: Floats) -> None:
        """Add one row group; `vectors` has shape (chunks, dimension)."""
        self.write_stored(chunks, to_stored(vectors, self._dtype))

    def write_stored(self, chunks: Sequence[Chunk], stored: Stored) -> None:
        """Add one row group of vectors as they are kept."""
        columns = [
            pa.array([chunk.chunk_id for chunk in chunks]),
            pa.array([chunk.filename for chunk in chunks]),
            pa.array([chunk.text for chunk in chunks]),
            pa.array([json.dumps(metadata_of(chunk), ensure_ascii=False) for chunk in chunks]),
            _lists(stored),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))


def _schema(dimension: int, dtype: str) -> pa.Schema:
    size = -(-dimension // 8) if dtype == "binary" else dimension
    texts = [(name, pa.string()) for name in ("chunk_id", "filename", "text", "metadata")]
    vector = ("vector", pa.list_(pa.from_numpy_dtype(_TYPES[dtype]), size))
    said = {_DTYPE: dtype.encode(), _DIMENSION: str(dimension).encode()}
    return pa.schema([*texts, vector], metadata=said)


def _lists(vectors: Stored) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


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


def form_of(schema: pa.Schema) -> tuple[str, int]:
    """The type and the number of numbers of the vectors of a file."""
    said = schema.metadata or {}
    dtype = said.get(_DTYPE, b"float32").decode()
    width = schema.field("vector").type.list_size
    return dtype, int(said.get(_DIMENSION, width))


def dimension_of(path: Path) -> int:
    """Length of the vectors of a file that `EmbeddingsWriter` wrote."""
    return form_of(pq.read_schema(path))[1]


def parts(artifact: Artifact) -> list[str]:
    """Names of an embed artifact's Parquet files."""
    return [name for name in artifact.files if name.endswith(".parquet")]


def bytes_of(artifact: Artifact) -> int:
    """Size of an embed artifact's Parquet files."""
    entries = (entry for manifest in artifact.manifests for entry in manifest.files)
    return sum(entry.size for entry in entries if entry.path.endswith(".parquet"))


def batches(artifact: Artifact, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """All rows of an embed artifact, a record batch at a time; all columns when none are named.

    Vectors are float32 of unit length, whatever they are kept as.
    """
    for name in parts(artifact):
        yield from batches_of(artifact.path(name), columns)


def batches_of(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of one file, as `batches` gives those of all."""
    with pq.ParquetFile(path) as file:
        dtype, dimension = form_of(file.schema_arrow)
        for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
            yield _decoded(batch, dtype, dimension)


def _decoded(batch: pa.RecordBatch, dtype: str, dimension: int) -> pa.RecordBatch:
    if dtype == "float32" or "vector" not in batch.schema.names:
        return batch
    vectors = from_stored(_array(batch), dtype, dimension)
    place = batch.schema.get_field_index("vector")
    return batch.set_column(place, "vector", _lists(vectors))


def _array(batch: pa.RecordBatch | pa.Table) -> NDArray[Any]:
    """The vectors of a batch as they are in it, shape (rows, numbers or bytes)."""
    flat = batch.column("vector").flatten().to_numpy()
    return flat.reshape(batch.num_rows, -1)  # type: ignore[no-any-return]


def read_stored(path: Path) -> tuple[list[str], Stored]:
    """Texts of a file, and their vectors as they are kept."""
    table = pq.read_table(path, columns=["text", "vector"]).combine_chunks()
    batch = table.to_batches()[0]
    return batch.column("text").to_pylist(), _array(batch)


def vector_batches(artifact: Artifact) -> Iterator[tuple[list[str], Floats]]:
    """Chunk ids and their vectors of shape (rows, dimension), a record batch at a time."""
    for batch in batches(artifact, ["chunk_id", "vector"]):
        yield batch.column("chunk_id").to_pylist(), _array(batch)


def vectors(artifact: Artifact) -> tuple[list[str], Floats]:
    """All chunk ids, and their vectors of shape (chunks, dimension)."""
    width = max(int(manifest.summary["dimension"]) for manifest in artifact.manifests)
    found = np.zeros((artifact.counts["chunks"], width), dtype=np.float32)
    ids: list[str] = []
    for some, block in vector_batches(artifact):
        found[len(ids) : len(ids) + len(some)] = block
        ids.extend(some)
    return ids, found
