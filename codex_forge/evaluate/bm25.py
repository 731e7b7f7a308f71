"""BM25 over the texts of the chunks: words alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codex_forge.corpus import ChunkTable
from codex_forge.evaluate.retrieve import Asked, Ranking
from codex_forge.progress import progress
from codex_forge.word_index import WordIndex


class Bm25Retriever:
    """Chunks that share words with the query (Robertson et al., Okapi at TREC-3)."""

    dimension: int | None = None
    in_memory = True

    def __init__(self, chunks: ChunkTable, scratch: Path) -> None:
        """Index the texts, read once from disk in the order in which ties are broken."""
        order = np.argsort(chunks.ids)[::-1]
        self._ids, self._times = chunks.ids[order], chunks.times[order]
        self._index = WordIndex((chunks.text(int(row)) for row in order), scratch)
        self.index_bytes: int | None = self._index.size_bytes

    def search(self, asked: Sequence[Asked], k: int) -> list[Ranking]:
        """A query after the other."""
        return [self._one(each, k) for each in progress(asked, "queries searched by words")]

    def _one(self, asked: Asked, k: int) -> Ranking:
        found = self._index.search(asked.text, k)
        wide = k
        while asked.limit is not None:
            within = [each for each in found if not self._times[each[0]] > asked.limit]
            if len(within) >= k or len(found) < wide:
                found = within[:k]
                break
            wide *= 4
            found = self._index.search(asked.text, wide)
        return [(f"{int(self._ids[position]):016x}", score) for position, score in found]
