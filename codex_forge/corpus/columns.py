"""What a `ChunkTable` is made of: columns in memory, and a spool on disk that they point into."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codex_forge.corpus.spool import Spool
from codex_forge.corpus.strict_json import load
from codex_forge.records import Chunk

_BLOCK = 1 << 20
"""Bytes that one read of a stream asks for; a longer chunk is read in one piece."""


@dataclass(frozen=True, eq=False)
class Columns:
    """A row is a chunk, in the order of the corpus; `n` rows."""

    spool: Spool
    """Of each chunk its text in UTF-8, then `[mentions, metadata]` as `strict_json.dump` wrote."""
    starts: NDArray[np.int64]
    """Where each chunk begins in the spool, and at last where the last one ends; shape (n + 1,)."""
    text_ends: NDArray[np.int64]
    """Where the text of each chunk ends in the spool; shape (n,), as all below unless said."""
    ids: NDArray[np.uint64]
    """The ids, read as numbers."""
    files: dict[str, int]
    """Number of each distinct filename, 0 and up."""
    file_of: NDArray[np.int32]
    types: dict[str, int]
    type_of: NDArray[np.int32]
    times: NDArray[np.float64]
    mentions: list[str]
    mention_shown: list[str]
    mention_ptr: NDArray[np.int64]
    """Shape (n + 1,)."""
    mention_of: NDArray[np.int32]
    """Shape (mention_ptr[n],)."""
    file_names: list[str]
    type_names: list[str]

    def chunk(self, row: int) -> Chunk:
        """The chunk of a row."""
        start, end = int(self.starts[row]), int(self.starts[row + 1])
        return self._chunk(row, self.spool.read(start, end), int(self.text_ends[row]) - start)

    def text(self, row: int) -> str:
        """Its text."""
        return self.spool.read(int(self.starts[row]), int(self.text_ends[row])).decode()

    def stream(self, start: int, stop: int) -> Iterator[Chunk]:
        """The chunks from row `start` up to `stop`, with few reads."""
        for row, data, text_length in self._blocks(start, stop):
            yield self._chunk(row, data, text_length)

    def stream_texts(self, start: int, stop: int) -> Iterator[str]:
        """Their texts."""
        for _, data, text_length in self._blocks(start, stop):
            yield data[:text_length].decode()

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[int, bytes, int]]:
        """(row, its bytes, how many of them are text)."""
        while start < stop:
            base = int(self.starts[start])
            fits = int(np.searchsorted(self.starts, base + _BLOCK, side="right")) - 1
            end = min(stop, max(start + 1, fits))
            places = (self.starts[start : end + 1] - base).tolist()
            lengths = (self.text_ends[start:end] - self.starts[start:end]).tolist()
            data = self.spool.read(base, base + places[-1])
            for offset, length in enumerate(lengths):
                yield start + offset, data[places[offset] : places[offset + 1]], length
            start = end

    def _chunk(self, row: int, data: bytes, text_length: int) -> Chunk:
        mentions, metadata = load(data[text_length:])
        time = float(self.times[row])
        return Chunk(
            chunk_id=f"{int(self.ids[row]):016x}",
            text=data[:text_length].decode(),
            filename=self.file_names[self.file_of[row]],
            mentions=tuple(mentions),
            chunk_type=self.type_names[self.type_of[row]],
            temporal_order=None if math.isnan(time) else time,
            metadata=metadata,
        )
