"""When chunks happen: what a question with a time limit may not find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codex_forge.corpus import ChunkTable
from codex_forge.evaluate.retrieve import Asked
from codex_forge.search import IsLate, Mask, Numbers


class Times:
    """The `temporal_order` of every chunk, by its id; 16 bytes a chunk."""

    def __init__(self, chunks: ChunkTable) -> None:
        """Take the times of all chunks."""
        order = np.argsort(chunks.ids)
        self._ids, self._times = chunks.ids[order], chunks.times[order]
        self._any = not bool(np.isnan(self._times).all())

    def __contains__(self, chunk_id: str) -> bool:
        """Whether the corpus has the chunk."""
        try:
            number = np.uint64(int(chunk_id, 16))
        except (ValueError, OverflowError):
            return False
        at = int(np.searchsorted(self._ids, number))
        return at < len(self._ids) and bool(self._ids[at] == number)

    def of(self, ids: Numbers) -> NDArray[np.float64]:
        """The times of some chunks of the corpus; NaN for those that have none."""
        found: NDArray[np.float64] = self._times[np.searchsorted(self._ids, ids)]
        return found

    def late(self, asked: Sequence[Asked]) -> IsLate | None:
        """What these queries may not find, as `search.nearest` asks; None when all may be."""
        limits = np.array([np.inf if one.limit is None else one.limit for one in asked])
        if not self._any or np.isinf(limits).all():
            return None

        def is_late(ids: Numbers, queries: slice) -> Mask:
            late: Mask = self.of(ids)[None, :] > limits[queries, None]
            return late

        return is_late


def numbers_of(chunk_ids: Sequence[str]) -> Numbers:
    """Chunk ids (16 hex digits each) as numbers, in the same order."""
    return np.frombuffer(bytes.fromhex("".join(chunk_ids)), dtype=">u8").astype(np.uint64)
