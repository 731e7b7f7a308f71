"""What is wrong only beside other rows: repeats, contradictions, ids and texts that come too often.

A first pass hands every row over (`observe`); what is kept of it are 64-bit hashes, and the answers
(`freeze`) are small sets. A second pass asks about each row.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.defects.texts import either_way, plain
from codex_forge.hashes import Frequent, text_hash

_BLOCK = 1 << 20
_OFTEN = 50
_SCORED = "scored"
_SHARE = 0.01
_TIMES_THE_MEAN = 10
_APART = 0.5
"""Scores of one pair of texts this far apart contradict each other."""


class Columns:
    """Rows of whole numbers, kept sorted and each once; eight bytes a number."""

    def __init__(self, width: int) -> None:
        """Rows of `width` numbers."""
        self._width = width
        self._new = array("Q")
        self._kept: NDArray[np.uint64] = np.empty((0, width), dtype=np.uint64)

    def add(self, *row: int) -> None:
        """Add one row."""
        self._new.extend(row)
        if len(self._new) >= _BLOCK + len(self._kept):
            self.rows()

    def rows(self) -> NDArray[np.uint64]:
        """All distinct rows in order, shape (rows, width)."""
        if self._new:
            fresh = np.frombuffer(self._new, dtype=np.uint64).reshape(-1, self._width)
            both = np.concatenate([self._kept, fresh])
            both = both[np.lexsort(both.T[::-1])]
            first = np.ones(len(both), dtype=np.bool_)
            first[1:] = (both[1:] != both[:-1]).any(axis=1)
            self._kept, self._new = both[first], array("Q")
        return self._kept


class Across:
    """Facts about all rows, for questions about one."""

    def __init__(self) -> None:
        """Nothing observed yet."""
        self._pairs, self._ids, self._scores = Columns(1), Columns(2), Columns(2)
        self._often = {role: Frequent() for role in ("query", "positive", "negative")}
        self._labels: set[float] = set()
        self._distinct_scores: set[float] = set()
        self._scored = 0
        self._frozen = False
        self._keys: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._met = bytearray()
        self._two_texts: frozenset[int] = frozenset()
        self._torn: frozenset[int] = frozenset()

    def observe_pair(self, query: str, positive: str, negatives: Iterable[str]) -> None:
        """Take in one pair."""
        self._must_be_open()
        key = plain(query)
        answer = plain(positive)
        self._pairs.add(text_hash(key, answer))
        self._often["query"].add(text_hash(key))
        self._often["positive"].add(text_hash(answer))
        for text in negatives:
            self._often["negative"].add(text_hash(plain(text)))

    def observe_id(self, role: str, given: object, text: str) -> None:
        """Take in that a text bears an id, among the ids of one role."""
        if given is not None:
            self._ids.add(text_hash(role, str(given)), text_hash(text))

    def observe_scored(self, one: str, other: str, value: float, *, is_label: bool) -> None:
        """Take in one scored or labelled pair; `value` in 0..1."""
        self._must_be_open()
        self._scored += 1
        if is_label:
            self._labels.add(value)
        elif len(self._distinct_scores) <= 1:
            self._distinct_scores.add(value)
        if math.isfinite(value):
            grade = round(max(0.0, min(1.0, value)) * 1000)
            self._scores.add(either_way(one, other, _SCORED), grade)

    def freeze(self) -> None:
        """Work out what rows will be asked about; nothing can be observed afterwards."""
        if self._frozen:
            return
        self._frozen = True
        scores = self._scores.rows()
        low, high, keys = _spans(scores)
        self._torn = frozenset(keys[high - low > _APART * 1000].tolist())
        self._two_texts = frozenset(_repeated(self._ids.rows()[:, 0]).tolist())
        self._keys = np.unique(np.concatenate([self._pairs.rows()[:, 0], keys]))
        self._met = bytearray(len(self._keys))
        del self._ids, self._scores, self._pairs

    def is_pair(self, query: str, text: str) -> bool:
        """Whether some pair has this query and this positive."""
        return self._position(text_hash(plain(query), plain(text))) is not None

    def met_pair(self, query: str, positive: str) -> bool:
        """Whether the pair was marked before."""
        return self._is_met(text_hash(plain(query), plain(positive)))

    def mark_pair(self, query: str, positive: str) -> None:
        """Mark a pair: the next equal one is a repeat."""
        self._mark(text_hash(plain(query), plain(positive)))

    def met_scored(self, one: str, other: str) -> bool:
        """Whether the two texts were marked before, in either order."""
        return self._is_met(either_way(one, other, _SCORED))

    def mark_scored(self, one: str, other: str) -> None:
        """Mark two texts: the next equal ones are a repeat."""
        self._mark(either_way(one, other, _SCORED))

    def is_torn(self, one: str, other: str) -> bool:
        """Whether two texts have scores that contradict each other, in either order."""
        return bool(self._torn) and either_way(one, other, _SCORED) in self._torn

    def has_two_texts(self, role: str, given: object) -> bool:
        """Whether an id stands for more than one text."""
        return bool(self._two_texts) and text_hash(role, str(given)) in self._two_texts

    def too_often(self, role: str, text: str) -> int:
        """How often a text comes as a `query`, `positive` or `negative`; 0 when not too often.

        Too often is more than fifty times, more than one of a hundred texts of the role, and ten
        times the mean. It is told once, for the first row that is asked about.
        """
        found = self._often[role]
        mean = found.total / max(1, found.different)
        most = max(_OFTEN, _SHARE * found.total, _TIMES_THE_MEAN * mean)
        return found.take(text_hash(plain(text)), most)

    def of_all(self) -> Iterable[tuple[str, str]]:
        """(kind, detail) of what is wrong with the scored pairs as a whole."""
        if len(self._labels) == 1:
            only = next(iter(self._labels))
            yield "one_class_only", f"every label is {only:g}"
        if len(self._distinct_scores) == 1 and self._scored > 1:
            only = next(iter(self._distinct_scores))
            yield "constant_score", f"every score is {only:g}"

    def _must_be_open(self) -> None:
        if self._frozen:
            raise ValueError("rows are observed before the first one is checked")

    def _position(self, key: int) -> int | None:
        at = int(np.searchsorted(self._keys, np.uint64(key)))
        return at if at < len(self._keys) and int(self._keys[at]) == key else None

    def _is_met(self, key: int) -> bool:
        at = self._position(key)
        return at is not None and bool(self._met[at])

    def _mark(self, key: int) -> None:
        at = self._position(key)
        if at is not None:
            self._met[at] = 1


def as_number(value: Any) -> float | None:
    """A number as a float; None for what is no number (true and false are none)."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def texts_of(row: dict[str, Any], key: str) -> Sequence[str]:
    """The texts in a list of a row; what is no text is left out."""
    return [text for text in row.get(key) or () if isinstance(text, str)]


def _repeated(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Keys of a sorted column that stand there more than once."""
    again: NDArray[np.uint64] = keys[1:][keys[1:] == keys[:-1]]
    return again


def _spans(
    scores: NDArray[np.uint64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """Lowest and highest grade of each key of rows (key, grade) in order."""
    keys, starts = np.unique(scores[:, 0], return_index=True)
    grades = scores[:, 1].astype(np.int64)
    ends = np.append(starts[1:], len(scores)) - 1
    if not len(keys):
        empty = np.empty(0, dtype=np.int64)
        return empty, empty, keys
    return grades[starts], grades[ends], keys
