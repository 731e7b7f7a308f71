"""Exact search for one query at a time, with ids of any sort: what rankings are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codex_forge.search import Floats, Mask, nearest


class ExactDense:
    """Exact search for one query at a time, over vectors in memory."""

    def __init__(self, chunk_ids: Sequence[str], vectors: Floats) -> None:
        """`vectors` has shape (chunks, dimension) and is not copied."""
        self.chunk_ids = list(chunk_ids)
        self._in_order = sorted(self.chunk_ids)
        number = {chunk_id: i for i, chunk_id in enumerate(self._in_order)}
        self._numbers = np.array([number[each] for each in chunk_ids], dtype=np.uint64)
        self._vectors = vectors

    def search(
        self, query_vector: Floats, k: int, allowed: Mask | None = None
    ) -> list[tuple[str, float]]:
        """The `k` best chunks for a vector of shape (dimension,); `allowed` is as `chunk_ids`."""
        keep = slice(None) if allowed is None else allowed
        blocks = [(self._numbers[keep], self._vectors[keep])]
        found = nearest(blocks, query_vector[None], k)[0]
        return [(self._in_order[i], score) for i, score in found]
