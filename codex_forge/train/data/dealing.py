"""Rows are dealt to batches so that in none a row's answer is another row's negative.

No text is in two rows of a batch, and no row has a text that is known to answer another row's
query; what is in too many rows waits for another epoch. A million rows take seconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from codex_forge.train.data.rows import Known

NO_BATCH = -1
"""Of rows that wait."""
_OFFERS = 4
"""Waiting rows that a batch is offered at most, as a multiple of its size."""


class Dealer:
    """Fills batch after batch with rows that may meet.

    A row that may not be in a batch waits under the text that is against it. The next batches are
    first offered one row of each such text, as two of them could not meet: a row so costs about the
    same however many share its texts, and a text that is in many rows is in every batch.
    """

    def __init__(self, texts: NDArray[np.int32], known: Known, own: int) -> None:
        """`texts`: numbers of the rows' texts, shape (rows, columns); no other row of a batch may
        have those of the first `own` columns.
        """
        self._texts, self._own = texts, own
        self._starts, self._against = _compressed(known, 1 + int(texts.max(initial=0)))
        self._waiting: dict[int, list[int]] = {}

    def deal(self, order: NDArray[np.int64], sizes: list[int]) -> NDArray[np.int32]:
        """The batch of each row, -1 where there is none; `sizes` are the most rows of each."""
        batch_of = np.full(len(order), NO_BATCH, dtype=np.int32)
        coming = iter(order.tolist())
        for batch, size in enumerate(sizes):
            batch_of[self._fill(coming, size)] = batch
        return batch_of

    def _fill(self, coming: Iterator[int], size: int) -> list[int]:
        taken: list[int] = []
        held: set[int] = set()
        barred: set[int] = set()
        for row in chain(self._offers(_OFFERS * size), coming):
            texts, against = self._read(row)
            own = texts[: self._own]
            if held.isdisjoint(own) and barred.isdisjoint(texts) and held.isdisjoint(against):
                held.update(texts)
                barred.update(own, against)
                taken.append(row)
                if len(taken) == size:
                    break
            else:
                reasons = (text for text in own if text in barred)
                self._waiting.setdefault(next(reasons, own[0]), []).append(row)
        return taken

    def _offers(self, most: int) -> Iterator[int]:
        """One row of each text under which rows wait; the texts take turns."""
        for text in list(islice(self._waiting, most)):
            rows = self._waiting.pop(text)
            row = rows.pop()
            if rows:
                self._waiting[text] = rows
            yield row

    def _read(self, row: int) -> tuple[list[int], list[int]]:
        """The texts of a row, and those that no other row of its batch may have."""
        texts: list[int] = self._texts[row].tolist()
        against: list[int] = []
        for text in texts:
            start, end = self._starts[text], self._starts[text + 1]
            if start != end:
                against += self._against[start:end].tolist()
        return texts, against


def _compressed(known: Known, texts: int) -> tuple[array[int], NDArray[np.int32]]:
    """For each text those that no other row of its batch may have, as compressed rows.

    A query and its answer are kept once, with the one of them that has fewer others. No list is
    then longer than the square root of the number of all, though a text may have any number.
    """
    queries = np.repeat(np.arange(len(known.starts) - 1), np.diff(known.starts))
    pairs = np.stack([queries, known.numbers])
    pairs = pairs[:, (pairs < texts).all(axis=0)]
    count = np.bincount(pairs.ravel(), minlength=texts)
    swapped = count[pairs[1]] < count[pairs[0]]
    pairs[:, swapped] = pairs[::-1, swapped]
    pairs = pairs[:, np.argsort(pairs[0], kind="stable")]
    starts = np.searchsorted(pairs[0], np.arange(texts + 1))
    return array("q", starts.tobytes()), pairs[1].astype(np.int32)
