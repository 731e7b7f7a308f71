"""Searchers rank as their formulas say, with ties by descending chunk id."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_forge.search import Bm25, ExactDense, tie_order, top, words

TEXTS = {
    "c1": "The lighthouse of Port Stone burns oil.",
    "c2": "Oil, oil and more oil: the port lives by it.",
    "c3": "A shepherd counts sheep on the hill.",
    "c4": "The hill over the port has a lighthouse, and the lighthouse has a keeper.",
    "c5": "Nothing but grass.",
    "c6": "...",
}


def _bm25(texts: list[str], query: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """The formula as Lucene writes it, a term and a text at a time."""
    bags = [words(text) for text in texts]
    average = sum(map(len, bags)) / len(bags)
    scores = [0.0] * len(bags)
    for term in words(query):
        holders = sum(term in bag for bag in bags)
        rarity = math.log(1 + (len(bags) - holders + 0.5) / (holders + 0.5))
        for i, bag in enumerate(bags):
            count = bag.count(term)
            scores[i] += rarity * count / (k1 * (1 - b + b * len(bag) / average) + count)
    return scores


def _best_first(ids: list[str], scores: list[float]) -> list[tuple[str, float]]:
    by_id = sorted(zip(ids, scores, strict=True), reverse=True)
    return sorted(by_id, key=lambda found: -found[1])


@pytest.mark.parametrize(
    "query",
    ["lighthouse", "oil port", "the hill", "THE Lighthouse?", "oil oil sheep", "keeper of sheep"],
)
def test_bm25_gives_what_the_formula_gives(query: str) -> None:
    ids, texts = list(TEXTS), list(TEXTS.values())
    expected = [(i, s) for i, s in _best_first(ids, _bm25(texts, query)) if s > 0]
    found = Bm25(ids, texts).search(query, 10)
    assert [i for i, _ in found] == [i for i, _ in expected]
    assert [s for _, s in found] == pytest.approx([s for _, s in expected], rel=1e-5)


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), min_size=1, max_size=8),
    st.lists(st.sampled_from("abcdxy"), max_size=4),
)
def test_bm25_scores_any_text_as_the_formula_does(texts: list[list[str]], query: list[str]) -> None:
    joined, asked = [" ".join(text) for text in texts], " ".join(query)
    ids = [f"c{i}" for i in range(len(joined))]
    index = Bm25(ids, joined)
    expected = dict(zip(ids, _bm25(joined, asked) if any(texts) else [0.0] * len(ids), strict=True))
    assert dict(zip(index.chunk_ids, index.scores(asked), strict=True)) == pytest.approx(
        expected, rel=1e-4, abs=1e-6
    )


@pytest.mark.parametrize("query", ["zebra", "", "...", "port-o-let's zebra"])
def test_a_query_without_a_shared_word_finds_nothing(query: str) -> None:
    index = Bm25(["c3", "c5"], [TEXTS["c3"], TEXTS["c5"]])
    assert index.search(query, 10) == []
    assert index.positions(query, 10) == []


def test_a_corpus_without_words_finds_nothing() -> None:
    assert Bm25(["a", "b"], ["!!!", "?"]).search("anything", 3) == []


def test_bm25_leaves_out_what_the_mask_forbids_and_breaks_ties_by_descending_id() -> None:
    ids, texts = ["b", "d", "a", "c"], ["oil", "oil", "oil", "water"]
    index = Bm25(ids, texts)
    assert index.chunk_ids == ["d", "c", "b", "a"]
    assert [i for i, _ in index.search("oil", 10)] == ["d", "b", "a"]
    assert [i for i, _ in index.search("oil", 2)] == ["d", "b"]
    assert [ids[p] for p in index.positions("oil", 10)] == ["d", "b", "a"]
    allowed = np.array([i != "d" for i in index.chunk_ids])
    assert [i for i, _ in index.search("oil", 10, allowed)] == ["b", "a"]


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
