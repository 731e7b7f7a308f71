"""Rows of an embed artifact as ChromaDB takes them, each with a digest of all that it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

DIGEST = "codex_forge_row"
"""The key of a row's metadata that holds its digest."""

_BYTES = 8 << 20
"""In one request, about: servers refuse bodies that are much longer (`chroma run`: 40 MB)."""
_BYTES_OF_A_NUMBER = 6
"""A float32 in base64."""


@dataclass(frozen=True)
class Rows:
    """Some rows; all fields have the same length."""

    ids: list[str]
    documents: list[str]
    metadatas: list[dict[str, Any]]
    """With the digest under `DIGEST`."""
    vectors: NDArray[np.float32]
    """Unit vectors, shape (rows, dimension)."""

    def digests(self) -> dict[str, str]:
        """Id -> digest."""
        return {key: told[DIGEST] for key, told in zip(self.ids, self.metadatas, strict=True)}

    def taken(self, ids: Mapping[str, Any]) -> Rows:
        """Only the rows whose ids are among these."""
        at = [number for number, key in enumerate(self.ids) if key in ids]
        return Rows(
            [self.ids[n] for n in at],
            [self.documents[n] for n in at],
            [self.metadatas[n] for n in at],
            self.vectors[at],
        )

    def fields(self) -> dict[str, Any]:
        """The arguments of `upsert`."""
        return {
            "ids": self.ids,
            "documents": self.documents,
            "metadatas": self.metadatas,
            "embeddings": self.vectors,
        }


def in_slices(batches: Iterable[pa.RecordBatch], most: int) -> Iterator[Rows]:
    """The rows of an embed artifact, at most `most` at once, and few enough for one request."""
    for batch in batches:
        if not batch.num_rows:
            continue
        fit = max(1, _BYTES * batch.num_rows // max(1, _size(batch)))
        size = min(most, fit)
        for start in range(0, batch.num_rows, size):
            yield _rows(batch.slice(start, size))


def _size(batch: pa.RecordBatch) -> int:
    """Bytes that the rows take in a request: vectors as base64 of float32."""
    texts = batch.select(["text", "metadata"]).nbytes
    return int(texts + _BYTES_OF_A_NUMBER * dimension_of(batch) * batch.num_rows)


def dimension_of(batch: pa.RecordBatch) -> int:
    """Numbers in a vector."""
    return int(batch.schema.field("vector").type.list_size)


def _rows(batch: pa.RecordBatch) -> Rows:
    ids, texts, told = (batch.column(name).to_pylist() for name in ("chunk_id", "text", "metadata"))
    vectors = batch.column("vector").flatten().to_numpy().reshape(batch.num_rows, -1)
    digests = (
        _digest(text, metadata, vector)
        for text, metadata, vector in zip(texts, told, vectors, strict=True)
    )
    metadatas = [
        {**json.loads(metadata), DIGEST: digest}
        for metadata, digest in zip(told, digests, strict=True)
    ]
    return Rows(ids, texts, metadatas, vectors)


def _digest(text: str, metadata: str, vector: NDArray[np.float32]) -> str:
    found = blake2b(digest_size=12)
    for part in (text.encode("utf-8", "surrogatepass"), metadata.encode(), vector.tobytes()):
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()
