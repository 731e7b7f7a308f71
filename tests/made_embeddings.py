"""Embed artifacts of given rows, as `embed` writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from codex_forge.artifact import Artifact, Draft, Input, Recipe, begin, hash_json, open_artifact
from codex_forge.embeddings import EmbeddingsWriter
from codex_forge.records import Chunk
from codex_forge.storage import Store


class Row(NamedTuple):
    """A chunk and what its vector is drawn from."""

    chunk_id: str
    text: str
    metadata: dict[str, Any] = {}  # noqa: RUF012 - never changed
    seed: int = 0

    @property
    def vector(self) -> Any:
        found = np.random.default_rng(self.seed).standard_normal(16)
        return (found / np.linalg.norm(found)).astype(np.float32)

    @property
    def chunk(self) -> Chunk:
        return Chunk(self.chunk_id, self.text, f"{self.chunk_id}.md", metadata=self.metadata)


def some_rows(count: int, word: str = "text", seed: int = 0) -> list[Row]:
    return [
        Row(f"c{i:04d}", f"{word} {i}", {"page": i, "kind": "a"}, seed * count + i)
        for i in range(count)
    ]


def write_rows(path: Path, rows: Sequence[Row], dtype: str = "float32") -> Path:
    vectors = np.stack([row.vector for row in rows])
    with EmbeddingsWriter(path, vectors.shape[1], dtype) as writer:
        writer.write([row.chunk for row in rows], vectors)
    return path


def read_batches(path: Path, size: int = 25) -> list[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        return list(file.iter_batches(batch_size=size))


def embedded(
    folder: Path,
    rows: Sequence[Row],
    name: str = "small",
    model: str = "model-1",
    kind: str = "train",
    dtype: str = "float32",
    **settings: Any,
) -> Artifact:
    """A whole artifact in two files, in a store below the folder."""
    store, cache = Store(str(folder / "store")), folder / "cache"
    cache.mkdir(exist_ok=True)
    told = hash_json([row._asdict() for row in rows])
    inputs = {"model": Input(kind, "a-model", model, model), "corpus": Input("c", "c", told, told)}
    recipe = Recipe("embed", name, {"embed.dtype": dtype, **settings}, inputs)
    draft = begin(store, recipe, cache, force=True)
    assert isinstance(draft, Draft)
    half = len(rows) // 2
    for number, some in enumerate((rows[:half], rows[half:])):
        write_rows(draft.path(f"part-{number}.parquet"), some, dtype)
    draft.commit({"chunks": len(rows)}, {"model": "trained", "dimension": 16})
    return open_artifact(store, "embed", name, cache)


def told(row: Row) -> dict[str, Any]:
    """The metadata of a row in a collection."""
    return json.loads(json.dumps({**row.metadata, "filename": f"{row.chunk_id}.md"}))  # type: ignore[no-any-return]
