"""Searchers over the corpus: BM25 and exact dense. Each gives a run: best chunks, with scores.

Ties are broken by descending chunk id, as trec_eval does, so that a run file re-read by other
tools gives the same measures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

# The vowel signs of Indic scripts are marks, which `\w` leaves out.
_MARKS = "".join(sign for sign in map(chr, range(0x10000)) if category(sign).startswith("M"))
_WORD = re.compile(f"\\w[\\w{_MARKS}]*")
_ASCII_WORDS = bytes(
    ord(sign.lower()) if sign.isalnum() or sign == "_" else ord(" ")
    for sign in map(chr, range(128))
) + bytes(128)


def words(text: str) -> list[str]:
    """Case-folded runs of letters and digits: the terms of BM25, for any language with spaces."""
    if text.isascii():  # the same, in less than half the time
        return text.encode().translate(_ASCII_WORDS).decode().split()
    return _WORD.findall(text.casefold())


class Bm25:
    """BM25 (Robertson et al., Okapi at TREC-3) over chunks, with the bm25s library."""

    def __init__(self, chunk_ids: Sequence[str], texts: Sequence[str]) -> None:
        """Index `texts`; their ids are parallel."""
        import bm25s

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

    def search(self, query: str, k: int, allowed: Mask | None = None) -> list[tuple[str, float]]:
        """The `k` best chunks that share a word with the query; `allowed` is in their order."""
        scores = self.scores(query)
        permitted = scores > 0 if allowed is None else (scores > 0) & allowed
        return [(self.chunk_ids[i], float(scores[i])) for i in top(scores, k, permitted)]

    def positions(self, query: str, k: int) -> list[int]:
        """Like `search`, but positions in the texts that the index was made from."""
        scores = self.scores(query)
        return [int(self.order[i]) for i in top(scores, k, scores > 0)]


class ExactDense:
    """Exact search by inner product; vectors of unit length make it the cosine."""

    def __init__(self, chunk_ids: Sequence[str], vectors: Floats) -> None:
        """`vectors` has shape (chunks, dimension) and is kept in tie order."""
        self.order = tie_order(chunk_ids)
        self.chunk_ids = [chunk_ids[i] for i in self.order]
        self._vectors = np.ascontiguousarray(vectors[self.order])

    def search(
        self, query_vector: Floats, k: int, allowed: Mask | None = None
    ) -> list[tuple[str, float]]:
        """The `k` best chunks for one query vector of shape (dimension,)."""
        scores = self._vectors @ query_vector
        return [(self.chunk_ids[i], float(scores[i])) for i in top(scores, k, allowed)]


def tie_order(chunk_ids: Sequence[str]) -> NDArray[np.int64]:
    """Positions of the ids in descending order."""
    positions = sorted(range(len(chunk_ids)), key=chunk_ids.__getitem__, reverse=True)
    return np.array(positions, dtype=np.int64)


def top(scores: Floats, k: int, allowed: Mask | None = None) -> list[int]:
    """Positions of the `k` largest scores, best first; equal scores in order of position."""
    candidates = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed)
    if len(candidates) > k:
        values = scores[candidates]
        bound = np.partition(values, len(values) - k)[len(values) - k]
        candidates = candidates[values >= bound]
    ranked = candidates[np.argsort(-scores[candidates], kind="stable")]
    return [int(i) for i in ranked[:k]]
