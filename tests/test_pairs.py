"""The pairs artifact: an honest split, positives as judged, negatives that answer nothing."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import Artifact, open_artifact
from codex_forge.config.pairs import SplitConfig
from codex_forge.corpus import chunk_id_of
from codex_forge.errors import EXIT_CHANGE_SOMETHING, EXIT_DONE
from codex_forge.jsonl import read_json, read_jsonl
from codex_forge.pairs.splits import divide, group_questions
from codex_forge.records import PARTS, Question
from codex_forge.storage import Store
from codex_forge.trec import read_qrels
from tests.conftest import Corpus, Knock, run_module
from tests.test_near_duplicates import similarity

Row = dict[str, Any]
Make = Callable[..., Artifact]

ALL_TEST = {"split": {"train": 0.0, "dev": 0.0, "test": 1.0}}
ALL_TRAIN = {"split": {"train": 1.0, "dev": 0.0, "test": 0.0}}
SOURCES = {"related_entity", "overlapping_mentions", "same_type", "bm25"}


@pytest.fixture
def make(knock: Knock, tmp_path: Path) -> Make:
    """Make the pairs of a corpus through the door and open them."""

    def made(corpus: Corpus, /, **overrides: Any) -> Artifact:
        config = corpus.write(**overrides)
        assert knock("pairs", config) == EXIT_DONE
        store = Store(overrides.get("store", str(corpus.folder / "store")))
        return open_artifact(store, "pairs", "small", tmp_path)

    return made


def rows(artifact: Artifact, name: str) -> list[Row]:
    return list(read_jsonl(artifact.path(name)))


def report(artifact: Artifact) -> Row:
    return read_json(artifact.path("report.json"))


def contents(artifact: Artifact) -> dict[str, bytes]:
    return {name: artifact.path(name).read_bytes() for name in artifact.files}


def chunk(filename: str, text: str, *mentions: str, **fields: Any) -> Row:
    return {"filename": filename, "text": text, "concept_mentions": list(mentions), **fields}


def entity(name: str, filename: str, *aliases: str) -> Row:
    return {"primary_name": name, "filename": filename, "aliases": list(aliases)}


def question(number: int, text: str, *topics: str, **fields: Any) -> Row:
    return {
        "question_id": number,
        "question": text,
        "category": "c",
        "expected_topics": list(topics),
        **fields,
    }


# The same bytes again.


def test_the_same_seed_gives_the_same_bytes_in_another_process_and_store(
    corpus: Corpus, make: Make, tmp_path: Path
) -> None:
    first = make(corpus)
    elsewhere = tmp_path / "elsewhere"
    config = corpus.write(store=str(elsewhere))
    done = run_module("jobs.pairs", str(config), env={"PYTHONHASHSEED": "123"})
    assert done.returncode == EXIT_DONE, done.stderr
    again = open_artifact(Store(str(elsewhere)), "pairs", "small", tmp_path)
    assert contents(again) == contents(first)
    assert again.digest == first.digest


def test_another_seed_gives_other_pairs_and_another_split(
    corpus: Corpus, make: Make, tmp_path: Path
) -> None:
    first, other = make(corpus), make(corpus, seed=8, store=str(tmp_path / "other"))
    for name in ("pairs-train.jsonl", "questions-test.jsonl"):
        assert contents(other)[name] != contents(first)[name]


# The split.


def test_every_question_is_in_one_part_and_no_answer_in_two(corpus: Corpus, make: Make) -> None:
    pairs = make(corpus)
    part_of = {
        row["query_id"]: part for part in PARTS for row in rows(pairs, f"questions-{part}.jsonl")
    }
    held = [row for part in PARTS for row in rows(pairs, f"questions-{part}.jsonl")]
    assert len(held) == len(part_of) == len(corpus.questions)
    parts_of_answer = defaultdict(set)
    for asked in corpus.questions:
        parts_of_answer[tuple(asked["relevant"])].add(part_of[str(asked["question_id"])])
    assert all(len(parts) == 1 for parts in parts_of_answer.values())
    assert len(parts_of_answer) < len(corpus.questions), "no two questions share an answer"
    groups = {row["query_id"]: row["group"] for row in held}
    by_answer = defaultdict(set)
    for asked in corpus.questions:
        by_answer[tuple(asked["relevant"])].add(groups[str(asked["question_id"])])
    assert all(len(found) == 1 for found in by_answer.values())


@pytest.mark.parametrize("seed", range(5))
def test_every_category_is_divided_in_the_shares(seed: int) -> None:
    questions = [
        Question(f"q{i}", f"question {i}", f"category {i % 7 % 4}", (f"topic {i // (1 + i % 2)}",))
        for i in range(400)
    ]
    config = SplitConfig(train=0.3, dev=0.1, test=0.6)
    parts = divide(questions, config, seed, {}).parts
    assert sorted(q.query_id for part in parts.values() for q in part) == sorted(
        q.query_id for q in questions
    )
    largest = max(len(group) for group in group_questions(questions, (), {}))
    totals = Counter(
        group[0].category for group in group_questions(questions, (), {}) for _ in group
    )
    category_of = {
        q.query_id: group[0].category for group in group_questions(questions, (), {}) for q in group
    }
    for part in PARTS:
        found = Counter(category_of[q.query_id] for q in parts[part])
        for category, total in totals.items():
            assert abs(found[category] - getattr(config, part) * total) <= largest + 1


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ({"text": "Who is Rand?"}, {"text": "who IS  Rand?"}, True),
        ({"expected_topics": ("Rand", "Mat")}, {"expected_topics": ("mat", "RAND")}, True),
        ({"expected_topics": ("Rand", "Mat")}, {"expected_topics": ("Rand",)}, False),
        ({"relevant": ("a.md",)}, {"relevant": ("a.md",)}, True),
        ({"relevant": ("a.md",)}, {"relevant": ("b.md",)}, False),
        ({"fields": {"entity": "Rand"}}, {"fields": {"entity": "rand"}}, True),
        ({"fields": {"entity": "Rand"}}, {"fields": {"entity": "Mat"}}, False),
        ({"fields": {"entity": "Rand"}}, {"fields": {}}, False),
    ],
)
def test_what_keeps_two_questions_together(one: Row, other: Row, together: bool) -> None:
    def asked(i: int, given: Row) -> Question:
        fields = {"text": f"text {i}", "category": "c", "expected_topics": (f"topic {i}",)}
        return Question(f"q{i}", **{**fields, **given})

    chunks = {"a.md": 1, "b.md": 2}
    answers = {
        f"q{i}": frozenset(chunks[name] for name in given.get("relevant", ()))
        for i, given in enumerate((one, other))
    }
    groups = group_questions([asked(0, one), asked(1, other)], ["entity"], answers)
    assert len(groups) == (1 if together else 2)


def test_questions_are_tied_together_through_a_third() -> None:
    questions = [
        Question("1", "Who is Rand?", "c", ("a",)),
        Question("2", "who is rand?", "c", ("b",)),
        Question("3", "Another", "c", ("B",)),
        Question("4", "Alone", "c", ("d",)),
    ]
    found = [[q.query_id for q in group] for group in group_questions(questions, (), {})]
    assert found == [["1", "2", "3"], ["4"]]


# No leaks.


def test_no_train_query_is_nearly_a_held_out_question(corpus: Corpus, make: Make) -> None:
    pairs = make(corpus)
    held = [row for part in ("test", "dev") for row in rows(pairs, f"questions-{part}.jsonl")]
    bank = [row["question"] for row in held]
    queries = {row["query"] for row in rows(pairs, "pairs-train.jsonl")}
    assert all(similarity(query, text, bank) < 0.7 for query in queries for text in bank)
    for removed in rows(pairs, "rejected.jsonl"):
        if removed["reason"] == "near-duplicate of a held-out question":
            text = next(r["question"] for r in held if r["query_id"] == removed["about"])
            assert similarity(removed["text"], text, bank) >= 0.7
    assert report(pairs)["rejected"]["query: near-duplicate of a held-out question"] > 0


def test_a_template_that_says_what_the_test_asks_is_removed_and_counted(
    tmp_path: Path, make: Make
) -> None:
    corpus = Corpus(
        tmp_path / "planted",
        [chunk(f"{n}.md", f"{n} is a village by the river.") for n in ("Altburg", "Kessel")],
        {n: entity(n, f"{n}.md") for n in ("Altburg", "Kessel")},
        [question(1, "Tell me about ALTBURG!", "Altburg", relevant=["Altburg.md"])],
    )
    pairs = make(
        corpus,
        pairs={
            **ALL_TEST,
            "synthesis": {"templates": ["tell me about {name}", "{name} village"]},
        },
    )
    assert {row["query"] for row in rows(pairs, "pairs-train.jsonl")} == {
        "Altburg village",
        "tell me about Kessel",
        "Kessel village",
    }
    assert rows(pairs, "rejected.jsonl") == [
        {
            "kind": "query",
            "reason": "near-duplicate of a held-out question",
            "about": "1",
            "text": "tell me about Altburg",
        }
    ]
    assert report(pairs)["rejected"] == {"query: near-duplicate of a held-out question": 1}


# The records.


def test_pairs_have_their_fields_and_the_corpus_has_their_texts(corpus: Corpus, make: Make) -> None:
    pairs = make(corpus)
    texts = {chunk_id_of(c["filename"], c["text"]): c["text"] for c in corpus.chunks}
    sources: Counter[str] = Counter()
    queries = {}
    for name in ("pairs-train.jsonl", "pairs-dev.jsonl"):
        for row in rows(pairs, name):
            assert list(row) == [
                "query",
                "positive",
                "negatives",
                "query_id",
                "positive_id",
                "negative_ids",
                "negative_sources",
                "negative_similarities",
                "negative_hardness",
                "similarity",
                "phase",
                "source",
                "category",
                "domain",
                "topics",
            ]
            assert row["positive"] == texts[row["positive_id"]]
            assert row["negatives"] == [texts[i] for i in row["negative_ids"]]
            assert len(set(row["negative_ids"])) == len(row["negative_sources"]) <= 3
            assert set(row["negative_sources"]) <= SOURCES
            assert row["phase"] in {"easy", "medium", "hard"}
            sources.update(row["negative_sources"])
            if name == "pairs-train.jsonl":
                queries[row["query_id"]] = row["source"]
    assert set(sources) == SOURCES - {"related_entity"}, "no disease of the sample names another"
    told = report(pairs)
    assert told["train_queries_by_source"] == dict(sorted(Counter(queries.values()).items()))
    assert set(told["train_queries_by_source"]) == {
        "question",
        "alias_rewrite",
        "entity",
        "mention",
    }


def test_counts_add_up(corpus: Corpus, make: Make) -> None:
    corpus.questions.append(question(9000, "Who?", "a topic that nobody names"))
    corpus.chunks.append({"filename": "x.md"})
    pairs = make(corpus, corpus={**corpus_section(corpus), "on_bad_record": "reject"})
    told, counts = report(pairs), pairs.counts
    assert told["counts"] == counts
    for key, value in counts.items():
        name = "rejected" if key == "rejected" else key.replace("_", "-")
        assert len(rows(pairs, f"{name}.jsonl")) == value
    assert sum(told["rejected"].values()) == counts["rejected"]
    assert told["rejected"]["question: no chunk answers it"] == 1
    assert told["rejected"]["bad record"] == 1
    kinds = Counter(row["kind"] for row in rows(pairs, "rejected.jsonl"))
    assert kinds["question"] == kinds["record"] == 1
    assert sum(counts[f"questions_{part}"] for part in PARTS) == len(corpus.questions) - 1


def corpus_section(corpus: Corpus) -> Row:
    return {
        "chunks": str(corpus.folder / "chunks.jsonl"),
        "indexes": str(corpus.folder / "x_index.json"),
        "questions": str(corpus.folder / "questions.json"),
    }


# Negatives.


def _holders(corpus: Corpus, topic: str) -> set[str]:
    """Ids of chunks that name the topic under any of its names, one regular expression a name."""
    names = {key: {e["primary_name"], *e["aliases"]} for key, e in corpus.index.items()}
    bearers = Counter(name for found in names.values() for name in {n.casefold() for n in found})
    forms = {topic.casefold()}
    for found in names.values():
        folded = {name.casefold() for name in found}
        if topic.casefold() in folded:
            forms |= {name for name in folded if bearers[name] == 1}
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(form)}(?!\w)" for form in sorted(forms)))
    return {
        chunk_id_of(c["filename"], c["text"])
        for c in corpus.chunks
        if any(pattern.search(t.casefold()) for t in (c["text"], *c["concept_mentions"]))
    }


def _topics(corpus: Corpus, row: Row) -> list[str]:
    kind, _, rest = row["query_id"].partition(":")
    if kind == "entity":
        return [corpus.index[rest.rsplit(":", 1)[0]]["primary_name"]]
    if kind == "mention":
        return [rest.rsplit(":", 1)[0]]
    asked = next(q for q in corpus.questions if str(q["question_id"]) == kind)
    topics: list[str] = asked["expected_topics"]
    return topics


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_no_negative_is_a_positive_or_names_an_expected_topic(
    corpus: Corpus, make: Make, share: float
) -> None:
    """Topics that many chunks name are generic, at most `share` of the corpus or three chunks."""
    pairs = make(corpus, pairs={"negatives": {"generic_topic_share": share}})
    found = [row for part in ("train", "dev") for row in rows(pairs, f"pairs-{part}.jsonl")]
    positives = defaultdict(set)
    for row in found:
        positives[row["query"].casefold()].add(row["positive_id"])
    most = max(3, share * len(corpus.chunks))
    specific = 0
    for row in found:
        assert not positives[row["query"].casefold()] & set(row["negative_ids"])
        for topic in _topics(corpus, row):
            holders = _holders(corpus, topic)
            if len(holders) <= most:
                specific += 1
                assert not holders & set(row["negative_ids"]), (row["query"], topic)
    assert specific > 400
    assert sum(len(row["negative_ids"]) for row in found) > 1000
    assert report(pairs)["negatives_stopped_by_guard"]["answers_the_query"] > 0


@pytest.mark.parametrize("source", sorted(SOURCES - {"related_entity"}))
def test_negatives_come_from_the_one_source_that_has_weight(
    corpus: Corpus, make: Make, source: str
) -> None:
    weights = {name: float(name == source) for name in SOURCES}
    pairs = make(corpus, pairs={"negatives": {"num": 2, **weights}})
    found = rows(pairs, "pairs-train.jsonl")
    assert {name for row in found for name in row["negative_sources"]} == {source}
    chunks = {chunk_id_of(c["filename"], c["text"]): c for c in corpus.chunks}
    for row in found:
        positive = chunks[row["positive_id"]]
        for negative in (chunks[i] for i in row["negative_ids"]):
            if source == "same_type":
                assert negative["wiki_type"] == positive["wiki_type"]
            if source == "overlapping_mentions":
                shared = [
                    {m.casefold() for m in c["concept_mentions"]} for c in (positive, negative)
                ]
                assert shared[0] & shared[1]


def test_a_related_entity_is_one_that_the_positive_names(tmp_path: Path, make: Make) -> None:
    weights = {name: float(name == "related_entity") for name in SOURCES}
    corpus = Corpus(tmp_path / "wheel", WHEEL, WHEEL_INDEX, [])
    synthesis = {"templates": ["{name}"], "from_mentions": False}
    pairs = make(corpus, pairs={"negatives": weights, "synthesis": synthesis})
    found = {row["query"]: row for row in rows(pairs, "pairs-train.jsonl")}
    # Chunk 1, about Rand, names Mat (chunk 2, which names the Dragon Reborn) and Egwene (chunk 4).
    assert found["Rand"]["negatives"] == ["The inn was quiet."]
    # Chunk 2, about Mat, names Rand, whose chunk names Mat.
    assert found["Mat"]["negatives"] == []
    # Chunk 6, about Lews, names Rand and Mat.
    assert set(found["Lews Therin"]["negatives"]) == {WHEEL[0]["text"], WHEEL[1]["text"]}
    assert report(pairs)["negatives_stopped_by_guard"]["covers_the_topics"] > 0


def test_what_may_answer_is_no_negative_whatever_the_source(tmp_path: Path, make: Make) -> None:
    texts = {
        "answer": "The old mill by the river burned down.",
        "twin": "the old mill by the  river burned down.",
        "other": "The bakery burned down.",
        "kessel": "A village that burned bricks.",
        "rest": "Charcoal was burned in the wood.",
    }
    corpus = Corpus(
        tmp_path / "guard",
        [chunk(f"{name}.md", text, wiki_type="t") for name, text in texts.items()],
        {"kessel": entity("Kessel", "kessel.md")},
        [
            question(1, "What burned down near Kessel?", "x", relevant=["answer.md"]),
            question(2, "what burned down near KESSEL?", "y", relevant=["other.md"]),
        ],
    )
    pairs = make(corpus, pairs=ALL_TRAIN)
    found = [r for r in rows(pairs, "pairs-train.jsonl") if r["source"] == "question"]
    assert [row["query_id"] for row in found] == ["1", "2"]
    # Not the twin's text, not what answers the same words elsewhere, not the entity asked about.
    assert [row["negatives"] for row in found] == [[texts["rest"]]] * 2
    assert report(pairs)["negatives_stopped_by_guard"].keys() >= {
        "about_a_named_entity",
        "answers_the_query",
        "same_text_as_an_answer",
    }


def test_a_chunk_later_than_the_limit_is_neither_positive_nor_negative(
    tmp_path: Path, make: Make
) -> None:
    chunks = [
        chunk("rand.md", "Rand leaves the village.", "Rand", temporal_order=1),
        chunk("crown.md", "Rand is crowned.", "Rand", temporal_order=9),
        chunk("inn.md", "The village has an inn.", "Rand", temporal_order=2, wiki_type="place"),
        chunk("mill.md", "A mill, always there.", "Rand"),
    ]
    asked = question(
        1,
        "What does the shepherd do?",
        "shepherd",
        relevant=["rand.md", "crown.md"],
        temporal_limit=3,
    )
    for parts, name in ((ALL_TRAIN, "pairs-train.jsonl"), (ALL_TEST, "qrels-test.tsv")):
        corpus = Corpus(tmp_path / name, chunks, {"inn": entity("inn", "inn.md")}, [asked])
        pairs = make(corpus, pairs={**parts, "synthesis": {"from_mentions": False}})
        early, late = (chunk_id_of(c["filename"], c["text"]) for c in chunks[:2])
        if name == "qrels-test.tsv":
            assert read_qrels(pairs.path(name)) == {"1": {early: 1}}
            continue
        (row,) = [r for r in rows(pairs, name) if r["query_id"] == "1"]
        assert row["positive_id"] == early
        assert late not in row["negative_ids"]
        assert set(row["negative_ids"]) == {
            chunk_id_of(c["filename"], c["text"]) for c in chunks[2:]
        }


# Answers.


WHEEL = [
    chunk("1.md", "Rand and Mat met Egwene."),
    chunk("2.md", "The Dragon Reborn rode with Mat."),
    chunk("3.md", "Rand slept."),
    chunk("4.md", "The inn was quiet.", "Egwene al'Vere", "Mat Cauthon"),
    chunk("5.md", "Random materials."),
    chunk("6.md", "Lord Dragon and Mat."),
]
WHEEL_INDEX = {
    "rand": entity("Rand al'Thor", "1.md", "Rand", "the Dragon Reborn", "Lord Dragon"),
    "mat": entity("Mat Cauthon", "2.md", "Mat"),
    "egwene": entity("Egwene al'Vere", "4.md", "Egwene"),
    "lews": entity("Lews Therin", "6.md", "Lord Dragon"),
}


@pytest.mark.parametrize(
    ("minimum", "expected"),
    [
        (
            0.5,
            # Chunk 1 names all three; 2 and 4 name two; 3 and 6 name one; "Lord Dragon" is
            # ambiguous.
            {
                "1": {"1.md": 3, "2.md": 2, "4.md": 2},
                "2": {"1.md": 3, "2.md": 1, "4.md": 3, "6.md": 1},
            },
        ),
        (0.7, {"1": {"1.md": 3}, "2": {"1.md": 3, "4.md": 3}}),
        (
            0.3,
            {
                "1": {"1.md": 3, "2.md": 2, "3.md": 1, "4.md": 2, "6.md": 1},
                "2": {"1.md": 3, "2.md": 1, "4.md": 3, "6.md": 1},
            },
        ),
    ],
)
def test_without_relevant_the_grade_is_the_share_of_topics_covered(
    tmp_path: Path, make: Make, minimum: float, expected: dict[str, dict[str, int]]
) -> None:
    corpus = Corpus(
        tmp_path / "wheel",
        WHEEL,
        WHEEL_INDEX,
        [
            question(1, "Who travels together?", "Rand al'Thor", "Mat Cauthon", "Egwene"),
            question(2, "Who are the two friends?", "Mat", "Egwene al'Vere"),
        ],
    )
    pairs = make(corpus, pairs={**ALL_TEST, "min_topic_coverage": minimum})
    file_of = {chunk_id_of(c["filename"], c["text"]): c["filename"] for c in WHEEL}
    found = {
        query: {file_of[i]: grade for i, grade in grades.items()}
        for query, grades in read_qrels(pairs.path("qrels-test.tsv")).items()
    }
    assert found == expected


def test_relevant_names_files_or_chunks_and_beats_coverage(tmp_path: Path, make: Make) -> None:
    third = chunk_id_of("3.md", "Rand slept.")
    corpus = Corpus(
        tmp_path / "wheel",
        WHEEL,
        WHEEL_INDEX,
        [question(1, "Who travels?", "Rand", "Mat", relevant=["5.md", third])],
    )
    pairs = make(corpus, pairs=ALL_TEST)
    fifth = chunk_id_of("5.md", "Random materials.")
    assert read_qrels(pairs.path("qrels-test.tsv")) == {"1": {fifth: 1, third: 1}}


def test_train_questions_take_only_the_best_covering_chunks(tmp_path: Path, make: Make) -> None:
    asked = question(1, "Who travels together?", "Rand al'Thor", "Mat Cauthon", "Egwene")
    corpus = Corpus(tmp_path / "wheel", WHEEL, WHEEL_INDEX, [asked])
    pairs = make(corpus, pairs={**ALL_TRAIN, "min_topic_coverage": 0.3, "positives_per_query": 3})
    found = [r["positive"] for r in rows(pairs, "pairs-train.jsonl") if r["query_id"] == "1"]
    assert found == [WHEEL[0]["text"]], "half answers are in the qrels, not in the pairs"
    negatives = {
        n for r in rows(pairs, "pairs-train.jsonl") if r["query_id"] == "1" for n in r["negatives"]
    }
    assert not negatives & {WHEEL[1]["text"], WHEEL[3]["text"]}


def test_a_question_that_no_chunk_answers_is_rejected(tmp_path: Path, make: Make) -> None:
    corpus = Corpus(
        tmp_path / "wheel",
        WHEEL,
        WHEEL_INDEX,
        [question(1, "Who is Perrin?", "Perrin"), question(2, "Who is Mat?", "Mat")],
    )
    pairs = make(corpus, pairs=ALL_TEST)
    assert [row["query_id"] for row in rows(pairs, "questions-test.jsonl")] == ["2"]
    reasons = [r for r in rows(pairs, "rejected.jsonl") if r["kind"] == "question"]
    assert reasons == [
        {
            "kind": "question",
            "reason": "no chunk answers it",
            "about": "1",
            "text": "Who is Perrin?",
        }
    ]


# Queries made from the domain.


def test_an_ambiguous_name_is_rejected_and_asked_for_nowhere(tmp_path: Path, make: Make) -> None:
    corpus = Corpus(tmp_path / "wheel", WHEEL, WHEEL_INDEX, [])
    pairs = make(corpus)
    names = [row for row in rows(pairs, "rejected.jsonl") if row["kind"] == "name"]
    assert names == [
        {
            "kind": "name",
            "reason": "several entities bear it",
            "about": "rand, lews",
            "text": "lord dragon",
        }
    ]
    queries = [row["query"].casefold() for row in rows(pairs, "pairs-train.jsonl")]
    assert not [query for query in queries if "lord dragon" in query]
    assert any("dragon reborn" in query for query in queries)


def test_each_name_is_asked_once_before_any_is_asked_twice(tmp_path: Path, make: Make) -> None:
    corpus = Corpus(tmp_path / "wheel", WHEEL, {"rand": WHEEL_INDEX["rand"]}, [])
    synthesis = {"per_entity": 5, "per_name": 2, "from_mentions": False}
    pairs = make(corpus, pairs={"synthesis": synthesis})
    queries = [row["query"] for row in rows(pairs, "pairs-train.jsonl")]
    assert len(queries) == 5
    names = ["Rand al'Thor", "Rand", "the Dragon Reborn", "Lord Dragon"]
    assert [n for q, n in zip(queries, names, strict=False) if q.endswith(n)] == names


def test_mentions_that_no_index_names_become_queries(tmp_path: Path, make: Make) -> None:
    chunks = [
        *(
            chunk(f"{i}.md", f"Text number {i} of many.", "everywhere", wiki_type="t")
            for i in range(5)
        ),
        chunk("x.md", "He carries a blade.", "Heron-Marked Sword", "Mat", wiki_type="t"),
        chunk("y.md", "It was sold.", "heron-marked sword", wiki_type="t"),
    ]
    corpus = Corpus(tmp_path / "mentions", chunks, {"mat": entity("Mat", "x.md")}, [])
    pairs = make(corpus, pairs={"synthesis": {"templates": ["{name}", "on {name}"]}})
    found = [r for r in rows(pairs, "pairs-train.jsonl") if r["source"] == "mention"]
    holders = ["He carries a blade.", "It was sold."]
    assert [r["positive"] for r in found] == holders
    assert {r["query"] for r in found} == {"Heron-Marked Sword", "on Heron-Marked Sword"}
    assert all(r["negatives"] and not set(holders) & set(r["negatives"]) for r in found)
    synthesis = {"templates": ["{name}"], "from_mentions": False}
    pairs = make(corpus, pairs={"synthesis": synthesis}, store=str(tmp_path / "other"))
    assert {r["source"] for r in rows(pairs, "pairs-train.jsonl")} == {"entity"}


def test_train_questions_are_reworded_through_aliases(tmp_path: Path, make: Make) -> None:
    index = {
        "thor": entity("Rand al'Thor", "1.md", "Lews Reborn", "Lord Dragon"),
        "rand": entity("Rand", "3.md", "the sleeper"),
        "mat": entity("Mat Cauthon", "2.md", "the gambler"),
        "lews": entity("Lews Therin", "6.md", "Lord Dragon"),
    }
    asked = question(1, "Does RAND AL'THOR know Mat Cauthon?", "Mat Cauthon")
    corpus = Corpus(tmp_path / "wheel", WHEEL, index, [asked])
    pairs = make(corpus, pairs=ALL_TRAIN)
    rewritten = {
        row["query"] for row in rows(pairs, "pairs-train.jsonl") if row["source"] == "alias_rewrite"
    }
    assert rewritten == {
        "Does Lews Reborn know Mat Cauthon?",
        "Does RAND AL'THOR know the gambler?",
    }
    few = {**ALL_TRAIN, "synthesis": {"synthetic_expansion": 1}}
    pairs = make(corpus, pairs=few, store=str(tmp_path / "few"))
    assert not [r for r in rows(pairs, "pairs-train.jsonl") if r["source"] == "alias_rewrite"]


# What may be missing.


def _sections(corpus: Corpus, *missing: str) -> Row:
    return {key: value for key, value in corpus_section(corpus).items() if key not in missing}


def test_a_corpus_without_questions_still_makes_pairs(corpus: Corpus, make: Make) -> None:
    pairs = make(corpus, corpus=_sections(corpus, "questions"))
    assert pairs.counts["pairs_train"] > 200
    assert pairs.counts["questions_test"] == pairs.counts["pairs_dev"] == 0
    assert {r["source"] for r in rows(pairs, "pairs-train.jsonl")} == {"entity", "mention"}


def test_a_corpus_without_indexes_makes_pairs_of_mentions_and_questions(
    corpus: Corpus, make: Make
) -> None:
    pairs = make(corpus, corpus=_sections(corpus, "indexes"))
    assert {r["source"] for r in rows(pairs, "pairs-train.jsonl")} == {"question", "mention"}
    assert pairs.counts["questions_test"] > 0


def test_nothing_to_train_on_is_an_error_that_says_what_to_give(
    tmp_path: Path, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = Corpus(tmp_path / "bare", [chunk("a.md", "Some text.")], {}, [])
    assert knock("pairs", corpus.write()) == EXIT_CHANGE_SOMETHING
    assert "no training query could be made" in capsys.readouterr().err
    assert not list((tmp_path / "bare" / "store").rglob("manifest.json"))


# What reports slice by.


def test_questions_tell_whether_their_answer_was_trained_on_and_their_name_is_known(
    tmp_path: Path, make: Make
) -> None:
    chunks = [chunk(f"{n}.md", f"{n} is a village by the river.") for n in ("Altburg", "Kessel")]
    chunks.append(chunk("ruin.md", "A ruin without a name."))
    corpus = Corpus(
        tmp_path / "slices",
        chunks,
        {n: entity(n, f"{n}.md") for n in ("Altburg", "Kessel")},
        [
            question(1, "Where would one look for Altburg?", "a", relevant=["Altburg.md"], era=3),
            question(2, "Where is that old settlement?", "b", relevant=["Kessel.md"]),
            question(3, "Was the ruin near Kessel ever lived in?", "c", relevant=["ruin.md"]),
        ],
    )
    pairs = make(corpus, pairs=ALL_TEST)
    found = {
        row["query_id"]: (row["exposure"], row["name_in_index"])
        for row in rows(pairs, "questions-test.jsonl")
    }
    assert found == {
        "1": ("trained_chunk", True),
        "2": ("trained_chunk", False),
        "3": ("unseen_chunk", False),
    }
    assert rows(pairs, "questions-test.jsonl")[0]["era"] == 3
    assert (
        json.loads(pairs.path("questions-test.jsonl").read_text().splitlines()[1])["group"] == "2"
    )


def _corpus(folder: Path, texts: dict[str, str], index: dict[str, list[str]]) -> Corpus:
    return Corpus(
        folder,
        [{"text": text, "filename": name, "wiki_type": "x"} for name, text in texts.items()],
        {
            names[0]: {"primary_name": names[0], "filename": name, "aliases": names[1:]}
            for name, names in index.items()
        },
        [],
    )


def test_a_chunk_that_covers_the_topics_is_no_negative_even_when_answers_are_given(
    tmp_path: Path, make: Make
) -> None:
    texts = {"bridge.md": "Brannoc held the Long Span.", "other.md": "At the Long Span, Brannoc."}
    texts |= {f"{i}.md": f"The Long Span is held by pillar {i}." for i in range(8)}
    texts["moor.md"] = "Mist held on the moor."
    corpus = _corpus(tmp_path / "span", texts, {})
    asked = question(1, "Who held it?", "Brannoc", "Long Span", relevant=["bridge.md"])
    corpus.questions.append(asked)
    pairs = make(corpus, pairs=ALL_TRAIN)
    found = [r for r in rows(pairs, "pairs-train.jsonl") if r["query_id"] == "1"]
    assert [row["negatives"] for row in found] == [[texts["moor.md"]]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Why is Brannoc called the Breaker?", []),
        ("Whom does the Breaker marry?", ["Whom does Brannoc Tell marry?"]),
    ],
)
def test_a_rewording_does_not_say_a_name_twice(text: str, expected: list[str]) -> None:
    from codex_forge.entities import EntityIndex
    from codex_forge.pairs.synthesis import Rewriter
    from codex_forge.records import Entity, Question

    index = EntityIndex([Entity("b", "Brannoc Tell", "b.md", ("the Breaker",))])
    found = Rewriter(index).rewrites(Question("1", text, "c", ("x",)), 5, 7)
    assert found == expected


def test_a_part_of_a_name_makes_no_query(tmp_path: Path, make: Make) -> None:
    corpus = _corpus(
        tmp_path / "part",
        {"a.md": "Brannoc Tell rode.", "b.md": "A page about a mill.", "c.md": "Rain."},
        {"a.md": ["Brannoc Tell"]},
    )
    corpus.chunks[1]["character_mentions"] = ["Brannoc", "Old Mill"]
    pairs = make(corpus, pairs=ALL_TRAIN)
    queries = {r["query"] for r in rows(pairs, "pairs-train.jsonl") if r["source"] == "mention"}
    assert any("Old Mill" in query for query in queries)
    assert not any("Brannoc" in query for query in queries)


def test_a_file_and_its_chunk_are_the_same_answer(corpus: Corpus, make: Make) -> None:
    """Two questions about one chunk stay together, however `relevant` names it."""
    chunk_of = {c["filename"]: chunk_id_of(c["filename"], c["text"]) for c in corpus.chunks}
    twins = [
        {
            **asked,
            "question": f"In other words, {asked['alias']}, please?",
            "question_id": f"twin-{asked['question_id']}",
            "relevant": [chunk_of[name] for name in asked["relevant"]],
            "expected_topics": [f"another topic {number}"],
        }
        for number, asked in enumerate(corpus.questions)
    ]
    corpus.questions.extend(twins)
    pairs = make(corpus)
    part_of = {
        row["query_id"]: part for part in PARTS for row in rows(pairs, f"questions-{part}.jsonl")
    }
    assert any(query.startswith("twin-") for query in part_of)
    for query, part in part_of.items():
        if query.startswith("twin-"):
            assert part == part_of[query.removeprefix("twin-")]
