"""Which train rows taught a question: those of risen answers, of its topics, and in its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact
from codex_forge.compare.ranks import Move, moves, risen
from codex_forge.compare.taught import Taught, shortened
from codex_forge.jsonl import write_jsonl
from codex_forge.pair_files import shard_file
from codex_forge.storage import Store

Row = dict[str, Any]


def _row(query: str, answer: str, *topics: str, **other: Any) -> Row:
    return {
        "query": query,
        "positive": f"What {answer} says.",
        "negatives": [],
        "query_id": f"of {query}",
        "positive_id": answer,
        "phase": "medium",
        "source": "entity",
        "topics": list(topics),
        **other,
    }


ROWS = [
    _row("tell me about kernicterus", "c1", "kernicterus"),
    _row("bilirubin encephalopathy", "c1", "kernicterus", phase="hard"),
    _row("who is Old Marrow", "c2", "Tobias Marrow"),
    _row("what does bilirubin do", "c3", "bilirubin", source="question"),
    _row("where is the quay", "c4", "the quay", phase="easy", source="mention"),
    *(_row(f"what does that number {i} mean", f"n{i}") for i in range(40)),
]


def _pairs(folder: Path, *shards: list[Row]) -> Artifact:
    store, cache = Store(str(folder / "store")), folder / "cache"
    cache.mkdir()
    for shard, rows in enumerate(shards):
        recipe = Recipe("pairs", "small", {}, {})
        draft = begin(store, recipe, cache, shard=shard, shards=len(shards), force=False)
        assert isinstance(draft, Draft)
        write_jsonl(draft.path(shard_file("pairs-train", shard, len(shards))), rows)
        draft.commit({"pairs": len(rows)})
        draft.lease.release(0, "")
    return open_artifact(store, "pairs", "small", cache)


def _queries(found: list[Row]) -> list[str]:
    return [row["query"] for row in found]


def test_the_row_with_most_in_common_comes_first_and_says_why(tmp_path: Path) -> None:
    taught = Taught(_pairs(tmp_path, ROWS), tmp_path)
    asked = "I was told that I have bilirubin encephalopathy; what does that mean?"
    found = taught.of(asked, ["c1"], ["kernicterus"])
    assert _queries(found) == [
        "bilirubin encephalopathy",
        "tell me about kernicterus",
        "what does bilirubin do",
    ]
    first = dict(found[0])
    assert first.pop("why") == (
        "its answer is a chunk that rose; it is about “kernicterus”; "
        "it shares “encephalopathy”, “bilirubin”"
    )
    assert first == {
        "query": "bilirubin encephalopathy",
        "chunk_id": "c1",
        "text": "What c1 says.",
        "source": "entity",
        "phase": "hard",
        "query_id": "of bilirubin encephalopathy",
    }
    assert found[1]["why"] == "its answer is a chunk that rose; it is about “kernicterus”"


def test_words_that_every_query_uses_teach_nothing(tmp_path: Path) -> None:
    taught = Taught(_pairs(tmp_path, ROWS), tmp_path)
    assert taught.of("what does that mean, Old Marrow?", [], [])[0]["query"] == "who is Old Marrow"
    assert len(taught.of("what does that mean, Old Marrow?", [], [])) == 1
    assert taught.of("", [], []) == []
    assert taught.of("xyzzy", ["nowhere"], ["nothing"]) == []


def test_topics_are_compared_without_case(tmp_path: Path) -> None:
    found = Taught(_pairs(tmp_path, ROWS), tmp_path).of("Who?", [], ["tobias marrow"])
    assert [(row["query"], row["why"]) for row in found] == [
        ("who is Old Marrow", "it is about “tobias marrow”; it shares “who”")
    ]


def test_no_query_is_told_twice(tmp_path: Path) -> None:
    rows = [_row("The Light", f"c{i}") for i in range(3)] + [_row("the light", "c9")]
    assert len(Taught(_pairs(tmp_path, rows), tmp_path).of("the light", ["c1", "c9"], [])) == 1


def test_rows_of_all_shards_are_found(tmp_path: Path) -> None:
    taught = Taught(_pairs(tmp_path, ROWS[:2], ROWS[2:4], ROWS[4:]), tmp_path)
    assert len(taught) == len(ROWS)
    assert _queries(taught.of("x", ["c4"], [])) == ["where is the quay"]
    assert _queries(taught.of("x", ["c2", "c1"], [])) == [
        "tell me about kernicterus",
        "bilirubin encephalopathy",
        "who is Old Marrow",
    ]


@pytest.mark.parametrize(
    ("settings", "queries"),
    [
        ({"phases": ["hard"]}, 1),
        ({"phases": ["easy", "hard"], "sources": []}, 2),
        ({"sources": ["question"]}, 1),
        ({"stages": {"1": {"phases": ["easy"]}, "2": {"sources": ["question"]}}}, 2),
        ({"stages": {"1": {"objective": "cosent"}}}, 0),
        ({"objective": "cosine"}, 0),
        ({"objective": "multiple_negatives_ranking"}, len(ROWS)),
    ],
)
def test_rows_that_training_left_out_taught_nothing(
    tmp_path: Path, settings: Row, queries: int
) -> None:
    assert len(Taught(_pairs(tmp_path, ROWS), tmp_path, settings)) == queries


def test_ready_made_rows_without_a_chunk_are_found_by_their_words(tmp_path: Path) -> None:
    rows = [_row("the grey lantern", "", source="ready"), *ROWS]
    found = Taught(_pairs(tmp_path, rows), tmp_path).of("grey lantern?", ["", "c8"], [])
    assert [(row["query"], row["chunk_id"]) for row in found] == [("the grey lantern", "")]


def test_no_train_rows_teach_nothing(tmp_path: Path) -> None:
    assert Taught(_pairs(tmp_path, []), tmp_path).of("anything", ["c1"], ["x"]) == []


def test_long_answers_are_cut_at_a_word() -> None:
    assert shortened("one two\n three", 200) == "one two three"
    cut = shortened("word " * 100, 200)
    assert len(cut) <= 200
    assert cut.endswith("word…")
    assert shortened("x" * 300, 200) == "x" * 199 + "…"


def _chunks(*ids: str, **useful: str) -> list[Row]:
    return [
        {"chunk_id": name, "rank": rank, "relevant": name in useful, "covers": {}}
        for rank, name in enumerate(ids, start=1)
    ]


def test_moves_say_where_each_chunk_went() -> None:
    left, right = moves(_chunks("a", "b", "c"), _chunks("c", "b", "d"))
    assert left == [Move("gone"), Move("same"), Move("up", 2)]
    assert right == [Move("up", 2), Move("same"), Move("new")]
    assert [move.words for move in right] == ["up 2", "", "new"]
    assert moves(_chunks("a", "b"), _chunks("b", "a"))[0][0].words == "down 1"


def test_useful_chunks_that_rose_count_before_others() -> None:
    before = _chunks("a", "b", "c")
    assert risen(before, _chunks("d", "c", "a")) == ["d", "c"]
    assert risen(before, _chunks("d", "c", "a", c="relevant")) == ["c"]
    assert risen(before, before) == []
