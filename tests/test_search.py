"""Searchers rank as their formulas say, with ties by descending chunk id."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_forge import search
from codex_forge.search import Floats, Mask, Numbers, nearest, tie_order, top, words
from tests.exact_dense import ExactDense


def _best_first(ids: list[str], scores: list[float]) -> list[tuple[str, float]]:
    by_id = sorted(zip(ids, scores, strict=True), reverse=True)
    return sorted(by_id, key=lambda found: -found[1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rand al'Thor", ["rand", "al", "thor"]),
        ("C++17, snake_case", ["c", "17", "snake_case"]),
        ("Straße ДОМ", ["strasse", "дом"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("...", []),
    ],
)
def test_words_are_runs_of_letters_and_digits(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def _dense(count: int, dimension: int, seed: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Whole-numbered vectors: their products are exact, and many are equal."""
    rng = np.random.default_rng(seed)
    ids = [f"{n:04x}" for n in rng.permutation(count)]
    vectors = rng.integers(-2, 3, (count, dimension)).astype(np.float32)
    return ids, vectors, rng.integers(-2, 3, (8, dimension)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 7, 50, 300, 1000])
def test_dense_search_is_a_full_sort_with_ties_by_descending_id(k: int) -> None:
    ids, vectors, queries = _dense(300, 4, seed=k)
    index = ExactDense(ids, vectors)
    allowed = np.array([int(i, 16) % 3 > 0 for i in index.chunk_ids])
    for query in queries:
        scores = [float(vector @ query) for vector in vectors]
        assert len(set(scores)) < len(scores) / 4
        expected = _best_first(ids, scores)
        assert index.search(query, k) == expected[:k]
        permitted = [found for found in expected if int(found[0], 16) % 3 > 0]
        assert index.search(query, k, allowed) == permitted[:k]


def test_nothing_allowed_finds_nothing() -> None:
    ids, vectors, queries = _dense(10, 4, seed=1)
    assert ExactDense(ids, vectors).search(queries[0], 5, np.zeros(10, dtype=bool)) == []


@pytest.fixture(params=["as it is", "with tiny blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "as it is":
        monkeypatch.setattr(search, "_ROWS", 7)
        monkeypatch.setattr(search, "_QUERIES", 3)


def _cut(ids: Numbers, vectors: Floats, sizes: list[int]) -> Iterator[tuple[Numbers, Floats]]:
    start = 0
    for size in [*sizes, len(ids)]:
        yield ids[start : start + size], vectors[start : start + size]
        start += size


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("k", [1, 7, 50, 300, 1000])
def test_search_in_blocks_is_a_full_sort_with_ties_by_descending_id(k: int) -> None:
    names, vectors, queries = _dense(300, 4, seed=k)
    ids = np.array([int(name, 16) for name in names], dtype=np.uint64)
    limits = np.array([np.inf, 150, 9, 0, -1, np.inf, 299, 1])

    def is_late(some: Numbers, asked: slice) -> Mask:
        late: Mask = some[None, :] > limits[asked, None]
        return late

    blocks = list(_cut(ids, vectors, [1, 0, 3, 64, 5]))
    free, within = nearest(blocks, queries, k), nearest(blocks, queries, k, is_late)
    for i, query in enumerate(queries):
        scores = [float(vector @ query) for vector in vectors]
        expected = [(int(name, 16), score) for name, score in _best_first(names, scores)]
        assert free[i] == expected[:k]
        assert within[i] == [each for each in expected if each[0] <= limits[i]][:k]


def test_chunks_that_all_tie_are_found_by_their_ids_alone() -> None:
    ids = np.random.default_rng(3).permutation(50_000).astype(np.uint64)
    vectors = np.ones((50_000, 2), dtype=np.float32)
    (found,) = nearest(_cut(ids, vectors, [9_000, 20_000]), vectors[:1], 5)
    assert found == [(49_999 - i, 2.0) for i in range(5)]


def test_no_chunks_and_no_queries_find_nothing() -> None:
    none = np.zeros((0, 3), dtype=np.float32)
    ids = np.arange(2, dtype=np.uint64)
    assert nearest([], np.ones((2, 3), dtype=np.float32), 4) == [[], []]
    assert nearest([(ids, np.ones((2, 3), dtype=np.float32))], none, 4) == []


@given(st.data(), st.integers(1, 12))
def test_top_is_the_head_of_a_stable_sort(data: st.DataObject, k: int) -> None:
    values = data.draw(st.lists(st.sampled_from([-1.5, 0.0, 0.5, 2.0, 3.0]), max_size=30))
    allowed = data.draw(
        st.none() | st.lists(st.booleans(), min_size=len(values), max_size=len(values))
    )
    scores = np.array(values, dtype=np.float32)
    mask = None if allowed is None else np.array(allowed, dtype=bool)
    kept = [i for i in range(len(values)) if allowed is None or allowed[i]]
    assert top(scores, k, mask) == sorted(kept, key=lambda i: -values[i])[:k]


@given(st.lists(st.text("abc", min_size=1), unique=True))
def test_tie_order_is_descending(ids: list[str]) -> None:
    assert [ids[i] for i in tie_order(ids)] == sorted(ids, reverse=True)
