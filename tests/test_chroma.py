"""The Chroma collection mirrors an embed artifact: rebuilt when it differs, refused to others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from codex_forge import chroma
from codex_forge.chroma import Mirror, open_collection, sync
from codex_forge.embeddings import EmbeddingsWriter
from codex_forge.errors import InputError
from codex_forge.records import Chunk
from codex_forge.search import ExactDense

COUNT, DIMENSION = 60, 16
MIRROR = Mirror(collection="small", embeddings="digest-1", model="model-1", rows=COUNT)


def _chunks(word: str = "text") -> list[Chunk]:
    return [Chunk(f"c{i:03d}", f"{word} number {i}", f"{i % 7}.md") for i in range(COUNT)]


def _vectors(seed: int = 1) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).standard_normal((COUNT, DIMENSION)).astype(np.float32)
    normed: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return normed


def _batches(folder: Path, word: str = "text", seed: int = 1) -> list[Any]:
    """Rows as `embed` writes them and reads them back, in two row groups."""
    path = folder / f"{word}-{seed}.parquet"
    chunks, vectors = _chunks(word), _vectors(seed)
    with EmbeddingsWriter(path, DIMENSION) as writer:
        writer.write(chunks[:40], vectors[:40])
        writer.write(chunks[40:], vectors[40:])
    with pq.ParquetFile(path) as file:
        return list(file.iter_batches(batch_size=25))


def _ids(found: Any) -> list[str]:
    return sorted(found.get()["ids"])


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "chroma")


def test_a_sync_writes_every_row_with_its_text_filename_and_vector(
    path: str, tmp_path: Path
) -> None:
    assert sync(path, MIRROR, _batches(tmp_path), batch_size=7) is True
    found = open_collection(path, "small", model="model-1")
    rows = found.get(include=["documents", "metadatas", "embeddings"])
    by_id = {
        key: (text, told["filename"], vector)
        for key, text, told, vector in zip(
            rows["ids"], rows["documents"], rows["metadatas"], rows["embeddings"], strict=True
        )
    }
    assert len(by_id) == COUNT
    for chunk, vector in zip(_chunks(), _vectors(), strict=True):
        text, filename, kept = by_id[chunk.chunk_id]
        assert (text, filename) == (chunk.text, chunk.filename)
        assert np.allclose(kept, vector, atol=1e-6)


def test_a_query_finds_what_exact_search_finds(path: str, tmp_path: Path) -> None:
    sync(path, MIRROR, _batches(tmp_path), batch_size=1000)
    found = open_collection(path, "small")
    exact = ExactDense([chunk.chunk_id for chunk in _chunks()], _vectors())
    for query in _vectors(seed=2)[:10]:
        theirs = found.query(query_embeddings=[query], n_results=10)
        ours = exact.search(query, 10)
        assert theirs["ids"][0] == [key for key, _ in ours]
        assert theirs["distances"][0] == pytest.approx([1 - score for _, score in ours], abs=1e-5)


def test_a_second_sync_does_nothing_and_does_not_read_the_rows(path: str, tmp_path: Path) -> None:
    sync(path, MIRROR, _batches(tmp_path), batch_size=100)
    before = open_collection(path, "small").id

    rows = iter(_batches(tmp_path))
    assert sync(path, MIRROR, rows, batch_size=100) is False
    assert len(list(rows)) == 3, "no row was read"
    assert open_collection(path, "small").id == before


def test_other_embeddings_rebuild_the_collection(path: str, tmp_path: Path) -> None:
    sync(path, MIRROR, _batches(tmp_path), batch_size=100)
    other = replace(MIRROR, embeddings="digest-2", model="model-2", rows=50)
    assert sync(path, other, _batches(tmp_path, "other", 3)[:2], batch_size=100) is True
    found = open_collection(path, "small", model="model-2")
    assert _ids(found) == [chunk.chunk_id for chunk in _chunks()[:50]]
    assert set(found.get()["documents"]) == {chunk.text for chunk in _chunks("other")[:50]}
    assert sync(path, other, [], batch_size=100) is False


def test_a_collection_that_lost_rows_is_rebuilt(path: str, tmp_path: Path) -> None:
    sync(path, MIRROR, _batches(tmp_path), batch_size=100)
    open_collection(path, "small").delete(ids=["c003"])
    assert sync(path, MIRROR, _batches(tmp_path), batch_size=100) is True
    assert open_collection(path, "small").count() == COUNT


def test_a_crash_leaves_the_old_rows_and_the_next_sync_replaces_what_it_left(
    path: str, tmp_path: Path
) -> None:
    sync(path, MIRROR, _batches(tmp_path), batch_size=100)
    other = replace(MIRROR, embeddings="digest-2")

    def dying() -> Any:
        yield _batches(tmp_path, "stale", 4)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync(path, other, dying(), batch_size=10)
    names = {found.name for found in chroma._client(path).list_collections()}
    assert names == {"small", "small" + chroma._BESIDE}
    assert set(open_collection(path, "small").get()["documents"]) == {c.text for c in _chunks()}

    assert sync(path, other, _batches(tmp_path, "fresh", 5), batch_size=10) is True
    names = {found.name for found in chroma._client(path).list_collections()}
    assert names == {"small"}
    found = open_collection(path, "small")
    assert set(found.get()["documents"]) == {c.text for c in _chunks("fresh")}


def test_two_collections_live_side_by_side(path: str, tmp_path: Path) -> None:
    sync(path, MIRROR, _batches(tmp_path), batch_size=100)
    sync(path, replace(MIRROR, collection="other"), _batches(tmp_path, "b", 2)[:1], batch_size=100)
    assert open_collection(path, "small").count() == COUNT
    assert open_collection(path, "other").count() == 25


def test_another_model_and_a_missing_collection_are_refused(path: str, tmp_path: Path) -> None:
    sync(path, MIRROR, _batches(tmp_path), batch_size=100)
    with pytest.raises(InputError, match="made by another model"):
        open_collection(path, "small", model="model-2")
    assert open_collection(path, "small").count() == COUNT
    with pytest.raises(InputError, match=r"no such Chroma collection.*jobs\.embed"):
        open_collection(path, "large", model="model-1")
