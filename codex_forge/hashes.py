"""Texts as 64-bit hashes in sorted arrays: what was seen before, at eight bytes a distinct text.

Sorted runs are merged as they grow (O'Neil et al., The Log-Structured Merge-Tree, 1996): a look-up
searches a few runs, and the memory is that of the hashes alone. Two of a million texts share a hash
with a chance of three in a hundred million.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_ALIKE = 2


def text_hash(*parts: str) -> int:
    """A 64-bit hash of one text or of several in this order; the same in every process."""
    data = "\x00".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


class Seen:
    """A set of hashes with a whole number each; it grows by batches."""

    def __init__(self) -> None:
        """Empty."""
        self._runs: list[tuple[Hashes, NDArray[np.int32]]] = []

    def __len__(self) -> int:
        """How many hashes it holds."""
        return sum(len(keys) for keys, _ in self._runs)

    def find(self, hashes: Hashes) -> NDArray[np.int32]:
        """The number of each hash, -1 for one that is not held; the shape of `hashes`."""
        found = np.full(hashes.shape, -1, dtype=np.int32)
        for keys, values in self._runs:
            at = np.minimum(np.searchsorted(keys, hashes), len(keys) - 1)
            there = keys[at] == hashes
            found[there] = values[at[there]]
        return found

    def add(self, hashes: Hashes, values: NDArray[np.int32] | None = None) -> None:
        """Hold these hashes, none of which is held yet and no two of which are equal."""
        if not len(hashes):
            return
        numbers = np.zeros(len(hashes), dtype=np.int32) if values is None else values
        order = np.argsort(hashes)
        self._runs.append((hashes[order], numbers[order].astype(np.int32)))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < _ALIKE * len(self._runs[-1][0]):
            self._runs.append(_merged(self._runs.pop(), self._runs.pop()))

    def new(self, hashes: Sequence[int]) -> list[bool]:
        """Which of a batch are met for the first time, here or within the batch; holds them."""
        batch = np.array(hashes, dtype=np.uint64)
        first = np.zeros(len(batch), dtype=np.bool_)
        first[np.unique(batch, return_index=True)[1]] = True
        first &= self.find(batch) < 0
        self.add(batch[first])
        answer: list[bool] = first.tolist()
        return answer


def _merged(
    one: tuple[Hashes, NDArray[np.int32]], other: tuple[Hashes, NDArray[np.int32]]
) -> tuple[Hashes, NDArray[np.int32]]:
    keys = np.concatenate([one[0], other[0]])
    order = np.argsort(keys, kind="stable")  # a merge: both halves are sorted
    return keys[order], np.concatenate([one[1], other[1]])[order]


class Frequent:
    """Hashes that come very often, found in constant memory (Misra & Gries, 1982).

    A count falls short of the true one by at most `total / (size + 1)`, and is exact while no more
    than `size` different hashes came.
    """

    def __init__(self, size: int = 1000) -> None:
        """Keep at most `size` counters."""
        self.total = self.different = 0
        """What came, and how many different hashes, counted up to `size`."""
        self._size = size
        self._counts: dict[int, int] = {}

    def add(self, key: int) -> None:
        """Count one."""
        self.total += 1
        if key in self._counts or len(self._counts) < self._size:
            self._counts[key] = self._counts.get(key, 0) + 1
            self.different = max(self.different, len(self._counts))
        else:
            self._counts = {k: count - 1 for k, count in self._counts.items() if count > 1}

    def take(self, key: int, more_than: float) -> int:
        """How often a hash came, at least, when that is more than this; 0 from then on."""
        count = self._counts.get(key, 0)
        if count <= more_than:
            return 0
        self._counts[key] = 0
        return count
