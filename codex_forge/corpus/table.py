"""The chunks of a corpus: columns in memory, texts and metadata on disk.

A million chunks take some hundred megabytes of memory, however long their texts are. A chunk is
put together anew each time that it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from codex_forge.corpus.columns import Columns
from codex_forge.records import Chunk

_CHUNK_ID = re.compile("[0-9a-f]{16}")

Positions = NDArray[np.int32]


class Chunks(Sequence[Chunk]):
    """Some rows of a `ChunkTable`, in any order; a slice is as lazy as the whole."""

    def __init__(self, columns: Columns, rows: range) -> None:
        """The chunks of some rows."""
        self._columns, self._rows = columns, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int) -> Chunk: ...
    @overload
    def __getitem__(self, key: slice) -> Chunks: ...
    def __getitem__(self, key: int | slice) -> Chunk | Chunks:
        if isinstance(key, slice):
            return Chunks(self._columns, self._rows[key])
        return self._columns.chunk(self._rows[key])

    def __iter__(self) -> Iterator[Chunk]:
        if self._rows.step == 1:
            return self._columns.stream(self._rows.start, self._rows.stop)
        return (self._columns.chunk(row) for row in self._rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def texts(self) -> Iterator[str]:
        """The texts alone, in order, read as a stream."""
        if self._rows.step == 1:
            return self._columns.stream_texts(self._rows.start, self._rows.stop)
        return (self._columns.text(row) for row in self._rows)


class ChunkTable(Chunks):
    """All chunks of a corpus, as a sequence and as columns."""

    files: list[str]
    """Distinct filenames, in the order in which they first come."""
    file_of: NDArray[np.int32]
    """Of each chunk the position of its filename in `files`; shape (chunks,)."""
    types: list[str]
    """Distinct types, in the order in which they first come; "" for chunks without one."""
    type_of: NDArray[np.int32]
    """Of each chunk the position of its type in `types`; shape (chunks,)."""
    times: NDArray[np.float64]
    """`temporal_order` of each chunk, NaN where there is none; shape (chunks,)."""
    mentions: list[str]
    """Distinct mentions, normalised, in the order in which they first come."""
    mention_shown: list[str]
    """The mentions as they were first written; parallel to `mentions`."""
    mention_ptr: NDArray[np.int64]
    """Chunk `i` has `mention_of[mention_ptr[i] : mention_ptr[i + 1]]`; shape (chunks + 1,)."""
    mention_of: NDArray[np.int32]
    """Positions in `mentions`; those of one chunk are distinct, in the order of the chunk."""

    def __init__(self, columns: Columns) -> None:
        """See `codex_forge.corpus.building` for what fills the columns."""
        super().__init__(columns, range(len(columns.ids)))
        self.files, self.file_of = columns.file_names, columns.file_of
        self.types, self.type_of = columns.type_names, columns.type_of
        self.times = columns.times
        self.mentions, self.mention_shown = columns.mentions, columns.mention_shown
        self.mention_ptr, self.mention_of = columns.mention_ptr, columns.mention_of

    @property
    def ids(self) -> NDArray[np.uint64]:
        """The ids, read as numbers, which have the order of the ids; shape (chunks,)."""
        return self._columns.ids

    def chunk_id(self, position: int) -> str:
        """The id of one chunk, without a read."""
        return f"{int(self._columns.ids[position]):016x}"

    def text(self, position: int) -> str:
        """The text of one chunk."""
        return self._columns.text(self._rows[position])

    def position(self, chunk_id: str) -> int:
        """The position of a chunk by its id.

        Raises:
            KeyError: there is no such chunk.
        """
        row = self._row_of_id(chunk_id)
        if row is None:
            raise KeyError(chunk_id)
        return row

    def named(self, name: str) -> Positions:
        """Positions, ascending, of the chunks of a filename, or of the one chunk of an id."""
        number = self._columns.files.get(name)
        found = self._of_file(number) if number is not None else np.zeros(0, dtype=np.int32)
        row = self._row_of_id(name)
        if row is None:
            return found
        return np.union1d(found, np.array([row], dtype=np.int32))

    def knows(self, name: str) -> bool:
        """Whether `named` finds anything."""
        return name in self._columns.files or self._row_of_id(name) is not None

    def _of_file(self, number: int) -> Positions:
        order, bounds = self._by_file
        return order[bounds[number] : bounds[number + 1]]

    def _row_of_id(self, name: str) -> int | None:
        if not _CHUNK_ID.fullmatch(name):
            return None
        wanted = np.uint64(int(name, 16))
        place = int(np.searchsorted(self._columns.ids, wanted, sorter=self._by_id))
        if place == len(self) or self._columns.ids[self._by_id[place]] != wanted:
            return None
        return int(self._by_id[place])

    @cached_property
    def _by_file(self) -> tuple[Positions, NDArray[np.int64]]:
        """Positions sorted by file, and where each file's begin."""
        order = np.argsort(self.file_of, kind="stable").astype(np.int32)
        counts = np.bincount(self.file_of, minlength=len(self.files))
        return order, np.concatenate(([0], np.cumsum(counts)))

    @cached_property
    def _by_id(self) -> NDArray[np.int64]:
        """Positions sorted by id."""
        return np.argsort(self._columns.ids, kind="stable")
