"""Blocks of vectors: a block is encoded while the next one is read, looked up and tokenised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codex_forge import embeddings
from codex_forge.config import RunConfig
from codex_forge.corpus import Chunks
from codex_forge.embed.reuse import Reused
from codex_forge.embeddings import EmbeddingsWriter, Floats, Stored
from codex_forge.model.in_use import EncoderInUse, ModelInUse, load_encoder
from codex_forge.records import Chunk


class _Begun(NamedTuple):
    """A block that waits for the model."""

    chunks: list[Chunk]
    old: NDArray[np.int64]
    """Rows whose vectors are there already."""
    stored: Stored | None
    """These vectors, as they are kept; parallel to `old`."""
    new: NDArray[np.int64]
    encode: Callable[[], Floats] | None
    """Gives the vectors of the `new` rows, if there are any."""


class BlockMaker:
    """Writes blocks of a shard's chunks with their vectors."""

    def __init__(
        self, config: RunConfig, model: ModelInUse, chunks: Chunks, before: Reused
    ) -> None:
        """The model is loaded when the first block needs it: all blocks may be there."""
        self.config, self.model, self.before = config, model, before
        self._chunks = chunks
        self._encoder: EncoderInUse | None = None
        self._thread = ThreadPoolExecutor(1)
        self._ahead: tuple[int, Future[_Begun]] | None = None

    def make(self, path: Path, rows: Sequence[int]) -> None:
        """Write the block of some rows, which follow one another, to a path."""
        begun = self._begun(rows)
        self._begin_next(rows[-1] + 1)
        stored, dimension = self._stored(begun)
        with EmbeddingsWriter(path, dimension, self.config.embed.dtype) as writer:
            writer.write_stored(begun.chunks, stored)

    def close(self) -> None:
        """Let go of what was begun ahead."""
        self._thread.shutdown(cancel_futures=True)

    def _begun(self, rows: Sequence[int]) -> _Begun:
        """What was begun ahead, if it is this block: blocks that are there are passed over."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead[0] != rows[0]:
            ahead = (rows[0], self._thread.submit(self._begin, rows[0]))
        return ahead[1].result()

    def _begin_next(self, start: int) -> None:
        if start < len(self._chunks):
            self._ahead = (start, self._thread.submit(self._begin, start))

    def _begin(self, start: int) -> _Begun:
        """Only ever run by the one thread."""
        chunks = list(self._chunks[start : start + self.config.embed.rows_per_block])
        texts = [chunk.text for chunk in chunks]
        old, stored = self.before.of(texts)
        new = np.setdiff1d(np.arange(len(texts)), old)
        if not len(new):
            return _Begun(chunks, old, stored, new, None)
        if self._encoder is None:
            self._encoder = load_encoder(self.model, self.config)
        encode = self._encoder.begin_documents([texts[row] for row in new])
        return _Begun(chunks, old, stored, new, encode)

    def _stored(self, begun: _Begun) -> tuple[Stored, int]:
        """The vectors of a block as they are kept, and their length."""
        if begun.encode is None:
            return _joined(begun, None), self.before.dimension
        vectors = begun.encode()
        fresh = embeddings.to_stored(vectors, self.config.embed.dtype)
        return _joined(begun, fresh), vectors.shape[1]


def _joined(begun: _Begun, fresh: Stored | None) -> Stored:
    """Old and new vectors in the order of the chunks."""
    parts = [(begun.old, begun.stored), (begun.new, fresh)]
    known = [(rows, stored) for rows, stored in parts if stored is not None]
    found = np.empty((len(begun.chunks), *known[0][1].shape[1:]), dtype=known[0][1].dtype)
    for rows, stored in known:
        found[rows] = stored
    return found
