"""Texts are cut into sub-batches with the least work."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from codex_forge.model.cutting import cut


def _falling(lengths: list[int]) -> NDArray[np.int32]:
    return np.array(sorted(lengths, reverse=True), dtype=np.int32)


def _cost(lengths: NDArray[np.int32], parts: list[slice], overhead: int) -> int:
    return sum(int(lengths[p.start]) * (p.stop - p.start) + overhead for p in parts)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 20))
def test_no_other_cuts_cost_less(lengths: list[int], overhead: int) -> None:
    falling = _falling(lengths)
    places = range(1, len(lengths))
    ends = [c for n in range(len(lengths)) for c in combinations(places, n)]
    ways = [list(map(slice, (0, *c), (*c, len(lengths)))) for c in ends]

    found = list(cut(falling, 10**6, overhead))

    assert _cost(falling, found, overhead) == min(_cost(falling, w, overhead) for w in ways)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 500), st.integers(0, 50))
def test_every_text_is_in_one_part_within_the_limit(
    lengths: list[int], most: int, overhead: int
) -> None:
    falling = _falling(lengths)

    parts = list(cut(falling, most, overhead))

    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(lengths)))
    for part in parts:
        count = part.stop - part.start
        assert count == 1 or int(falling[part.start]) * count <= most


def test_short_queries_are_not_padded_to_the_length_of_chunks() -> None:
    falling = _falling([8] * 64 + [120] * 64)

    parts = list(cut(falling, 4096, 16))

    assert sum(int(falling[p.start]) * (p.stop - p.start) for p in parts) == falling.sum()
