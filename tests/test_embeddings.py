"""Vectors are kept in four types, and read as float32 of unit length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_forge import embeddings
from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact
from codex_forge.embeddings import EmbeddingsWriter, Floats, from_stored, to_stored
from codex_forge.records import Chunk
from codex_forge.storage import Store

DTYPES = ("float32", "float16", "int8", "binary")
DIMENSION = 388
"""No multiple of eight bits."""


def unit_vectors(rows: int, dimension: int = DIMENSION, seed: int = 1) -> Floats:
    found = np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)
    unit: Floats = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def artifact_of(store: Store, cache: Path, vectors: Floats, dtype: str) -> Artifact:
    """Two files of an embed artifact."""
    draft = begin(store, Recipe("embed", "small", {"dtype": dtype}, {}), cache, force=False)
    assert isinstance(draft, Draft)
    for part, rows in enumerate(np.array_split(np.arange(len(vectors)), 2)):
        chunks = [Chunk(f"{row:016x}", f"text {row}", "a.md") for row in rows.tolist()]
        path = draft.path(f"part-{part}.parquet")
        with EmbeddingsWriter(path, vectors.shape[1], dtype) as writer:
            writer.write(chunks, vectors[rows])
    draft.commit({"chunks": len(vectors)}, {"dimension": vectors.shape[1]})
    return open_artifact(store, "embed", "small", cache)


@pytest.mark.parametrize(
    ("dtype", "least"), [("float32", 1), ("float16", 1), ("int8", 0.9998), ("binary", 0.75)]
)
def test_vectors_come_back_near_what_they_were(
    dtype: str, least: float, local: Store, cache: Path
) -> None:
    given_vectors = unit_vectors(300)
    artifact = artifact_of(local, cache, given_vectors, dtype)
    ids, found = embeddings.vectors(artifact)
    assert ids == [f"{row:016x}" for row in range(300)]
    assert found.dtype == np.float32
    assert found.shape == (300, DIMENSION)
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    assert float((found * given_vectors).sum(axis=1).min()) >= least - 1e-6
    assert np.array_equal(found, given_vectors) == (dtype == "float32")
    for name in embeddings.parts(artifact):
        assert embeddings.dimension_of(artifact.path(name)) == DIMENSION
        schema = pq.read_schema(artifact.path(name))
        assert schema.metadata[b"codex_forge.dtype"] == dtype.encode()


def test_rows_of_all_columns_have_float32_vectors_too(local: Store, cache: Path) -> None:
    whole = unit_vectors(10)
    rows = list(embeddings.batches(artifact_of(local, cache, whole, "int8")))
    assert rows[0].schema.names == ["chunk_id", "filename", "text", "metadata", "vector"]
    assert rows[0].schema.field("vector").type == pa.list_(pa.float32(), DIMENSION)
    assert [text for batch in rows for text in batch.column("text").to_pylist()] == [
        f"text {row}" for row in range(10)
    ]


def test_smaller_types_take_less_room(tmp_path: Path) -> None:
    vectors = unit_vectors(2000)
    sizes = {}
    for dtype in DTYPES:
        folder = tmp_path / dtype
        folder.mkdir()
        artifact = artifact_of(Store(str(folder / "store")), folder, vectors, dtype)
        sizes[dtype] = embeddings.bytes_of(artifact)
        files = [artifact.path(name).stat().st_size for name in embeddings.parts(artifact)]
        assert sizes[dtype] == sum(files)
    raw = 2000 * DIMENSION
    assert sizes["float32"] > 3.5 * raw
    for dtype, share in (("float16", 0.55), ("int8", 0.3), ("binary", 0.07)):
        assert sizes[dtype] < share * sizes["float32"], dtype


def test_a_file_without_a_word_on_its_type_is_float32(tmp_path: Path) -> None:
    """As other tools write it."""
    whole = unit_vectors(4, 8)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(whole.ravel()), 8)
    pq.write_table(pa.table({"vector": lists}), tmp_path / "a.parquet")
    (batch,) = embeddings.batches_of(tmp_path / "a.parquet")
    assert np.array_equal(batch.column("vector").flatten().to_numpy().reshape(4, 8), whole)
    assert embeddings.dimension_of(tmp_path / "a.parquet") == 8


@settings(deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.integers(1, 40),
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=40, max_size=40),
)
def test_what_is_read_is_kept_as_it_was(dtype: str, dimension: int, numbers: list[float]) -> None:
    """To keep again what was read changes nothing; no vector, not even of zeros, becomes NaN."""
    vector = np.array([numbers[:dimension]], dtype=np.float32)
    length = float(np.linalg.norm(vector))
    vector = vector / length if length > 1e-3 else np.zeros_like(vector)
    read = from_stored(to_stored(vector, dtype), dtype, dimension)
    assert read.shape == vector.shape
    assert np.isfinite(read).all()
    again = from_stored(to_stored(read, dtype), dtype, dimension)
    assert np.allclose(again, read, atol=1e-3)
