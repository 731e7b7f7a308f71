"""Words of texts, and exact dense search over blocks of vectors: the best chunks, with scores.

Ties are broken by descending chunk id, as trec_eval does, so that a run file re-read by other
tools gives the same measures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.uint64]
"""Chunk ids as numbers that have the order of the ids."""
Blocks = Iterable[tuple[Numbers, Floats]]
"""Some chunks at a time: their ids, shape (rows,), and their vectors, shape (rows, dimension)."""
IsLate = Callable[[Numbers, slice], Mask | None]
"""Ids of chunks and a slice of the queries -> what may not be found, shape (queries, rows)."""

# The vowel signs of Indic scripts are marks, which `\w` leaves out.
_MARKS = "".join(sign for sign in map(chr, range(0x10000)) if category(sign).startswith("M"))
_WORD = re.compile(f"\\w[\\w{_MARKS}]*")
_ASCII_WORDS = bytes(
    ord(sign.lower()) if sign.isalnum() or sign == "_" else ord(" ")
    for sign in map(chr, range(128))
) + bytes(128)

_ROWS, _QUERIES = 8192, 1024
"""How many scores are looked at together: 32 MiB."""


def words(text: str) -> list[str]:
    """Case-folded runs of letters and digits: the terms of BM25, for any language with spaces."""
    if text.isascii():  # the same, in less than half the time
        return text.encode().translate(_ASCII_WORDS).decode().split()
    return _WORD.findall(text.casefold())


class Best:
    """The best chunks so far of each of many queries, while chunks go by in blocks."""

    def __init__(self, queries: int, k: int) -> None:
        """Keep the `k` best of each query."""
        self._k = k
        self._scores = np.full((queries, k), -np.inf, dtype=np.float32)
        self._ids = np.zeros((queries, k), dtype=np.uint64)
        self._waiting: list[tuple[NDArray[np.int64], Floats, Numbers]] = []
        self._count = 0

    def take(self, ids: Numbers, scores: Floats) -> None:
        """Look at chunks with scores of shape (queries, rows); minus infinity is never found."""
        bar = self._scores[:, -1:]
        good = scores >= bar
        if good.sum() > self._scores.size and scores.shape[1] > self._k:
            least = np.partition(scores, -self._k, axis=1)[:, -self._k, None]
            good = scores >= np.maximum(bar, least)
        which, at = np.nonzero(good)
        self._waiting.append((which, scores[which, at], ids[at]))
        self._count += len(which)
        if self._count > self._scores.size:
            self._merge()

    def ranked(self) -> Iterator[list[tuple[int, float]]]:
        """For each query its chunks, best first: id and score."""
        self._merge()
        for ids, scores in zip(self._ids, self._scores, strict=True):
            found = scores > -np.inf
            yield list(zip(ids[found].tolist(), scores[found].tolist(), strict=True))

    def _merge(self) -> None:
        """Put what waits in its place."""
        queries = len(self._scores)
        held = np.repeat(np.arange(queries), self._k), self._scores.ravel(), self._ids.ravel()
        which, scores, ids = (np.concatenate(c) for c in zip(held, *self._waiting, strict=True))
        order = np.lexsort((~ids, -scores, which))
        starts = np.searchsorted(which[order], np.arange(queries))
        kept = order[starts[:, None] + np.arange(self._k)]
        self._scores, self._ids = scores[kept], ids[kept]
        self._waiting, self._count = [], 0


def nearest(
    blocks: Blocks, queries: Floats, k: int, is_late: IsLate | None = None
) -> list[list[tuple[int, float]]]:
    """The `k` chunks of the largest inner product with each query: ids and scores, best first.

    Exact: every chunk is looked at once, whatever memory its vector then takes is free again. With
    vectors of unit length the product is the cosine.

    Args:
        blocks: all chunks; each id once.
        queries: shape (queries, dimension).
        k: how many; fewer are found where fewer may be.
        is_late: what may not be found, for some queries.
    """
    groups = [slice(i, i + _QUERIES) for i in range(0, len(queries), _QUERIES)]
    best = [Best(len(queries[group]), k) for group in groups]
    for ids, vectors in _cut(blocks):
        for group, found in zip(groups, best, strict=True):
            scores = queries[group] @ vectors.T
            late = None if is_late is None else is_late(ids, group)
            if late is not None:
                scores[late] = -np.inf
            found.take(ids, scores)
    return [ranking for found in best for ranking in found.ranked()]


def _cut(blocks: Blocks) -> Blocks:
    for ids, vectors in blocks:
        for start in range(0, len(ids), _ROWS):
            rows = slice(start, start + _ROWS)
            yield ids[rows], vectors[rows]


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
