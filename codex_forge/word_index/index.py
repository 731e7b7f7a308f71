"""An inverted index over the words of many texts: the best by BM25 and by TF-IDF cosine, exactly.

Built in one pass with bounded memory: blocks of postings, sorted by word and text, wait in a
nameless file until all words are counted, and are then laid out word by word (sort-based indexing;
Witten, Moffat & Bell, Managing Gigabytes, chapter 5). A search reads the shortest lists first and
stops to take in texts once the words that are left cannot lift a new one among the best (MaxScore;
Turtle & Flood 1995); their part in the score is looked up for the few that still can win.

Nothing depends on time or threads. Scores are summed in double precision in one order and then
rounded, so that texts whose scores differ in nothing but rounding tie; the smaller position is
first. An index serves one thread at a time.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codex_forge.progress import progress
from codex_forge.search import words
from codex_forge.word_index.blocks import Blocks
from codex_forge.word_index.measures import (
    Counts,
    Doubles,
    Floats,
    Measure,
    Positions,
    logarithmic,
    roughly_logarithmic,
    roughly_saturated,
    saturated,
)

_K1, _B = 1.5, 0.75
_HEAVIEST = 32
_SOME = 16_384
"""Of a long list's texts that are looked at for good ones; a list of more is long."""
_SLACK = 1e-5
"""More than all rounding, of scores and of bounds, relative to a score."""


class _List(NamedTuple):
    """One word of a query: the texts that hold it, and what it may give to a score at most."""

    texts: Positions
    counts: Counts
    weight: float
    bound: float


class WordIndex:
    """The words of texts, with the texts' positions as their names."""

    def __init__(self, texts: Iterable[str], scratch: Path | None = None) -> None:
        """Read `texts` once; `scratch` is a folder for a nameless file, 5 bytes a posting."""
        with tempfile.TemporaryFile(dir=scratch) as file:
            blocks = Blocks(texts, file)
            self._numbers = blocks.numbers
            self._size = len(blocks.lengths)
            holders = blocks.holders
            lengths = np.array(blocks.lengths, dtype=np.float64)
            average = lengths.sum() / max(1, self._size) or 1.0
            self._rarity = np.log1p((self._size - holders + 0.5) / (holders + 0.5))
            self._weight = np.log1p(self._size / holders)
            self._starts = np.concatenate(([0], np.cumsum(holders)))
            peaks = np.zeros((2, len(holders)), dtype=np.float32)
            damping = _K1 * (1 - _B + _B * lengths / average)
            norms = np.zeros(self._size)
            self._bm25 = Measure(damping, peaks[0], saturated, roughly_saturated)
            self._cosine = Measure(norms, peaks[1], logarithmic, roughly_logarithmic)
            self._lay_out(blocks)
        self._sums = np.zeros(self._size, dtype=np.float32)

    def __len__(self) -> int:
        """How many texts there are."""
        return self._size

    @property
    def size_bytes(self) -> int:
        """What the postings take in memory; the vocabulary is not counted."""
        return self._texts.nbytes + self._counts.nbytes + self._starts.nbytes

    def holders(self, word: str) -> int:
        """How many texts hold a word, written as `search.words` gives it."""
        known = self._numbers.get(word)
        return 0 if known is None else int(self._starts[known + 1] - self._starts[known])

    def search(self, query: str, k: int) -> list[tuple[int, float]]:
        """The `k` best texts that share a word with the query, by BM25 as Lucene computes it.

        k1 is 1.5 and b 0.75, as bm25s has them; a word that the query repeats counts as often.
        """
        lists = self._lists(self._query_weights(query), self._bm25)
        return self._best(lists, self._bm25, k)

    def positions(self, query: str, k: int) -> list[int]:
        """Like `search`, without the scores."""
        return [position for position, _ in self.search(query, k)]

    def scores(self, query: str, positions: Sequence[int]) -> Floats:
        """The BM25 scores of some texts, in their order; 0 for those that share no word."""
        lists = self._lists(self._query_weights(query), self._bm25)
        return self._scores_of(lists, self._bm25, positions).astype(np.float32)

    def cosine(self, text: str, positions: Sequence[int]) -> Floats:
        """The cosine of a text and each of some texts of the index, as TF-IDF vectors.

        A word that a text holds c times weighs (1 + ln c) ln(1 + N/n), where n of the N texts hold
        it; one that none holds weighs as if one did. This is `ltc` of Salton & Buckley (1988), with
        1 + N/n in place of N/n, so that words in every text keep a weight and equal texts have
        cosine 1. Texts without words have cosine 0.
        """
        weights, norm = self._vector(text)
        lists = self._lists(weights, self._cosine, self._weight)
        return (self._scores_of(lists, self._cosine, positions) / norm).astype(np.float32)

    def similar(self, text: str, k: int) -> list[tuple[int, float]]:
        """The `k` texts of largest cosine with `text`, of those that share a word with it.

        Of `text` only the 32 heaviest words count (the longest word lists would cost most and say
        least), in the cosine that is returned too; `cosine` has that of whole texts.
        """
        weights, norm = self._vector(text, _HEAVIEST)
        lists = self._lists(
            {term: weight / norm for term, weight in weights.items()}, self._cosine, self._weight
        )
        return self._best(lists, self._cosine, k)

    def _query_weights(self, query: str) -> dict[int, float]:
        found: dict[int, float] = {}
        for term, times in Counter(words(query)).items():
            known = self._numbers.get(term)
            if known is not None:
                found[known] = times * float(self._rarity[known])
        return found

    def _vector(self, text: str, heaviest: int | None = None) -> tuple[dict[int, float], float]:
        """Known words of a text and their TF-IDF weights; and the norm, of unknown ones too."""
        unknown = math.log1p(self._size)
        every = []
        for term, times in Counter(words(text)).items():
            known = self._numbers.get(term, -1)
            rarity = float(self._weight[known]) if known >= 0 else unknown
            every.append(((1 + math.log(times)) * rarity, known))
        if heaviest is not None:
            every.sort(reverse=True)
            every = [(weight, term) for weight, term in every if term >= 0][:heaviest]
        norm = math.sqrt(math.fsum(weight * weight for weight, _ in every)) or 1.0
        return {term: weight for weight, term in every if term >= 0}, norm

    def _lists(
        self, weights: dict[int, float], measure: Measure, rarity: Doubles | None = None
    ) -> list[_List]:
        """The words' lists, the shortest first."""
        lists = []
        for term, weight in weights.items():
            span = slice(self._starts[term], self._starts[term + 1])
            whole = weight if rarity is None else weight * float(rarity[term])
            bound = whole * float(measure.peaks[term])
            lists.append(_List(self._texts[span], self._counts[span], whole, bound))
        return sorted(lists, key=lambda found: len(found.texts))

    def _scores_of(self, lists: list[_List], measure: Measure, positions: Sequence[int]) -> Doubles:
        wanted, back = np.unique(np.asarray(positions, dtype=np.int32), return_inverse=True)
        every: Doubles = _totals(lists, measure, wanted)[back]
        return every

    def _best(self, lists: list[_List], measure: Measure, k: int) -> list[tuple[int, float]]:
        if k <= 0 or not lists:
            return []
        rest = [math.fsum(found.bound for found in lists[i:]) for i in range(len(lists) + 1)]
        try:
            taken, bar = self._add_up(lists, rest, measure, k)
            near = self._able(lists[:taken], bar - rest[taken])
            sums = self._sums[near].astype(np.float64)
        finally:
            self._forget(lists)
        for i in range(taken, len(lists)):
            if len(near) > k:
                kth = float(np.partition(sums, len(near) - k)[len(near) - k])
                bar = max(bar, kth * (1 - _SLACK))
                able = sums + rest[i] >= bar
                near, sums = near[able], sums[able]
            sums += _gains(lists[i], measure, near)
        if len(near) > k:
            kth = float(np.partition(sums, len(near) - k)[len(near) - k])
            near = near[sums >= max(bar, kth * (1 - _SLACK))]
        scores = _totals(lists, measure, near).astype(np.float32)
        order = np.lexsort((near, -scores))[:k]
        return [(int(near[j]), float(scores[j])) for j in order]

    def _add_up(
        self, lists: list[_List], rest: list[float], measure: Measure, k: int
    ) -> tuple[int, float]:
        """Sum up, in single precision, the lists that may lift a new text among the best.

        Give how many these are, and a bar that the best `k` reach for certain.
        """
        bar = 0.0
        for i, found in enumerate(lists):
            if i and len(found.texts) >= _SOME:
                bar = max(bar, self._bar(lists, i, measure, k))
            if rest[i] < bar:
                return i, bar
            gains = measure.rough(found.counts, measure.of_text[found.texts])
            gains *= np.float32(found.weight)
            self._sums[found.texts] += gains
        return len(lists), max(bar, self._bar(lists, len(lists), measure, k))

    def _bar(self, lists: list[_List], taken: int, measure: Measure, k: int) -> float:
        """What `k` texts that look good so far reach with all words; 0 if so many are not found."""
        for found in lists[:taken]:
            if len(found.texts) >= k:
                some = found.texts[: max(_SOME, k)]
                most = min(len(some), 4 * k)
                top = np.argpartition(self._sums[some], len(some) - most)[len(some) - most :]
                scores = _totals(lists, measure, np.sort(some[top]))
                return float(np.partition(scores, most - k)[most - k]) * (1 - _SLACK)
        return 0.0

    def _able(self, lists: list[_List], least: float) -> Positions:
        """The texts whose sums are at least `least`, ascending."""
        if least > 0 and sum(len(found.texts) for found in lists) > self._size // 8:
            return np.flatnonzero(self._sums >= np.float32(least)).astype(np.int32)
        near = np.concatenate([t[self._sums[t] >= np.float32(least)] for t, *_ in lists])
        near.sort()
        return near[np.concatenate(([True], near[1:] != near[:-1]))] if len(near) else near

    def _forget(self, lists: list[_List]) -> None:
        """Make the sums 0 again."""
        if sum(len(found.texts) for found in lists) > self._size // 4:
            self._sums.fill(0)
        else:
            for found in lists:
                self._sums[found.texts] = 0

    def _lay_out(self, blocks: Blocks) -> None:
        """Move the blocks' postings to where their words stand, and measure the words."""
        total = int(self._starts[-1])
        self._texts: Positions = np.empty(total, dtype=np.int32)
        self._counts: Counts = np.empty(total, dtype=blocks.widest)
        next_of = self._starts[:-1].copy()
        for first, end, held, holders, texts, counts in progress(
            blocks, "blocks of words laid out", len(blocks)
        ):
            starts = np.cumsum(holders) - holders
            weights = logarithmic(counts, np.ones(1)) * np.repeat(self._weight[held], holders)
            squares = np.bincount(texts - first, weights**2, end - first)
            self._cosine.of_text[first:end] = np.sqrt(squares)
            for measure in (self._cosine, self._bm25):
                impacts = measure.impact(counts, measure.of_text[texts])
                peaks = np.maximum.reduceat(impacts, starts)
                measure.peaks[held] = np.maximum(measure.peaks[held], peaks)
            to = np.repeat(next_of[held] - starts, holders)
            to += np.arange(len(texts))
            self._texts[to] = texts
            self._counts[to] = counts
            next_of[held] += holders


def _gains(found: _List, measure: Measure, wanted: Positions) -> Doubles:
    """What the word gives to the scores of the texts `wanted`, which ascend."""
    at = np.searchsorted(found.texts, wanted)
    np.minimum(at, len(found.texts) - 1, out=at)
    which = np.flatnonzero(found.texts[at] == wanted)
    gains = np.zeros(len(wanted))
    of_text = measure.of_text[wanted[which]]
    gains[which] = found.weight * measure.impact(found.counts[at[which]], of_text)
    return gains


def _totals(lists: list[_List], measure: Measure, wanted: Positions) -> Doubles:
    total = np.zeros(len(wanted))
    for found in lists:
        total += _gains(found, measure, wanted)
    return total
