"""Batches never hold a text twice, take every row once, and keep like lengths together."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_forge.train.batches import LengthGroupedBatches

Rows = list[dict[str, str]]


def _rows(count: int, seed: int = 1) -> Rows:
    """Rows of three texts, each text once, of very different lengths."""
    dice = random.Random(seed)
    return [
        {
            "anchor": f"a{i}" + "x" * dice.randint(0, 20),
            "positive": f"p{i}" + "x" * dice.randint(0, 400),
            "negative_1": f"n{i}" + "x" * dice.randint(0, 400),
        }
        for i in range(count)
    ]


def _batches(
    rows: Rows, size: int, *, seed: int = 0, epoch: int = 0, drop_last: bool = False
) -> tuple[LengthGroupedBatches, list[list[int]]]:
    sampler = LengthGroupedBatches(
        Dataset.from_list(rows), batch_size=size, drop_last=drop_last, seed=seed
    )
    sampler.set_epoch(epoch)
    return sampler, list(sampler)


def _no_text_twice(rows: Rows, batches: list[list[int]]) -> bool:
    for batch in batches:
        texts = [text for row in batch for text in set(rows[row].values())]
        if len(texts) != len(set(texts)):
            return False
    return True


@pytest.mark.parametrize(("count", "size"), [(1, 4), (4, 4), (5, 4), (1000, 8), (1001, 7)])
def test_every_row_is_there_once_in_full_batches(count: int, size: int) -> None:
    rows = _rows(count)
    sampler, batches = _batches(rows, size)
    assert sorted(row for batch in batches for row in batch) == list(range(count))
    assert len(batches) == len(sampler) == -(-count // size)
    assert sum(len(batch) < size for batch in batches) <= 1

    sampler, batches = _batches(rows, size, drop_last=True)
    assert len(batches) == len(sampler) == count // size
    assert all(len(batch) == size for batch in batches)


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    rows = _rows(300)
    first = _batches(rows, 8, seed=3)[1]
    assert _batches(rows, 8, seed=3)[1] == first
    sampler = _batches(rows, 8, seed=3)[0]
    assert list(sampler) == list(sampler) == first
    for other in (_batches(rows, 8, seed=3, epoch=1)[1], _batches(rows, 8, seed=4)[1]):
        assert other != first
        assert {frozenset(batch) for batch in other} != {frozenset(batch) for batch in first}


def test_like_lengths_come_together_and_batches_are_mixed() -> None:
    rows = _rows(2000)
    lengths = [max(map(len, row.values())) for row in rows]

    def padding(batches: list[list[int]]) -> float:
        padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
        return padded / sum(lengths) - 1

    order = random.Random(2).sample(range(len(rows)), len(rows))
    at_random = padding([order[i : i + 16] for i in range(0, len(order), 16)])
    batches = _batches(rows, 16)[1]
    assert padding(batches) < at_random / 5
    longest = [max(lengths[row] for row in batch) for batch in batches]
    assert longest != sorted(longest)
    half = len(longest) // 2
    assert abs(sum(longest[:half]) / sum(longest) - 0.5) < 0.1


def _with_shared_positives(count: int, shared: int) -> Rows:
    """`shared` rows have one positive; the others have their own."""
    return [
        {"anchor": f"a{i}", "positive": "the same" if i < shared else f"p{i}"} for i in range(count)
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=60),
    st.integers(1, 8),
    st.booleans(),
    st.integers(0, 3),
)
def test_no_text_is_twice_in_a_batch(
    texts: list[tuple[int, int]], size: int, drop_last: bool, epoch: int
) -> None:
    rows = [{"anchor": "a" * one, "positive": "a" * other} for one, other in texts]
    sampler, batches = _batches(rows, size, epoch=epoch, drop_last=drop_last)
    assert _no_text_twice(rows, batches)
    assert all(0 < len(batch) <= size for batch in batches)
    if not drop_last:  # else whole batches may come twice
        assert max(Counter(row for batch in batches for row in batch).values(), default=1) == 1
    # None at all when no batch can be filled.
    assert len(batches) == len(sampler) or (drop_last and not batches)


def test_full_batches_come_before_the_remains_of_repeated_texts() -> None:
    """300 of 1000 rows share a positive: at most one of them is in a batch, the others wait."""
    rows = _with_shared_positives(1000, 300)
    sampler, batches = _batches(rows, 20)
    assert _no_text_twice(rows, batches)
    assert len(batches) == len(sampler) == 50
    taken = {row for batch in batches for row in batch}
    assert taken >= set(range(300, 1000))
    assert sum(len(batch) == 20 for batch in batches) >= 35
    # Who waits differs from epoch to epoch.
    later = {row for batch in _batches(rows, 20, epoch=1)[1] for row in batch}
    assert taken != later


def test_heavy_repetition_does_not_hang() -> None:
    started = time.monotonic()
    for shared in (20_000, 15_000):
        rows = _with_shared_positives(20_000, shared)
        sampler, batches = _batches(rows, 64)
        assert len(batches) == len(sampler) == 313
        assert _no_text_twice(rows, batches)
    assert time.monotonic() - started < 60


def test_an_epoch_has_as_many_batches_as_it_says_although_texts_repeat() -> None:
    """A run that resumes tells its epoch by the number of steps."""
    rows = [{"anchor": f"a{i}", "positive": f"p{i % 5}"} for i in range(64)]
    for epoch in range(4):
        sampler, batches = _batches(rows, 4, epoch=epoch, drop_last=True)
        assert len(batches) == len(sampler) == 16
        assert all(len(batch) == 4 for batch in batches)
        assert _no_text_twice(rows, batches)
