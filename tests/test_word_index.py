"""The index of words ranks exactly as its formulas say, whatever its pruning leaves unread."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import codex_forge.word_index.blocks as blocks_module
import codex_forge.word_index.index as index_module
from codex_forge import search
from codex_forge.errors import Preempted
from codex_forge.search import words
from codex_forge.word_index import WordIndex
from tests.other_bm25 import Bm25

TEXTS = [
    "The lighthouse of Port Stone burns oil.",
    "Oil, oil and more oil: the port lives by it.",
    "A shepherd counts sheep on the hill.",
    "The hill over the port has a lighthouse, and the lighthouse has a keeper.",
    "",
    "Straße, ДОМ и дом; हिन्दी.",
    "...",
    "A shepherd counts sheep on the hill.",
]


def _bm25(texts: list[str], query: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """The formula as Lucene writes it, a word and a text at a time."""
    bags = [Counter(words(text)) for text in texts]
    average = sum(bag.total() for bag in bags) / len(bags) or 1.0
    scores = [0.0] * len(bags)
    for word in words(query):
        holders = sum(word in bag for bag in bags)
        rarity = math.log(1 + (len(bags) - holders + 0.5) / (holders + 0.5))
        for i, bag in enumerate(bags):
            damping = k1 * (1 - b + b * bag.total() / average)
            scores[i] += rarity * bag[word] / (damping + bag[word])
    return scores


def _weights(texts: list[str], text: str) -> dict[str, float]:
    """The TF-IDF vector of a text."""
    bags = [set(words(other)) for other in texts]
    vector = {}
    for word, times in Counter(words(text)).items():
        holders = sum(word in bag for bag in bags) or 1
        vector[word] = (1 + math.log(times)) * math.log(1 + len(texts) / holders)
    return vector


def _cosines(texts: list[str], mine: dict[str, float]) -> list[float]:
    cosines = []
    for other in texts:
        theirs = _weights(texts, other)
        norms = math.hypot(*mine.values()) * math.hypot(*theirs.values())
        shared = sum(mine[word] * theirs[word] for word in mine.keys() & theirs.keys())
        cosines.append(shared / norms if norms else 0.0)
    return cosines


def _is_ranked(found: list[tuple[int, float]], scores: list[float], k: int) -> None:
    """Whether `found` are the best `k` by `scores`, ties by position, up to rounding."""
    every = [i for i, score in enumerate(scores) if score > 0]
    assert len(found) == min(k, len(every))
    assert [score for _, score in found] == pytest.approx([scores[i] for i, _ in found], rel=1e-5)
    assert found == sorted(found, key=lambda each: (-each[1], each[0]))
    chosen = {i for i, _ in found}
    if found:
        last, least = found[-1]
        for i in set(every) - chosen:
            assert scores[i] < least * (1 + 1e-6)
            # An exact tie goes to the smaller position.
            assert i > last or scores[i] < least * (1 - 1e-9) or scores[last] != scores[i]


WORDS = st.lists(st.sampled_from("aaaaabbbccdefgh"), max_size=9).map(" ".join)
BANK = st.lists(WORDS, min_size=1, max_size=30)


@pytest.fixture(params=["as it is", "with tiny blocks and lists"], autouse=True)
def _sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with every list long and every block full soon."""
    if request.param != "as it is":
        monkeypatch.setattr(blocks_module, "_BLOCK_WORDS", 5)
        monkeypatch.setattr(index_module, "_SOME", 3)


@settings(max_examples=200, deadline=None)
@given(BANK, WORDS, st.integers(1, 8))
@example(["a b", "b a", "a", "", "b b"], "a b b", 2)
@example(["a"], "a", 1)
@example(["", ""], "a", 3)
@example(["a b c"] * 20, "a c", 5)
def test_search_is_bm25_of_every_text(texts: list[str], query: str, k: int) -> None:
    index = WordIndex(texts)
    scores = _bm25(texts, query)
    _is_ranked(index.search(query, k), scores, k)
    assert index.scores(query, range(len(texts))).tolist() == pytest.approx(scores, rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(BANK, WORDS)
def test_search_is_what_bm25s_finds(texts: list[str], query: str) -> None:
    ids = [f"{len(texts) - i:03d}" for i in range(len(texts))]
    other = Bm25(ids, texts)
    index = WordIndex(texts)
    theirs = np.empty(len(texts))
    theirs[other.order] = other.scores(query)
    mine = index.scores(query, range(len(texts)))
    assert mine.tolist() == pytest.approx(theirs.tolist(), rel=1e-4, abs=1e-6)
    gaps = np.diff(np.unique(theirs))
    if not len(gaps) or gaps.min() > 1e-5:
        for k in (1, 3, len(texts)):
            assert index.positions(query, k) == other.positions(query, k)


@settings(max_examples=100, deadline=None)
@given(BANK, WORDS.map(lambda text: f"{text} x y"), st.integers(1, 8))
def test_cosine_and_similar_are_what_the_formula_gives(texts: list[str], text: str, k: int) -> None:
    index = WordIndex(texts)
    mine = _weights(texts, text)
    cosines = _cosines(texts, mine)
    assert index.cosine(text, range(len(texts))).tolist() == pytest.approx(cosines, rel=1e-5)
    known = {word for other in texts for word in words(other)}
    cut = {word: weight for word, weight in mine.items() if word in known}
    _is_ranked(index.similar(text, k), _cosines(texts, cut), k)


def test_positions_may_come_in_any_order_and_twice() -> None:
    index = WordIndex(TEXTS)
    for measure in (index.scores, index.cosine):
        every = measure("the oil of the port", range(len(TEXTS)))
        assert measure("the oil of the port", [3, 0, 3, 6]).tolist() == [
            every[i] for i in (3, 0, 3, 6)
        ]
        assert measure("the oil of the port", []).tolist() == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("LIGHTHOUSE!", [0, 3]),
        ("strasse", [5]),
        ("Дом", [5]),
        ("हिन्दी", [5]),
        ("shepherd", [2, 7]),
        ("zebra", []),
        ("", []),
        ("... ?", []),
        ("zebra keeper", [3]),
    ],
)
def test_texts_of_any_language_are_found_and_ties_go_to_the_smaller_position(
    query: str, expected: list[int]
) -> None:
    index = WordIndex(iter(TEXTS))
    assert len(index) == len(TEXTS)
    assert sorted(index.positions(query, 9)) == expected
    assert sorted(i for i, _ in index.similar(query, 9)) == expected
    assert index.positions(query, 1) in ([], *([i] for i in expected))
    assert index.positions(query, 0) == []


def test_equal_texts_have_cosine_1_and_rank_by_position() -> None:
    index = WordIndex(["a shepherd"] * 50)
    assert index.positions("shepherd", 7) == list(range(7))
    assert index.similar("a shepherd", 3) == [(0, 1.0), (1, 1.0), (2, 1.0)]
    assert index.cosine("a shepherd", [49]).tolist() == [1.0]
    assert index.cosine("a wolf", [49])[0] < 0.5


def test_of_a_long_text_the_heaviest_words_decide() -> None:
    common = [f"c{i}" for i in range(40)]
    rare = [f"r{i}" for i in range(32)]
    texts = [" ".join(common), *([" ".join(common)] * 3), " ".join(rare), "r0 c0"]
    index = WordIndex(texts)
    assert [i for i, _ in index.similar(" ".join(common + rare), 9)] == [4, 5]
    assert [i for i, _ in index.similar(" ".join(common), 9)][:4] == [0, 1, 2, 3]


@pytest.mark.parametrize("texts", [[], [""], ["...", ""]])
def test_an_index_without_words_finds_nothing(texts: list[str]) -> None:
    index = WordIndex(texts)
    assert index.search("a", 3) == index.similar("a", 3) == []
    assert index.cosine("a", range(len(texts))).tolist() == [0.0] * len(texts)


def test_a_word_may_stand_in_a_text_many_thousand_times() -> None:
    texts = ["a " * 70_000 + "b", "a b", "a " * 300 + "c"]
    index = WordIndex(texts)
    assert index.scores("a b", range(3)).tolist() == pytest.approx(_bm25(texts, "a b"), rel=1e-5)
    assert index.cosine("a b", range(3)).tolist() == pytest.approx(
        _cosines(texts, _weights(texts, "a b")), rel=1e-5
    )


def _zipf(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 40, count)
    return [" ".join(f"w{n}" for n in rng.zipf(1.3, length)) for length in lengths]


def test_among_many_texts_common_words_are_pruned_without_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks_module, "_BLOCK_WORDS", 100_000)
    texts = _zipf(40_000, seed=5)
    index = WordIndex(texts)
    every = range(len(texts))
    for query in ("w1 w2 w3", "w1", "w5 w90 w1", "w700 w1 w2 w40", "w9000 w3", "w1 w1 w1 w8 w2"):
        scores = index.scores(query, every)
        order = np.lexsort((np.arange(len(texts)), -scores))
        for k in (1, 30, 500):
            expected = [(int(i), float(scores[i])) for i in order[:k] if scores[i] > 0]
            assert index.search(query, k) == expected


def test_nothing_stays_in_the_scratch_folder(tmp_path: Path) -> None:
    index = WordIndex(TEXTS, tmp_path)
    assert index.positions("oil", 1) == [1]
    assert not list(tmp_path.iterdir())


def test_a_stop_while_texts_are_read_leaves_no_file(tmp_path: Path) -> None:
    def texts() -> Iterator[str]:
        yield from TEXTS
        raise Preempted("stopped")

    with pytest.raises(Preempted):
        WordIndex(texts(), tmp_path)
    assert not list(tmp_path.iterdir())


@given(st.one_of(st.text(), st.text(st.characters(max_codepoint=127))))
@example("".join(map(chr, range(128))) * 2)
def test_words_of_ascii_are_those_of_any_text(text: str) -> None:
    assert words(text) == search._WORD.findall(text.casefold())
