"""Near-duplicate texts: which queries repeat a protected question, up to small changes.

Two texts are compared by the character 4-grams of their words, twice: as plain sets (Jaccard), and
with each gram weighted by its rarity among the protected texts. Both must be high. The plain one
alone would call two questions of one wording about different things duplicates; the weighted one
alone would call every query with the same name a duplicate. Candidates come from an inverted index
by prefix filtering (Chaudhuri et al., ICDE 2006), so that none is missed and few are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from math import fsum
from typing import NamedTuple

from codex_forge.entities import normalise
from codex_forge.search import words
from codex_forge.shingles import jaccard

_GRAM = 4
_ROUNDING = 1e-9


class Match(NamedTuple):
    """The protected text most similar to a query."""

    key: str
    text: str
    similarity: float


@lru_cache(maxsize=65536)
def _grams_of_word(word: str) -> tuple[str, ...]:
    padded = f" {word} "
    return tuple(padded[i : i + _GRAM] for i in range(max(1, len(padded) - _GRAM + 1)))


def grams(text: str) -> frozenset[str]:
    """Character 4-grams of the words of a text, words padded by a space on each side."""
    plain = normalise(text)
    return frozenset(gram for word in words(plain) or [plain] for gram in _grams_of_word(word))


class NearDuplicates:
    """Protected texts (test and dev questions) that queries are held against."""

    def __init__(self, protected: Iterable[tuple[str, str]], threshold: float) -> None:
        """`protected` are (key, text); similar means at least `threshold`, in (0, 1].

        A text that is given twice counts once: its grams are no less rare, and those who hold the
        same texts find the same matches.
        """
        self._threshold = threshold
        keys: dict[str, str] = {}
        for key, text in protected:
            keys.setdefault(text, key)
        self._texts = [(key, text, grams(text)) for text, key in keys.items()]
        frequency: dict[str, int] = {}
        for _, _, found in self._texts:
            for gram in found:
                frequency[gram] = frequency.get(gram, 0) + 1
        self._rarest = math.log(len(self._texts) + 1.5)
        self._weights = {
            gram: max(1e-6, math.log((len(self._texts) + 1.5) / (count + 0.5)))
            for gram, count in frequency.items()
        }
        self._postings: dict[str, list[int]] = {}
        for position, (_, _, found) in enumerate(self._texts):
            for gram in self._prefix(found):
                self._postings.setdefault(gram, []).append(position)

    def find(self, text: str) -> Match | None:
        """The most similar protected text, when one is similar enough."""
        mine = grams(text)
        near = {p for gram in self._prefix(mine) for p in self._postings.get(gram, ())}
        best: Match | None = None
        for position in sorted(near):
            key, other, theirs = self._texts[position]
            least = best.similarity if best else self._threshold
            plain = jaccard(mine, theirs)
            if plain < least:
                continue
            similarity = min(plain, self._weighted(mine, theirs))
            if similarity >= self._threshold and (best is None or similarity > best.similarity):
                best = Match(key, other, similarity)
        return best

    def _weight(self, gram: str) -> float:
        return self._weights.get(gram, self._rarest)

    def _prefix(self, found: frozenset[str]) -> list[str]:
        """The rarest grams, one of which a similar text must share."""
        weight, rarest = self._weights.get, self._rarest
        ordered = sorted([(-weight(gram, rarest), gram) for gram in found])
        left = -fsum([lightness for lightness, _ in ordered])
        needed = self._threshold * left - _ROUNDING
        prefix = []
        for lightness, gram in ordered:
            if left < needed:
                break
            prefix.append(gram)
            left += lightness
        return prefix

    def _weighted(self, mine: frozenset[str], theirs: frozenset[str]) -> float:
        # fsum, because the order of a set differs from process to process.
        union = fsum(map(self._weight, mine | theirs))
        return fsum(map(self._weight, mine & theirs)) / union if union else 1.0
