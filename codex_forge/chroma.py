"""A ChromaDB collection as a mirror of an embed artifact: rebuilt from it, never the truth.

The collection's metadata holds the digest of the embeddings and the fingerprint of the model that
made them, so that one model's queries are not asked of another model's vectors.
"""

from __future__ import annotations

import fcntl
import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codex_forge.errors import InputError
from codex_forge.storage import faults

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from chromadb.api import ClientAPI

log = logging.getLogger("codex_forge")

_EMBEDDINGS = "codex_forge_embeddings"
_MODEL = "codex_forge_model"
_BESIDE = ".unfinished" + 100 * "0"
"""Makes a name that is too long for any run's own."""


@dataclass(frozen=True)
class Mirror:
    """What a collection is to hold."""

    collection: str
    embeddings: str
    """Digest of the embed artifact."""
    model: str
    """Digest of the model."""
    rows: int


def sync(path: str, mirror: Mirror, batches: Iterable[pa.RecordBatch], batch_size: int) -> bool:
    """Make the collection hold exactly the rows of `batches`; returns False when it already does.

    The new collection is filled beside the old one and takes its name at the end: readers see all
    old rows until then, for a moment no collection of that name, and then all new rows.
    """
    with _locked(path):
        client = _client(path)
        if _holds(client, mirror):
            return False
        beside = mirror.collection + _BESIDE
        _drop(client, beside)
        metadata = {_EMBEDDINGS: mirror.embeddings, _MODEL: mirror.model}
        fresh = client.create_collection(
            beside,
            metadata=metadata,
            configuration={"hnsw": {"space": "cosine"}},
            embedding_function=None,
        )
        size = min(batch_size, client.get_max_batch_size())
        for batch in batches:
            for start in range(0, batch.num_rows, size):
                fresh.upsert(**_rows(batch.slice(start, size)))
        _drop(client, mirror.collection)
        fresh.modify(name=mirror.collection)
        return True


def open_collection(path: str, collection: str, model: str | None = None) -> Any:
    """Open a collection that `embed` wrote; with `model`, only if that model made its vectors.

    Raises:
        InputError: there is no such collection, or another model made it.
    """
    client = _client(path)
    where = f"{path} ({collection})"
    if collection not in {found.name for found in client.list_collections()}:
        raise InputError("no such Chroma collection", where=where, do="run python -m jobs.embed")
    found = client.get_collection(collection, embedding_function=None)
    if model is not None and (found.metadata or {}).get(_MODEL) != model:
        raise InputError(
            "the collection was made by another model", where=where, do="embed with this model"
        )
    return found


def _client(path: str) -> ClientAPI:
    import chromadb
    from chromadb.config import Settings
    from chromadb.errors import ChromaError

    try:
        return chromadb.PersistentClient(path, settings=Settings(anonymized_telemetry=False))
    except (ChromaError, OSError, ValueError, sqlite3.Error) as error:
        raise InputError(
            f"not usable as a ChromaDB folder ({error})", where=path, do="see embed.chroma.path"
        ) from error


def _holds(client: ClientAPI, mirror: Mirror) -> bool:
    if mirror.collection not in {found.name for found in client.list_collections()}:
        return False
    found = client.get_collection(mirror.collection, embedding_function=None)
    same = (found.metadata or {}).get(_EMBEDDINGS) == mirror.embeddings
    return same and found.count() == mirror.rows


def _drop(client: ClientAPI, name: str) -> None:
    """Delete a collection of ours.

    Raises:
        InputError: another tool made it.
    """
    for found in client.list_collections():
        if found.name == name:
            if _EMBEDDINGS not in (found.metadata or {}):
                raise InputError(
                    f"the Chroma collection {name!r} was not made by codex-forge",
                    do="give the run another name, or another embed.chroma.path",
                )
            client.delete_collection(name)


def _rows(batch: pa.RecordBatch) -> dict[str, Any]:
    columns = {name: batch.column(name) for name in batch.schema.names}
    vectors = columns["vector"].flatten().to_numpy()
    return {
        "ids": columns["chunk_id"].to_pylist(),
        "embeddings": vectors.reshape(batch.num_rows, -1),
        "documents": columns["text"].to_pylist(),
        "metadatas": [json.loads(text) for text in columns["metadata"].to_pylist()],
    }


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """One writer at a time on this machine."""
    with faults(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    with (Path(path) / ".codex-forge.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
