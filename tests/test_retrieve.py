"""Retrievers: BM25 as bm25s has it, time limits, fused rankings, and what an index misses."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codex_forge.config.sections import CorpusConfig
from codex_forge.corpus import ChunkTable, chunk_id_of, find_files, read_corpus, table_of
from codex_forge.evaluate.bm25 import Bm25Retriever
from codex_forge.evaluate.collection import recall_of_exact
from codex_forge.evaluate.hybrid import GRID, Fuse, Lists, reciprocal_ranks, weigh, weighted
from codex_forge.evaluate.retrieve import Asked, Ranking
from codex_forge.evaluate.times import Times, numbers_of
from codex_forge.records import Chunk, Qrels
from tests.conftest import SAMPLE
from tests.other_bm25 import Bm25


def _dated(texts: list[str], times: list[float | None]) -> ChunkTable:
    return table_of(
        Chunk(chunk_id_of(f"{i}.md", text), text, f"{i}.md", temporal_order=time)
        for i, (text, time) in enumerate(zip(texts, times, strict=True))
    )


def test_words_find_on_the_sample_what_bm25s_finds(tmp_path: Path) -> None:
    files = find_files(CorpusConfig(chunks=(str(SAMPLE / "chunks.jsonl"),)))
    chunks = read_corpus(files, "reject", tmp_path).chunks
    asked = json.loads((SAMPLE / "questions.json").read_text())["questions"][:150]
    other = Bm25([chunk.chunk_id for chunk in chunks], list(chunks.texts()))
    index = Bm25Retriever(chunks, tmp_path)
    found = index.search([Asked(question["question"]) for question in asked], 100)
    place = {chunk_id: i for i, chunk_id in enumerate(other.chunk_ids)}
    for question, mine in zip(asked, found, strict=True):
        theirs = other.search(question["question"], 100)
        scores = other.scores(question["question"])
        assert [s for _, s in mine] == pytest.approx([s for _, s in theirs], rel=1e-5)
        assert [s for _, s in mine] == pytest.approx([scores[place[c]] for c, _ in mine], rel=1e-5)
        if len({round(score, 3) for _, score in theirs}) == len(theirs):
            assert [c for c, _ in mine] == [c for c, _ in theirs]
    assert index.index_bytes
    assert index.dimension is None


def test_of_equal_chunks_the_larger_id_is_first(tmp_path: Path) -> None:
    chunks = _dated(["oil"] * 40 + ["water"], [None] * 41)
    ids = sorted((chunk.chunk_id for chunk in chunks if chunk.text == "oil"), reverse=True)
    (found,) = Bm25Retriever(chunks, tmp_path).search([Asked("oil")], 7)
    assert [chunk_id for chunk_id, _ in found] == ids[:7]
    assert len({score for _, score in found}) == 1


@pytest.mark.parametrize("limit", [None, -1.0, 0.0, 2.5, 100.0])
def test_words_find_nothing_later_than_the_limit(limit: float | None, tmp_path: Path) -> None:
    dice = random.Random(4)
    texts = [" ".join(dice.choices("abcdef", k=6)) for _ in range(400)]
    times = [dice.choice([None, 0.0, 1.0, 2.0, 3.0]) for _ in texts]
    chunks = _dated(texts, times)
    index = Bm25Retriever(chunks, tmp_path)
    (every,) = index.search([Asked("a c c")], len(texts))
    when = {chunk.chunk_id: chunk.temporal_order for chunk in chunks}

    def known(chunk_id: str) -> bool:
        time = when[chunk_id]
        return limit is None or time is None or time <= limit

    expected = [each for each in every if known(each[0])]
    for k in (1, 10, 399):
        assert index.search([Asked("a c c", limit)], k) == [expected[:k]]


def test_times_are_known_by_id() -> None:
    chunks = _dated(["a", "b", "c"], [1.5, None, -2.0])
    ids = [chunk.chunk_id for chunk in chunks]
    times = Times(chunks)
    assert times.of(numbers_of([ids[2], ids[0]])).tolist() == [-2.0, 1.5]
    assert np.isnan(times.of(numbers_of([ids[1]]))).all()
    assert all(chunk_id in times for chunk_id in ids)
    assert "f" * 16 not in times
    assert times.late([Asked("x"), Asked("y")]) is None
    is_late = times.late([Asked("x"), Asked("y", 0.0), Asked("z", 1.5)])
    assert is_late is not None
    found = is_late(numbers_of(ids), slice(1, 3))
    assert found is not None
    assert found.tolist() == [[True, False, False], [False, False, False]]


DENSE: Ranking = [("a", 0.9), ("b", 0.7), ("c", 0.5)]
WORDS: Ranking = [("c", 12.0), ("d", 4.0)]


@pytest.mark.parametrize(
    ("fuse", "expected"),
    [
        # 1/61 + 1/62 is only c's: third by meaning, first by words.
        (
            reciprocal_ranks(60),
            [("c", 1 / 63 + 1 / 61), ("a", 1 / 61), ("d", 1 / 62), ("b", 1 / 62)],
        ),
        (reciprocal_ranks(1), [("c", 1 / 4 + 1 / 2), ("a", 1 / 2), ("d", 1 / 3), ("b", 1 / 3)]),
        (weighted(0.5), [("c", 0.5), ("a", 0.5), ("b", 0.25), ("d", 0.0)]),
        (weighted(1.0), [("a", 1.0), ("b", 0.5), ("d", 0.0), ("c", 0.0)]),
        (weighted(0.0), [("c", 1.0), ("d", 0.0), ("b", 0.0), ("a", 0.0)]),
    ],
)
def test_fused_scores_are_those_worked_by_hand(fuse: Fuse, expected: Ranking) -> None:
    found = fuse(DENSE, WORDS)
    assert [chunk for chunk, _ in found] == [chunk for chunk, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected])
    assert all(float(np.float32(score)) == score for _, score in found)


def test_a_ranking_without_differences_counts_whole_and_an_empty_one_nothing() -> None:
    assert dict(weighted(0.4)([], [("a", 3.0)])) == pytest.approx({"a": 0.6})
    equal = weighted(0.4)([("b", 0.2), ("a", 0.2)], [])
    assert [chunk for chunk, _ in equal] == ["b", "a"]
    assert dict(equal) == pytest.approx({"b": 0.4, "a": 0.4})
    assert reciprocal_ranks(60)([], []) == weighted(0.5)([], []) == []


def _lists(queries: int, seed: int) -> tuple[Lists, list[str], Qrels]:
    """Rankings of which BM25's are right twice as often."""
    dice = random.Random(seed)
    ids = [f"{i:016x}" for i in range(40)]
    names: list[str] = []
    qrels: Qrels = {}
    dense: list[Ranking] = []
    words: list[Ranking] = []
    for number in range(queries):
        names.append(f"q{number:02d}")
        answer = dice.choice(ids)
        qrels[names[-1]] = {answer: 1}
        for lists, luck in ((dense, 0.4), (words, 0.8)):
            scores = {c: dice.random() for c in dice.sample(ids, 20)}
            if dice.random() < luck:
                scores[answer] = 1.5
            lists.append(sorted(scores.items(), key=lambda found: -found[1]))
    return Lists(dense, words), names, qrels


def test_the_weight_is_the_best_of_its_curve_and_ties_go_to_the_middle() -> None:
    lists, queries, qrels = _lists(60, seed=2)
    found = weigh(lists, queries, qrels)
    assert list(found.curve) == [f"{weight:.2f}" for weight in GRID]
    assert len(GRID) == 21
    best = max(found.curve.values())
    assert found.curve[f"{found.weight:.2f}"] == best
    assert found.weight < 0.5
    assert found.curve["0.00"] > found.curve["1.00"]
    same = weigh(Lists(lists.words, lists.words), queries, qrels)
    assert same.weight == 0.5
    assert len(set(same.curve.values())) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fusion_is_that_of_ranx() -> None:
    import ranx

    lists, queries, _ = _lists(40, seed=5)
    runs = [
        ranx.Run({q: dict(ranking) for q, ranking in zip(queries, part, strict=True)})
        for part in lists
    ]
    ways: list[tuple[Fuse, dict[str, Any]]] = [
        (reciprocal_ranks(60), {"method": "rrf", "params": {"k": 60}, "norm": None}),
        (weighted(0.3), {"method": "wsum", "params": {"weights": (0.3, 0.7)}, "norm": "min-max"}),
    ]
    for fuse, asked in ways:
        theirs = ranx.fuse(runs=runs, **asked).to_dict()
        for query, mine in zip(queries, lists.fused(fuse, 100), strict=True):
            assert dict(mine) == pytest.approx(theirs[query], abs=1e-6)


def test_recall_counts_chunks_as_near_as_the_last_exact_one() -> None:
    exact: list[Ranking] = [[("a", 0.9), ("b", 0.5)], [("c", 0.3), ("d", 0.3)], []]
    assert recall_of_exact(exact, exact, 2) == 1.0
    missed: list[Ranking] = [[("a", 0.9), ("x", 0.4)], [("e", 0.3), ("d", 0.3)], []]
    assert recall_of_exact(missed, exact, 2) == 0.75
    assert recall_of_exact(missed, exact, 1) == 1.0
    assert recall_of_exact([[], [], []], exact, 2) == 0.0
