"""Batches: no text twice, no answer as a negative, every row once, for any number of ranks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codex_forge.errors import InputError
from codex_forge.train.data.batches import EpochBatches
from codex_forge.train.data.rows import Known, Rows

Batches = list[list[int]]
Texts = Sequence[tuple[int, ...]]
Pairs = list[tuple[int, int]]

_NOTHING = Known(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32))
_NAMES = ("anchor", "positive", "negative_1", "negative_2")


def _rows(texts: Texts, known: Iterable[tuple[int, int]] = ()) -> Rows:
    """Rows of numbers of texts; the second of a row answers its first, and so do the `known`."""
    matrix = np.array(texts, dtype=np.int32)
    pairs = np.array(sorted({*known, *((row[0], row[1]) for row in texts)}), dtype=np.int64)
    starts = np.searchsorted(pairs[:, 0], np.arange(max(matrix.max(), pairs.max()) + 2))
    columns = {_NAMES[i]: column.copy() for i, column in enumerate(matrix.T)}
    known_texts = Known(starts.astype(np.int64), pairs[:, 1].astype(np.int32))
    return Rows("multiple_negatives_ranking", columns, None, known_texts, {})


def _own_texts(count: int) -> Texts:
    """Rows that share nothing."""
    return [(i, count + i, 2 * count + i) for i in range(count)]


def _same_positive(count: int, shared: int) -> Texts:
    """In `shared` of the rows the positive is one text."""
    return [(i, count if i < shared else count + i) for i in range(count)]


def _lengths(rows: Rows, seed: int = 1) -> NDArray[np.int32]:
    """Very different lengths."""
    most = max(int(column.max()) for column in rows.columns.values())
    dice = np.random.default_rng(seed)
    drawn = 60 * np.exp(0.8 * dice.standard_normal(most + 1))
    return np.array(drawn.clip(3, 512), dtype=np.int32)


def _batches(rows: Rows, size: int, *, epoch: int = 0, **options: Any) -> Batches:
    options = {"seed": 0, "exclusive": True, **options}
    sampler = EpochBatches(rows, _lengths(rows), batch_size=size, **options)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


def _faults(rows: Rows, batch: list[int]) -> list[str]:
    """What is wrong with a batch, found by looking at every pair of its rows."""
    texts = np.stack(list(rows.columns.values()), axis=1)[batch].tolist()
    found = []
    for one in texts:
        for other in texts:
            if one is not other:
                if set(one) & set(other):
                    found.append(f"{one} and {other} share a text")
                if set(rows.known.of(one[0]).tolist()) & set(other):
                    found.append(f"{other} has an answer to {one}")
    return found


_SMALL = st.lists(
    st.tuples(st.integers(0, 9), st.integers(10, 29), st.integers(10, 29)), min_size=1, max_size=60
)
_KNOWN = st.lists(st.tuples(st.integers(0, 9), st.integers(10, 29)), max_size=30)


# The rules.


@settings(max_examples=200, deadline=None)
@given(_SMALL, _KNOWN, st.integers(1, 8), st.integers(1, 3), st.booleans(), st.integers(0, 3))
def test_rows_of_a_batch_never_harm_each_other(
    texts: Texts, known: Pairs, size: int, ranks: int, drop_last: bool, epoch: int
) -> None:
    rows = _rows(texts, known)
    sampler = EpochBatches(
        rows, _lengths(rows), batch_size=size, seed=5, exclusive=True, ranks=ranks,
        drop_last=drop_last,
    )  # fmt: skip
    sampler.set_epoch(epoch)
    shares = []
    for rank in range(ranks):
        try:
            options = {"ranks": ranks, "rank": rank, "drop_last": drop_last, "seed": 5}
            shares.append(_batches(rows, size, epoch=epoch, **options))
        except InputError:  # all rows share a text: no two can be trained on at once
            assert ranks > 1
            return
    counted: Counter[int] = Counter()
    for parts in zip(*shares, strict=True):
        assert 0 < len(parts[0]) <= size
        assert len({len(part) for part in parts}) == 1
        batch = [row for part in parts for row in part]
        assert not _faults(rows, batch)
        counted.update(set(batch))
        assert len(set(batch)) == len(batch)
    if ranks == 1:
        assert max(counted.values(), default=1) == 1
    assert len(texts) - len(counted) == sampler.waiting


def test_the_rules_bite_here() -> None:
    """What the test above forbids does occur in batches of which nothing is asked."""
    texts = [(i, 10 + i, 10 + (i + 1) % 10) for i in range(10)]
    rows = _rows(texts, [(i, 10 + (i + 5) % 10) for i in range(10)])
    kinds = [_faults(rows, batch) for batch in _batches(rows, 5, exclusive=False)]
    faults = [fault for batch in kinds for fault in batch]
    assert any("share a text" in fault for fault in faults)
    assert any("has an answer to" in fault for fault in faults)
    assert not any(_faults(rows, batch) for batch in _batches(rows, 5))


@pytest.mark.parametrize("many", ["answers of a query", "queries of an answer"])
def test_a_known_answer_is_nowhere_a_negative(many: str) -> None:
    """Whether a query has many answers or an answer many queries: either list may be the long one.

    200 rows share no text; but what answers the first half's queries is known to be in others'.
    """
    count = 200
    texts = _own_texts(count)
    if many == "answers of a query":
        known = [(0, 2 * count + i) for i in range(1, 150)]
    else:
        known = [(i, count) for i in range(1, 150)]
    rows = _rows(texts, known)
    for epoch in range(3):
        batches = _batches(rows, 25, epoch=epoch)
        (of_the_first,) = [batch for batch in batches if 0 in batch]
        assert all(row == 0 or row >= 150 for row in of_the_first)
        assert len(of_the_first) > 1
        assert not any(_faults(rows, batch) for batch in batches)
        assert len({row for batch in batches for row in batch}) >= count - 1


def test_a_rows_own_negative_may_be_known() -> None:
    """Mining guards those; here a row is not kept from itself."""
    rows = _rows([(0, 10, 11), (1, 12, 13)], [(0, 11)])
    assert sorted(row for batch in _batches(rows, 2) for row in batch) == [0, 1]


def test_mined_negatives_may_be_shared_when_told() -> None:
    """One text was mined for all; it is the positive of one."""
    count = 100
    texts = [(i, count + i, 2 * count - 1) for i in range(count)]
    rows = _rows(texts)
    assert sum(map(len, _batches(rows, 10))) == 10, "one row a batch"
    batches = _batches(rows, 10, shared_negatives=True)
    (alone,) = [batch for batch in batches if count - 1 in batch]
    assert alone == [count - 1], "else the others' negative is its positive"
    assert sum(map(len, batches)) > 0.8 * count


def test_a_positive_is_no_shared_negative_though_nothing_is_known() -> None:
    texts = [(i, 100 + i, 100 + (i + 1) % 100) for i in range(100)]
    rows = replace(_rows(texts), known=_NOTHING)
    for batch in _batches(rows, 20, shared_negatives=True):
        assert len(batch) > 1
        assert not {texts[row][1] for row in batch} & {texts[row][2] for row in batch}


@settings(max_examples=100, deadline=None)
@given(_SMALL, _KNOWN, st.integers(1, 8))
def test_a_shared_negative_answers_no_query_of_the_batch(
    texts: Texts, known: Pairs, size: int
) -> None:
    rows = _rows(texts, known)
    for batch in _batches(rows, size, shared_negatives=True):
        for row in batch:
            answers = {texts[row][1], *rows.known.of(texts[row][0]).tolist()}
            others = {text for other in batch if other != row for text in texts[other]}
            assert not answers & others
            assert texts[row][0] not in others


# Every row, once.


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(("count", "size"), [(1, 4), (4, 4), (5, 4), (1000, 8), (1001, 7)])
def test_every_row_is_there_once_in_full_batches(count: int, size: int, exclusive: bool) -> None:
    rows = _rows(_own_texts(count))
    for epoch in range(2):
        batches = _batches(rows, size, exclusive=exclusive, epoch=epoch)
        assert sorted(row for batch in batches for row in batch) == list(range(count))
        assert len(batches) == -(-count // size)
        assert sum(len(batch) < size for batch in batches) <= 1

        batches = _batches(rows, size, exclusive=exclusive, epoch=epoch, drop_last=True)
        assert len(batches) == count // size
        assert all(len(batch) == size for batch in batches)
        assert len({row for batch in batches for row in batch}) == count // size * size


def test_rows_that_meet_in_few_places_all_find_one() -> None:
    """Each query has five positives, each text is a negative of others: next to none waits."""
    dice = np.random.default_rng(3)
    count = 5_000
    positives = count + dice.permutation(count)
    negatives = count + dice.permutation(count)
    matrix = np.stack([np.arange(count) // 5, positives, negatives], axis=1)
    rows = _rows([tuple(row) for row in matrix.tolist()])
    batches = _batches(rows, 50)
    assert len({row for batch in batches for row in batch}) >= count - 10
    assert sum(len(batch) == 50 for batch in batches) >= 98


@pytest.mark.parametrize("shared", [300, 900, 1000])
def test_a_text_in_most_rows_is_in_every_batch(shared: int) -> None:
    """About as many rows wait as must. A batch of one row teaches nothing: they are avoided."""
    rows = _rows(_same_positive(1000, shared))
    batches = _batches(rows, 20)
    assert len(batches) == 50
    taken = {row for batch in batches for row in batch}
    assert taken >= set(range(shared, 1000))
    assert 1045 - shared <= len(taken) <= 1050 - shared
    assert all(sum(row < shared for row in batch) <= 1 for batch in batches)
    if shared == 300:
        assert min(map(len, batches)) >= 10
    # Who waits differs from epoch to epoch.
    assert taken != {row for batch in _batches(rows, 20, epoch=1) for row in batch}


@pytest.mark.parametrize("hub", ["positive", "query", "negative"])
def test_a_hub_among_very_many_rows_takes_no_time(hub: str) -> None:
    """Quadratic work would take hours: 60,000 rows of which 54,000 share a text."""
    count, shared = 60_000, 54_000
    matrix = np.array(_own_texts(count))
    matrix[:shared, {"query": 0, "positive": 1, "negative": 2}[hub]] = count - 1
    if hub != "query":
        matrix[:shared, {"positive": 1, "negative": 2}[hub]] = 3 * count
    rows = _rows([tuple(row) for row in matrix.tolist()])
    batches = _batches(rows, 32)
    assert len(batches) == 1875
    taken = {row for batch in batches for row in batch}
    assert 0.99 < len(taken) / (count - shared + 1875) <= 1


def test_waiting_rows_are_counted_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    rows = _rows(_same_positive(100, 40))
    sampler = EpochBatches(rows, _lengths(rows), batch_size=10, seed=0, exclusive=True)
    with caplog.at_level(logging.INFO, logger="codex_forge"):
        for epoch in range(3):
            sampler.set_epoch(epoch)
            assert sampler.waiting == 100 - sum(map(len, sampler)) == 30
    assert [record.getMessage().split(" wait")[0] for record in caplog.records] == [
        "  30 of 100 rows"
    ]


# Ranks.


@settings(max_examples=100, deadline=None)
@given(_SMALL, _KNOWN, st.sampled_from([1, 2, 4]), st.sampled_from([2, 4]), st.booleans())
def test_ranks_share_the_batches_of_one_process(
    texts: Texts, known: Pairs, size: int, ranks: int, exclusive: bool
) -> None:
    rows = _rows(texts, known)
    whole = _batches(rows, size * ranks, exclusive=exclusive)
    try:
        shares = [
            _batches(rows, size, exclusive=exclusive, ranks=ranks, rank=rank)
            for rank in range(ranks)
        ]
    except InputError:
        assert max(map(len, whole)) < ranks
        return
    together = [[row for part in parts for row in part] for parts in zip(*shares, strict=True)]
    for batch in together:
        assert not len(batch) % ranks
        (of_one,) = [found for found in whole if batch[0] in found]
        assert of_one[: len(batch)] == batch
        assert len(of_one) - len(batch) < ranks


@pytest.mark.parametrize("rest", [0, 1, 16])
def test_batches_come_in_the_same_order_on_any_number_of_ranks(rest: int) -> None:
    rows = _rows(_own_texts(320 + rest))
    whole = [batch for batch in _batches(rows, 32) if len(batch) > 1]
    assert sum(map(len, whole)) == 320 + rest // 2 * 2
    for ranks in (2, 4, 8):
        shares = [_batches(rows, 32 // ranks, ranks=ranks, rank=rank) for rank in range(ranks)]
        together = zip(*shares, strict=True)
        assert [[row for part in parts for row in part] for parts in together] == whole


def test_no_rank_has_the_long_texts() -> None:
    rows = _rows(_own_texts(4096))
    lengths = _lengths(rows)
    tokens = [
        sum(
            int(lengths[column[batch]].sum())
            for batch in _batches(rows, 32, ranks=2, rank=rank)
            for column in rows.columns.values()
        )
        for rank in (0, 1)
    ]
    assert abs(tokens[0] / tokens[1] - 1) < 0.03


def test_rows_that_cannot_be_divided_among_ranks_are_refused() -> None:
    rows = _rows(_same_positive(50, 50))
    assert all(len(batch) == 1 for batch in _batches(rows, 8))
    with pytest.raises(InputError, match="share their texts; train in one process"):
        _batches(rows, 4, ranks=2)


def test_too_few_rows_make_no_batch() -> None:
    rows = _rows(_own_texts(3))
    assert _batches(rows, 4, drop_last=True) == []
    assert _batches(rows, 1, ranks=4) == []
    assert len(_batches(rows, 4)) == 1


# Order.


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    rows = _rows(_own_texts(300))
    first = _batches(rows, 8, seed=3, epoch=2)
    assert _batches(rows, 8, seed=3, epoch=2) == first
    sampler = EpochBatches(rows, _lengths(rows), batch_size=8, seed=3, exclusive=True)
    list(sampler)
    sampler.set_epoch(2)
    assert list(sampler) == list(sampler) == first, "as in a run that was resumed"
    for other in (_batches(rows, 8, seed=3, epoch=1), _batches(rows, 8, seed=4, epoch=2)):
        assert len({frozenset(batch) for batch in other} - set(map(frozenset, first))) >= 36


@settings(max_examples=50, deadline=None)
@given(_SMALL, _KNOWN, st.integers(1, 8), st.booleans())
def test_every_epoch_has_as_many_batches(
    texts: Texts, known: Pairs, size: int, drop_last: bool
) -> None:
    rows = _rows(texts, known)
    numbers = {len(_batches(rows, size, epoch=e, drop_last=drop_last)) for e in range(4)}
    assert numbers == {len(texts) // size if drop_last else -(-len(texts) // size)}


def test_like_lengths_come_together_and_batches_are_mixed() -> None:
    rows = _rows(_own_texts(4000))
    lengths = _lengths(rows)
    texts = np.stack(list(rows.columns.values()), axis=1)

    def padding(batches: Batches) -> float:
        of_batches = [lengths[texts[batch]] for batch in batches]
        padded = sum(int(found.max(axis=0).sum()) * len(found) for found in of_batches)
        return padded / sum(int(found.sum()) for found in of_batches) - 1

    for exclusive in (True, False):
        grouped = _batches(rows, 16, exclusive=exclusive)
        shuffled = _batches(rows, 16, exclusive=exclusive, group_by_length=False)
        assert padding(grouped) < 0.65 * padding(shuffled)
        longest = [int(lengths[texts[batch]].max()) for batch in grouped]
        longer = sum(after > before for before, after in pairwise(longest))
        assert 0.4 < longer / len(longest) < 0.6
        half = len(longest) // 2
        assert abs(sum(longest[:half]) / sum(longest) - 0.5) < 0.1


def test_a_batch_of_like_lengths_differs_from_epoch_to_epoch() -> None:
    """However few the rows: were all sorted together, a row would always meet the same."""
    rows = _rows(_own_texts(320))
    met = [
        next(frozenset(batch) for batch in _batches(rows, 16, epoch=epoch) if 7 in batch)
        for epoch in range(6)
    ]
    assert len(frozenset.union(*met)) > 45


def test_one_column_of_texts_is_batched_too() -> None:
    """As for SimCSE: nothing is known to answer anything."""
    rows = Rows("simcse", {"text": np.arange(50, dtype=np.int32)}, None, _NOTHING, {})
    assert sorted(row for batch in _batches(rows, 8) for row in batch) == list(range(50))
    twice = np.repeat(np.arange(25, dtype=np.int32), 2)
    rows = Rows("simcse", {"anchor": twice, "positive": twice}, None, _NOTHING, {})
    for batch in _batches(rows, 8):
        assert len(set(twice[batch].tolist())) == len(batch)
