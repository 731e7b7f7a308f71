"""Measures equal hand-worked numbers and another library's, and survive the TREC files."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from codex_forge.errors import InputError
from codex_forge.metrics import ir_measures, mean, rubric
from codex_forge.records import Qrels, Run
from codex_forge.trec import read_qrels, read_run, write_qrels, write_run

CUTS = (1, 3, 5, 10)

# Expected topics, topics covered by each retrieved chunk, score worked out by hand.
RUBRIC = [
    ("one of one", "a", ["a"], 5.0),
    ("none of one", "a", ["", "b"], 0.0),
    ("one of two", "ab", ["a", "a"], 2.5),
    ("both, in different chunks", "ab", ["a", "", "b"], 5.0),
    ("both, in one chunk", "ab", ["ab"], 5.0),
    ("one of three", "abc", ["c"], 5 / 3),
    ("two of three", "abc", ["c", "bc"], 10 / 3),
    ("three of four", "abcd", ["ab", "bd"], 3.75),
    ("topics that nobody asked for", "ab", ["xyz", "ax"], 2.5),
    ("nothing retrieved", "abc", [], 0.0),
]


@pytest.mark.parametrize(
    ("expected", "covered", "score"), [row[1:] for row in RUBRIC], ids=[row[0] for row in RUBRIC]
)
def test_rubric_is_the_share_of_topics_that_the_chunks_cover_together(
    expected: str, covered: list[str], score: float
) -> None:
    chunks = [{topic: f"name of {topic}" for topic in topics} for topics in covered]
    assert rubric(list(expected), chunks) == pytest.approx(score)


def test_the_rubric_of_the_ten_questions_is_their_mean() -> None:
    scores = [rubric(list(row[1]), [dict.fromkeys(c, "") for c in row[2]]) for row in RUBRIC]
    assert mean(scores) == pytest.approx((5 + 0 + 2.5 + 5 + 5 + 5 / 3 + 10 / 3 + 3.75 + 2.5) / 10)


@pytest.mark.parametrize(
    ("grades", "results", "expected"),
    [
        # The relevant chunks come second and fourth.
        (
            {"b": 1, "d": 1},
            [("a", 4.0), ("b", 3.0), ("c", 2.0), ("d", 1.0)],
            {
                "recall@1": 0.0,
                "recall@3": 0.5,
                "precision@3": 1 / 3,
                "mrr@10": 0.5,
                "map": (1 / 2 + 2 / 4) / 2,
                "ndcg@10": (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3)),
            },
        ),
        # Grades are linear gains: the better chunk comes second.
        (
            {"b": 3, "a": 1},
            [("a", 2.0), ("b", 1.0)],
            {"ndcg@10": (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)), "map": 1.0, "mrr@10": 1.0},
        ),
        # Equal scores are read in descending order of id, so "b" comes before "a".
        ({"a": 1}, [("b", 1.0), ("a", 1.0)], {"mrr@10": 0.5, "recall@1": 0.0}),
        ({"b": 1}, [("b", 1.0), ("a", 1.0)], {"mrr@10": 1.0, "recall@1": 1.0}),
        # Grade 0 is judged and not relevant.
        ({"a": 0, "b": 1}, [("a", 2.0), ("b", 1.0)], {"mrr@10": 0.5, "recall@1": 0.0}),
        # The eleventh result is too late for mrr@10, not for map.
        (
            {"x": 1},
            [*((f"n{i}", 20.0 - i) for i in range(10)), ("x", 1.0)],
            {"mrr@10": 0.0, "recall@10": 0.0, "ndcg@10": 0.0, "map": 1 / 11},
        ),
        ({"a": 1}, [], {"mrr@10": 0.0, "recall@10": 0.0, "map": 0.0, "precision@5": 0.0}),
    ],
)
def test_measures_are_those_worked_by_hand(
    grades: dict[str, int], results: list[tuple[str, float]], expected: dict[str, float]
) -> None:
    found = ir_measures({"q": grades}, {"q": results}, CUTS)["q"]
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_queries_outside_the_qrels_are_not_measured_and_missing_ones_score_0() -> None:
    found = ir_measures({"q": {"a": 1}, "p": {"a": 1}}, {"q": [("a", 1.0)], "z": []}, CUTS)
    assert list(found) == ["q", "p"]
    assert set(found["p"].values()) == {0.0}
    assert found["q"].keys() == found["p"].keys()


def _random(queries: int, seed: int) -> tuple[Qrels, Run]:
    """Runs with many ties; every seventh query is missing."""
    dice = random.Random(seed)
    ids = [f"{i:016x}" for i in dice.sample(range(10**6), 60)]
    qrels, run = {}, {}
    for i in range(queries):
        query = f"q{i:03d}"
        qrels[query] = {chunk: dice.randint(1, 3) for chunk in dice.sample(ids, dice.randint(1, 8))}
        if i % 7:
            scores = {c: float(np.float32(dice.randint(0, 9) / 7)) for c in dice.sample(ids, 30)}
            run[query] = sorted(sorted(scores.items(), reverse=True), key=lambda found: -found[1])
    return qrels, run


def _ranx(qrels: Qrels, run: Run, names: Sequence[str]) -> dict[str, list[float]]:
    """Measures by ranx; it is told the order by scores without ties."""
    import ranx

    ranked = {
        query: {chunk: 1000.0 - rank for rank, (chunk, _) in enumerate(run.get(query, []))}
        or {"nothing": 0.0}
        for query in qrels
    }
    found = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(ranked), list(names), return_mean=False)
    return {name: [float(v) for v in values] for name, values in found.items()}


@pytest.mark.filterwarnings("ignore")
def test_measures_are_those_of_ranx_also_after_the_trec_files(tmp_path: Path) -> None:
    qrels, run = _random(queries=80, seed=3)
    measures = ir_measures(qrels, run, CUTS)
    names = list(measures["q000"])
    theirs = _ranx(qrels, run, names)
    for name in names:
        ours = [measures[query][name] for query in qrels]
        assert ours == pytest.approx(theirs[name], abs=1e-6), name

    write_run(tmp_path / "run.trec", run, "test")
    write_qrels(tmp_path / "qrels.tsv", qrels)
    again = ir_measures(read_qrels(tmp_path / "qrels.tsv"), read_run(tmp_path / "run.trec"), CUTS)
    assert again == measures


def test_trec_files_keep_order_grades_and_every_bit_of_the_scores(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    scores = np.sort(rng.standard_normal(500).astype(np.float32) * 10.0 ** rng.integers(-6, 6, 500))
    found = [(f"c{i}", float(np.float32(s))) for i, s in enumerate(scores[::-1])]
    run: Run = {"q2": found, "q1": [("c9", 0.25), ("c1", 0.25)]}
    write_run(tmp_path / "run.trec", run, "tag")
    again = read_run(tmp_path / "run.trec")
    assert list(again) == ["q2", "q1"]
    for query, results in run.items():
        assert [chunk for chunk, _ in again[query]] == [chunk for chunk, _ in results]
        assert [np.float32(s) for _, s in again[query]] == [np.float32(s) for _, s in results]
    first = (tmp_path / "run.trec").read_text().splitlines()[0].split()
    assert first[:4] == ["q2", "Q0", "c0", "1"]
    assert first[5] == "tag"

    qrels: Qrels = {"q2": {"c1": 3, "c0": 1}, "q1": {"c2": 0}}
    write_qrels(tmp_path / "qrels.tsv", qrels)
    assert read_qrels(tmp_path / "qrels.tsv") == qrels
    assert (tmp_path / "qrels.tsv").read_text().splitlines() == [
        "q2 0 c0 1",
        "q2 0 c1 3",
        "q1 0 c2 0",
    ]


@pytest.mark.parametrize("line", ["q 0 c", "q 0 c many", "q 0 c 1 2", ""])
def test_a_bad_line_of_qrels_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "qrels.tsv").write_text(f"q 0 c 1\n{line}\n")
    with pytest.raises(InputError, match=r"qrels\.tsv:2.*query_id 0 chunk_id grade"):
        read_qrels(tmp_path / "qrels.tsv")


@pytest.mark.parametrize("line", ["q Q0 c 1 0.5", "q Q0 c 1 high tag", ""])
def test_a_bad_line_of_a_run_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "run.trec").write_text(f"q Q0 c 1 0.5 tag\n{line}\n")
    with pytest.raises(InputError, match=r"run\.trec:2.*query_id Q0 chunk_id rank score tag"):
        read_run(tmp_path / "run.trec")
