"""Fills a `ChunkTable`, a chunk at a time, and knows of each chunk where it was read."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from codex_forge.corpus.columns import Columns
from codex_forge.corpus.spool import Spool
from codex_forge.corpus.strict_json import dump
from codex_forge.corpus.table import ChunkTable
from codex_forge.entities import normalise
from codex_forge.records import Chunk

_REMEMBERED = 1 << 16
"""Written forms of mentions that are not normalised again."""


class TableBuilder:
    """Takes chunks in the order of the corpus."""

    def __init__(self, scratch: Path | None = None) -> None:
        """Nothing yet; texts will lie in the folder `scratch`, or in the system's temporary one."""
        self._spool = Spool(scratch)
        self._starts, self._text_ends = array("q", [0]), array("q")
        self._rows: dict[int, int] = {}
        """Row by id; as a dict keeps its order, its keys are the ids in the order of the rows."""
        self._files: dict[str, int] = {}
        self._types: dict[str, int] = {}
        self._mentions: dict[str, int] = {}
        self._shown: list[str] = []
        self._file_of, self._type_of, self._times = array("i"), array("i"), array("d")
        self._mention_ptr, self._mention_of = array("q", [0]), array("i")
        self._normalised = lru_cache(_REMEMBERED)(normalise)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, chunk_id: str) -> int | None:
        """The row of a chunk that was added, by its id."""
        return self._rows.get(int(chunk_id, 16))

    def add(self, chunk: Chunk, plain: bool = False) -> None:
        """Add a chunk whose id is new; `plain` when orjson reads its metadata as they are.

        Raises:
            ValueError: the id was there already.
        """
        number = int(chunk.chunk_id, 16)
        if self._rows.setdefault(number, len(self._rows)) != len(self._starts) - 1:
            raise ValueError(f"chunk {chunk.chunk_id} is there already")
        self._text_ends.append(self._spool.write(chunk.text.encode()))
        rest = dump([chunk.mentions, chunk.metadata], plain)
        self._starts.append(self._spool.write(rest))
        self._file_of.append(self._files.setdefault(chunk.filename, len(self._files)))
        self._type_of.append(self._types.setdefault(chunk.chunk_type, len(self._types)))
        time = chunk.temporal_order
        self._times.append(math.nan if time is None else time)
        if chunk.mentions:
            numbers = dict.fromkeys(map(self._number_of_mention, chunk.mentions))
            self._mention_of.extend(number for number in numbers if number >= 0)
        self._mention_ptr.append(len(self._mention_of))

    def table(self) -> ChunkTable:
        """The table of what was added; nothing more may be added then."""
        ids = np.fromiter(self._rows, dtype=np.uint64, count=len(self._rows))
        self._rows.clear()
        self._spool.flush()  # after a fork, two processes would write what waits
        return ChunkTable(
            Columns(
                spool=self._spool,
                starts=np.frombuffer(self._starts, dtype=np.int64),
                text_ends=np.frombuffer(self._text_ends, dtype=np.int64),
                ids=ids,
                files=self._files,
                file_names=list(self._files),
                file_of=np.frombuffer(self._file_of, dtype=np.int32),
                types=self._types,
                type_names=list(self._types),
                type_of=np.frombuffer(self._type_of, dtype=np.int32),
                times=np.frombuffer(self._times, dtype=np.float64),
                mentions=list(self._mentions),
                mention_shown=self._shown,
                mention_ptr=np.frombuffer(self._mention_ptr, dtype=np.int64),
                mention_of=np.frombuffer(self._mention_of, dtype=np.int32),
            )
        )

    def _number_of_mention(self, written: str) -> int:
        """The number of a mention; -1 when nothing is left of it, normalised."""
        key = self._normalised(written)
        if not key:
            return -1
        number = self._mentions.setdefault(key, len(self._shown))
        if number == len(self._shown):
            self._shown.append(key if key == written else written)
        return number


def table_of(chunks: Iterable[Chunk], scratch: Path | None = None) -> ChunkTable:
    """A table of these chunks, whose ids differ and are those of `chunk_id_of`."""
    builder = TableBuilder(scratch)
    for chunk in chunks:
        builder.add(chunk)
    return builder.table()
