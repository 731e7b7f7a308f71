"""BM25 by the bm25s library (Lù, 2024), which ours is held against."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np

from codex_forge.search import Floats, tie_order, top, words


class Bm25:
    """BM25 over chunks, in memory."""

    def __init__(self, chunk_ids: Sequence[str], texts: Sequence[str]) -> None:
        """Index `texts`; their ids are parallel."""
        self.order = tie_order(chunk_ids)
        self.chunk_ids = [chunk_ids[i] for i in self.order]
        self._index = bm25s.BM25()
        terms = [words(texts[i]) for i in self.order]
        self._known = {term for found in terms for term in found}
        if self._known:
            self._index.index(terms, show_progress=False)

    def scores(self, query: str) -> Floats:
        """Score of every chunk, shape (chunks,), in the order of `chunk_ids`."""
        terms = [term for term in words(query) if term in self._known]
        if not terms:
            return np.zeros(len(self.chunk_ids), dtype=np.float32)
        found: Floats = self._index.get_scores(terms).astype(np.float32)
        return found

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """The `k` best chunks that share a word with the query."""
        scores = self.scores(query)
        return [(self.chunk_ids[i], float(scores[i])) for i in top(scores, k, scores > 0)]

    def positions(self, query: str, k: int) -> list[int]:
        """Like `search`, but positions in the texts that the index was made from."""
        scores = self.scores(query)
        return [int(self.order[i]) for i in top(scores, k, scores > 0)]
