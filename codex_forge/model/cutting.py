"""Where to cut texts, sorted by length, into sub-batches: the least work, padding and all.

Padding costs as much as tokens do; each sub-batch costs as much as some tokens more, for what is
done once in it. Dynamic programming over the lengths that differ finds the cheapest cuts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

OVERHEAD = {"cpu": 16, "cuda": 2048}
"""Tokens that a sub-batch costs beside its own, measured on a CPU, guessed of a GPU."""


def cut(lengths: NDArray[np.int32], most: int, overhead: int) -> Iterator[slice]:
    """The sub-batches of texts that come longest first.

    Args:
        lengths: tokens of each text, falling, shape (texts,).
        most: tokens of a sub-batch, padding included; one text may have more.
        overhead: tokens that a sub-batch costs beside its own.
    """
    firsts = np.flatnonzero(np.diff(lengths, prepend=lengths[:1] + 1))
    bounds = np.append(firsts, len(lengths))
    for first, last in _cheapest(lengths[firsts].astype(np.int64), bounds, most, overhead):
        start, end = int(bounds[first]), int(bounds[last])
        size = max(1, most // int(lengths[start]))
        yield from (slice(at, min(at + size, end)) for at in range(start, end, size))


def _cheapest(
    values: NDArray[np.int64], bounds: NDArray[np.int64], most: int, overhead: int
) -> list[tuple[int, int]]:
    """Runs of lengths that go together, as (first, one past the last)."""
    costs = np.zeros(len(values) + 1)
    befores = np.zeros(len(values) + 1, dtype=np.int64)
    for end in range(1, len(values) + 1):
        tokens = values[:end] * (bounds[end] - bounds[:end])
        found = costs[:end] + tokens + overhead * np.ceil(tokens / most)
        befores[end] = np.argmin(found)
        costs[end] = found[befores[end]]
    runs, end = [], len(values)
    while end:
        runs.append((int(befores[end]), end))
        end = int(befores[end])
    return runs[::-1]
