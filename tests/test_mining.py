"""Mined negatives: each source keeps its promise, the guard its own, and the counts say so."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import Artifact
from codex_forge.shingles import chunk_similarity
from tests.conftest import Corpus, sample_corpus
from tests.made_pairs import (
    NONE_ELSE,
    Cosines,
    Row,
    by_id,
    chunk,
    codex_corpus,
    entity,
    made,
    opened,
    question,
    report,
    rows,
)

ALL_TRAIN = {"split": {"train": 1.0, "dev": 0.0, "test": 0.0}}
FIRST_FIVE = ("related_entity", "overlapping_mentions", "same_type", "bm25", "tfidf_band")
LOOSE = 5e-5 + 1e-6
"""Similarities are written with four decimals."""


def only(source: str, **settings: Any) -> Row:
    """Negatives of one source alone."""
    return {**NONE_ELSE, source: 1.0, **settings}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mining")


@pytest.fixture(scope="module")
def codex(folder: Path) -> Corpus:
    return codex_corpus(folder / "codex")


@pytest.fixture(scope="module")
def mixed(codex: Corpus, folder: Path) -> Artifact:
    """Five negatives a pair, of all sources but the model's."""
    mix = {"num": 5, "tfidf_band": 1.0, "band": [0.1, 0.4]}
    store = folder / "mixed"
    return made(codex, folder / "c", f"store={store}", pairs={"negatives": mix}, store=str(store))


def alone(codex: Corpus, folder: Path, source: str, **settings: Any) -> Artifact:
    store = folder / f"store-{source}"
    weights = only(source, **settings)
    return made(codex, folder / source, store=str(store), pairs={"negatives": weights})


# Facts of a row.


def test_similarities_are_tf_idf_cosines_worked_out_by_hand(codex: Corpus, mixed: Artifact) -> None:
    cosines = Cosines(c["text"] for c in codex.chunks)
    found = [*rows(mixed, "pairs-train"), *rows(mixed, "pairs-dev")]
    for row in found[::7]:
        assert row["similarity"] == pytest.approx(
            cosines.of(row["query"], row["positive"]), abs=LOOSE
        )
        for text, told in zip(row["negatives"], row["negative_similarities"], strict=True):
            assert told == pytest.approx(cosines.of(row["query"], text), abs=LOOSE)
    assert {round(row["similarity"], 1) for row in found} >= {0.0, 0.1, 0.2, 0.3}


def test_hardness_is_the_negative_s_similarity_beside_the_positive_s(mixed: Artifact) -> None:
    met = Counter[str]()
    for row in rows(mixed, "pairs-train"):
        for told, similarity in zip(
            row["negative_hardness"], row["negative_similarities"], strict=True
        ):
            share = similarity / row["similarity"] if row["similarity"] else 2.0
            expected = "hard" if share >= 0.9 else "medium" if share >= 0.5 else "easy"
            assert told == (expected if similarity > 0 else "easy")
            met[told] += 1
    assert set(met) == {"easy", "medium", "hard"}


def test_no_pair_has_more_negatives_than_asked_or_one_twice(mixed: Artifact) -> None:
    counts = Counter[int]()
    for row in rows(mixed, "pairs-train"):
        counts[len(row["negatives"])] += 1
        assert len(set(row["negative_ids"])) == len(row["negatives"])
        lists = ("negative_ids", "negative_sources", "negative_similarities", "negative_hardness")
        assert {len(row[key]) for key in lists} == {len(row["negatives"])}
    assert max(counts) == 5
    assert counts[5] > 0.95 * counts.total()


def test_the_report_counts_what_the_rows_hold(mixed: Artifact) -> None:
    found = [*rows(mixed, "pairs-train"), *rows(mixed, "pairs-dev")]
    told = report(mixed)
    sources = Counter(source for row in found for source in row["negative_sources"])
    assert told["negatives_by_source"] == dict(sorted(sources.items()))
    assert told["phases"] == dict(sorted(Counter(row["phase"] for row in found).items()))


# The mix.


def test_the_shares_of_the_mix_follow_the_weights(tmp_path: Path) -> None:
    """Where no source runs dry: many chunks of one type with one mention and common words."""
    chunks = [
        chunk(f"{i}.md", f"Stone number {i} of the wall near gate {i % 9}.", "wall", wiki_type="x")
        for i in range(400)
    ]
    index = {str(i): entity(f"Stone {i}", f"{i}.md") for i in range(300)}
    weights = {**NONE_ELSE, "num": 3, "same_type": 1.0, "overlapping_mentions": 2.0, "bm25": 3.0}
    synthesis = {"templates": ["{name} of the wall"], "from_mentions": False}
    pairs = made(
        Corpus(tmp_path / "wall", chunks, index, []),
        tmp_path,
        pairs={"negatives": weights, "synthesis": synthesis},
    )
    told = report(pairs)["negatives_by_source"]
    total = sum(told.values())
    assert total == 900
    for source, share in (("same_type", 1 / 6), ("overlapping_mentions", 2 / 6), ("bm25", 3 / 6)):
        assert told[source] / total == pytest.approx(share, abs=0.06)  # 3.6 standard errors


def test_names_of_punctuation_alone_are_set_aside_and_found_nowhere(tmp_path: Path) -> None:
    corpus = Corpus(
        tmp_path / "corpus",
        [
            chunk("mill.md", "The mill ... stands \U0001f525 there."),
            chunk("inn.md", "The inn ... too."),
        ],
        {"mill": entity("Mill", "mill.md", "...", "\u200d", "\U0001f525", "C++")},
        [question(1, "Where is the Mill?", "Mill"), question(2, "What of the inn ...?", "inn")],
    )
    everything = {"split": {"train": 1.0, "dev": 0.0, "test": 0.0}}
    pairs = made(corpus, tmp_path, pairs={**everything, "synthesis": {"templates": ["{name}"]}})
    assert {(row["query"], row["positive"][:8]) for row in rows(pairs, "pairs-train")} == {
        ("Where is the Mill?", "The mill"),
        ("Where is the \U0001f525?", "The mill"),
        ("Where is the C++?", "The mill"),
        ("What of the inn ...?", "The inn "),
        ("Mill", "The mill"),
    }
    names = [row for row in rows(pairs, "rejected") if row["kind"] == "name"]
    assert {row["text"] for row in names} == {"...", "\u200d"}


def test_weights_count_beside_each_other_only(codex: Corpus, folder: Path, tmp_path: Path) -> None:
    both = {"bm25": 1.7e308, "same_type": 1.7e308}
    huge = made(
        codex, tmp_path, store=str(folder / "huge"), pairs={"negatives": {**NONE_ELSE, **both}}
    )
    assert set(report(huge)["negatives_by_source"]) == {"bm25", "same_type"}


@pytest.mark.parametrize("source", FIRST_FIVE)
def test_one_source_alone_gives_what_it_promises(codex: Corpus, folder: Path, source: str) -> None:
    band = (0.15, 0.35)
    pairs = alone(
        codex, folder, source, num=2, **({"band": list(band)} if "band" in source else {})
    )
    found = rows(pairs, "pairs-train")
    assert {name for row in found for name in row["negative_sources"]} == {source}
    assert sum(bool(row["negatives"]) for row in found) > 0.3 * len(found)
    chunks = by_id(codex.chunks)
    cosines = Cosines(c["text"] for c in codex.chunks)
    for row in found[::5]:
        positive = chunks[row["positive_id"]]
        for negative in (chunks[i] for i in row["negative_ids"]):
            assert promise(source, row, positive, negative, codex, cosines, band), row


def promise(
    source: str,
    row: Row,
    positive: Row,
    negative: Row,
    corpus: Corpus,
    cosines: Cosines,
    band: tuple[float, float],
) -> bool:
    """Whether a negative is what its source says of itself, for one pair."""
    if source == "same_type":
        return bool(negative["wiki_type"] == positive["wiki_type"])
    if source == "bm25":
        return cosines.of(row["query"], negative["text"]) > 0
    if negative["filename"] == positive["filename"]:
        return False
    if source == "tfidf_band":
        near = cosines.of(positive["text"], negative["text"])
        return band[0] - LOOSE <= near <= band[1] + LOOSE
    if source == "overlapping_mentions":
        return not mentions(positive).isdisjoint(mentions(negative))
    text = " | ".join((positive["text"], *mentions(positive))).casefold()
    names = [
        name
        for e in corpus.index.values()
        if e["filename"] == negative["filename"]
        for name in (e["primary_name"], *e["aliases"])
    ]
    return any(re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", text) for name in names)


def mentions(record: Row) -> set[str]:
    return {
        mention.casefold()
        for key, value in record.items()
        if key.endswith("_mentions")
        for mention in value
    }


def test_bm25_takes_from_no_deeper_than_it_may(codex: Corpus, folder: Path) -> None:
    """Of a depth of two, positive and answers left out, a query has two negatives at most."""
    settings = {**only("bm25", num=5), "bm25_depth": 2}
    store = folder / "shallow"
    pairs = made(codex, folder / "s", store=str(store), pairs={"negatives": settings})
    by_query: dict[str, set[str]] = {}
    for row in rows(pairs, "pairs-train"):
        by_query.setdefault(row["query"], set()).update(row["negative_ids"])
    assert max(map(len, by_query.values())) == 2


# The guard.


def test_a_generic_topic_does_not_stop_everything_and_a_rare_one_stops_all_its_chunks(
    tmp_path: Path,
) -> None:
    chunks = [chunk(f"{i}.md", f"A tale {i} of the kingdom.", wiki_type="t") for i in range(40)]
    chunks += [chunk(f"r{i}.md", f"The heron blade {i} shone.", wiki_type="t") for i in range(3)]
    asked = [
        question(1, "What is told of that country?", "kingdom", relevant=["0.md"]),
        question(2, "What did the weapon look like?", "heron blade", relevant=["r0.md"]),
    ]
    weights = only("same_type", num=43)
    pairs = made(
        Corpus(tmp_path / "generic", chunks, {}, asked),
        tmp_path,
        pairs={**ALL_TRAIN, "negatives": weights, "synthesis": {"from_mentions": False}},
    )
    first, second = rows(pairs, "pairs-train")
    texts = {c["text"] for c in chunks}
    holders = {c["text"] for c in chunks[-3:]}
    assert set(first["negatives"]) == texts - {chunks[0]["text"]}
    assert set(second["negatives"]) == texts - holders
    stopped = report(pairs)["negatives_stopped_by_guard"]
    assert stopped == {"answers_the_query": 2, "names_an_expected_topic": 2}


def test_a_topic_under_an_alias_stops_a_negative_too(tmp_path: Path) -> None:
    chunks = [
        chunk("hurin.md", "Brannoc Tell held the bridge.", wiki_type="t"),
        chunk("other.md", "The Breaker came back at dawn.", wiki_type="t"),
        chunk("third.md", "Nobody came back at dusk.", wiki_type="t"),
    ]
    index = {"b": entity("Brannoc Tell", "hurin.md", "the Breaker")}
    asked = [question(1, "Who held it?", "Brannoc Tell", relevant=["hurin.md"])]
    pairs = made(
        Corpus(tmp_path / "alias", chunks, index, asked),
        tmp_path,
        pairs={**ALL_TRAIN, "negatives": only("same_type")},
    )
    (row,) = [r for r in rows(pairs, "pairs-train") if r["query_id"] == "1"]
    assert row["negatives"] == [chunks[2]["text"]]


def test_what_nearly_repeats_an_answer_is_stopped_and_counted(tmp_path: Path) -> None:
    answer = " ".join(f"word{i}" for i in range(60))
    near = answer.replace("word30", "other30")
    half = " ".join(f"word{i}" for i in range(30)) + " " + " ".join(f"new{i}" for i in range(30))
    assert chunk_similarity(answer, near) > 0.8 > chunk_similarity(answer, half)
    texts = {"a": answer, "copy": answer.upper(), "near": near, "half": half}
    chunks = [chunk(f"{name}.md", text, wiki_type="t") for name, text in texts.items()]
    asked = [question(1, "Which words?", "x", relevant=["a.md"])]
    for bound, expected in ((0.8, [half]), (1.0, [half, near])):
        settings = {**only("same_type"), "near_duplicate": bound}
        store = tmp_path / str(bound)
        pairs = made(
            Corpus(tmp_path / "near", chunks, {}, asked),
            store,
            store=str(store),
            pairs={**ALL_TRAIN, "negatives": settings},
        )
        (row,) = rows(pairs, "pairs-train")
        assert sorted(row["negatives"]) == sorted(expected)
        stopped = report(pairs)["negatives_stopped_by_guard"]
        assert stopped["same_text_as_an_answer"] == 1
        assert stopped.get("near_duplicate_of_an_answer", 0) == (1 if bound < 1 else 0)


def test_a_copy_of_any_of_many_answers_is_no_negative(tmp_path: Path) -> None:
    texts = [f"Part {number} tells of the old {number} horns of the mill" for number in range(30)]
    chunks = [chunk("a.md", text) for text in texts] + [chunk("b.md", text) for text in texts]
    chunks += [chunk("c.md", f"Other horns {number} of the inn") for number in range(5)]
    asked = [question(1, "Where do old horns of the mill tell?", "x", relevant=["a.md"])]
    settings = {
        "split": {"train": 1.0, "dev": 0.0, "test": 0.0},
        "negatives": {"bm25_depth": 100, "num": 8},
    }
    pairs = made(Corpus(tmp_path / "c", chunks, {}, asked), tmp_path, pairs=settings)
    found = {text for row in rows(pairs, "pairs-train") for text in row["negatives"]}
    assert found
    assert not found & set(texts)


def test_files_of_named_entities_are_no_negatives(tmp_path: Path) -> None:
    chunks = [
        chunk("mill.md", "The wheel turned all night.", wiki_type="t"),
        chunk("kessel.md", "They burned bricks.", wiki_type="t"),
        chunk("kessel.md", "They sold bricks.", wiki_type="t"),
        chunk("rest.md", "They baked bread.", wiki_type="t"),
    ]
    index = {"k": entity("Kessel", "kessel.md", "Brick Town")}
    asked = [question(1, "What turned at Brick  Town?", "x", relevant=["mill.md"])]
    pairs = made(
        Corpus(tmp_path / "named", chunks, index, asked),
        tmp_path,
        pairs={**ALL_TRAIN, "negatives": only("same_type")},
    )
    found = {r["query_id"]: r["negatives"] for r in rows(pairs, "pairs-train")}
    assert found["1"] == [chunks[3]["text"]]
    assert report(pairs)["negatives_stopped_by_guard"]["about_a_named_entity"] >= 2


def test_pairs_never_reward_a_text_that_another_pair_of_the_query_punishes(
    codex: Corpus, mixed: Artifact
) -> None:
    found = [*rows(mixed, "pairs-train"), *rows(mixed, "pairs-dev")]
    rewarded = {(row["query"].casefold(), row["positive"]) for row in found}
    assert not [
        row["query_id"]
        for row in found
        for text in row["negatives"]
        if (row["query"].casefold(), text) in rewarded
    ]


def test_one_text_in_two_files_is_one_pair(tmp_path: Path) -> None:
    """The audit calls the second a repeat."""
    same = "The mill by the river burned down in the third winter."
    texts = {"a.md": same, "b.md": same, "c.md": "A bakery stood there."}
    chunks = [chunk(name, text, wiki_type="t") for name, text in texts.items()]
    asked = [question(1, "What burned down?", "x", relevant=["a.md", "b.md"])]
    pairs = made(Corpus(tmp_path / "same", chunks, {}, asked), tmp_path, pairs=ALL_TRAIN)
    (row,) = rows(pairs, "pairs-train")
    assert row["negatives"] == [chunks[2]["text"]]


# What is removed.


def test_pairs_whose_words_mislead_are_removed_when_asked(tmp_path: Path) -> None:
    chunks = [
        chunk("a.md", "It turned all night.", wiki_type="t"),
        chunk("b.md", "The wheel of the mill broke.", wiki_type="t"),
    ]
    asked = [
        question(1, "What did the wheel of the mill do?", "x", relevant=["a.md"]),
        question(2, "What broke of the mill?", "y", relevant=["b.md"]),
    ]
    for drop, expected in ((False, {"1", "2"}), (True, {"2"})):
        store = tmp_path / str(drop)
        pairs = made(
            Corpus(tmp_path / "inverted", chunks, {}, asked),
            store,
            store=str(store),
            pairs={**ALL_TRAIN, "validation": {"drop_inverted": drop}},
        )
        assert {row["query_id"] for row in rows(pairs, "pairs-train")} == expected
        removed = [r for r in rows(pairs, "rejected") if r["kind"] == "pair"]
        assert [(r["reason"], r["query_id"]) for r in removed] == [("inverted", "1")] * drop
        assert report(pairs)["rejected"] == ({"pair: inverted": 1} if drop else {})
        assert pairs.counts["rejected"] == drop


def test_a_short_query_is_removed_when_more_is_asked_for(tmp_path: Path) -> None:
    chunks = [chunk("a.md", "A stone.", "Oak"), chunk("b.md", "A tree by the road.", "Hawthorn")]
    pairs = made(
        Corpus(tmp_path / "short", chunks, {}, []),
        tmp_path,
        pairs={"validation": {"min_characters": 7}, "synthesis": {"templates": ["{name}"]}},
    )
    assert [row["query"] for row in rows(pairs, "pairs-train")] == ["Hawthorn"]
    assert report(pairs)["rejected"] == {"query: near-empty": 1}


# More positives.


def test_positives_of_other_types_come_in_addition(codex: Corpus, folder: Path) -> None:
    """At most so many, of chunks that cover as much, and never because of a generic topic."""
    most, share = 2, 0.02
    chunks = by_id(codex.chunks)
    found: dict[int, dict[str, list[Row]]] = {}
    for number in (0, most):
        store = folder / f"crossed-{number}"
        settings = {"cross_category": number, "negatives": {"generic_topic_share": share}}
        pairs = made(codex, folder / f"x{number}", store=str(store), pairs=settings)
        found[number] = {}
        for row in rows(pairs, "pairs-train"):
            found[number].setdefault(row["query_id"], []).append(row)
    added = Counter[str]()
    for query, crossed in found[most].items():
        plain = [row["positive_id"] for row in found[0].get(query, ())]
        new = [row["positive_id"] for row in crossed if row["positive_id"] not in plain]
        assert len(new) <= most
        kinds = {chunks[i]["wiki_type"] for i in new}
        assert not plain or chunks[plain[0]]["wiki_type"] not in kinds
        if new:
            added[crossed[0]["source"]] += 1
            assert all(
                len(holders(codex, t)) <= most_of(codex, share) for t in crossed[0]["topics"]
            )
            for position in new:
                assert all(position in holders(codex, topic) for topic in crossed[0]["topics"])
    assert added["entity"] > 10


def test_a_question_has_positives_of_other_types_that_cover_as_much(tmp_path: Path) -> None:
    whole = [
        chunk(f"{i}.md", f"In {i}, Brannoc met Idra.", wiki_type="person" if i < 3 else f"t{i}")
        for i in range(6)
    ]
    half = chunk("half.md", "Only Brannoc came.", wiki_type="place")
    many = [chunk(f"m{i}.md", f"The net, {i}.", wiki_type=f"t{i}") for i in range(20)]
    asked = [question(1, "Who met?", "Brannoc", "Idra"), question(2, "What was torn?", "net")]
    settings = {
        **ALL_TRAIN,
        "positives_per_query": 2,
        "cross_category": 2,
        "negatives": {"generic_topic_share": 0.5},
        "synthesis": {"from_mentions": False},
    }
    corpus = Corpus(tmp_path / "crossed", [*whole, half, *many], {}, asked)
    pairs = made(corpus, tmp_path, pairs=settings)
    kinds: dict[str, list[str]] = {}
    for row in rows(pairs, "pairs-train"):
        kinds.setdefault(row["query_id"], []).append(
            by_id(corpus.chunks)[row["positive_id"]]["wiki_type"]
        )
    first, _, *others = kinds["1"]
    assert len(others) == 2
    assert first not in others
    assert "place" not in kinds["1"]
    assert len(kinds["2"]) == 2, "a topic that most chunks name is generic"


def most_of(corpus: Corpus, share: float) -> float:
    return max(3, share * len(corpus.chunks))


def holders(corpus: Corpus, topic: str) -> set[str]:
    """Ids of the chunks that name a topic under any of its names."""
    forms = {topic}
    for e in corpus.index.values():
        if topic.casefold() in {name.casefold() for name in (e["primary_name"], *e["aliases"])}:
            forms |= {e["primary_name"], *e["aliases"]}
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(f)}(?!\w)" for f in forms), re.IGNORECASE)
    return {
        key
        for key, c in by_id(corpus.chunks).items()
        if pattern.search(" | ".join((c["text"], *mentions(c))))
    }


def test_a_chunk_without_a_type_is_of_no_other_type(tmp_path: Path) -> None:
    chunks = [
        chunk("a.md", "Brannoc held the bridge.", wiki_type="person"),
        chunk("b.md", "The bridge of Brannoc.", wiki_type="place"),
        chunk("c.md", "A note on Brannoc."),
    ]
    pairs = made(
        Corpus(tmp_path / "types", chunks, {"b": entity("Brannoc", "a.md")}, []),
        tmp_path,
        pairs={"cross_category": 5, "synthesis": {"templates": ["{name}"]}},
    )
    assert [row["positive"] for row in rows(pairs, "pairs-train")] == [
        chunks[0]["text"],
        chunks[1]["text"],
    ]


# Copies.


def test_copies_of_queries_are_marked_and_checked_like_all_others(
    codex: Corpus, folder: Path
) -> None:
    settings = {"augmentation": {"copies": 2}}
    pairs = made(codex, folder / "eda", store=str(folder / "store-eda"), pairs=settings)
    found = rows(pairs, "pairs-train")
    positives: dict[str, list[str]] = {}
    text_of: dict[str, str] = {}
    for row in found:
        positives.setdefault(row["query_id"], []).append(row["positive_id"])
        text_of[row["query_id"]] = row["query"]
    copies = [query for query in positives if re.search(r":eda:[01]$", query)]
    assert len(copies) > 0.5 * len(positives)
    for copy in copies:
        original = copy.rpartition(":eda:")[0]
        if original in positives:  # else the original itself was too near to a question
            assert positives[copy] == positives[original]
            assert text_of[copy] != text_of[original]
    held = [r["question"] for p in ("dev", "test") for r in rows(pairs, f"questions-{p}")]
    told = {" ".join(sorted(text.casefold().split())) for text in held}
    assert not {" ".join(sorted(text.casefold().split())) for text in text_of.values()} & told


def test_a_copy_that_repeats_a_held_out_question_is_removed(tmp_path: Path) -> None:
    """The wording is no question's, but with two words swapped, or one left out, it would be."""
    chunks = [chunk(f"{n}.md", f"A page, number {n}.") for n in range(30)]
    questions = [
        question(
            n, f"please tell where the lantern of hall {n} stands", f"x{n}", relevant=[f"{n}.md"]
        )
        for n in range(30)
    ]
    corpus = Corpus(tmp_path / "swap", chunks, {}, questions)
    settings = {
        "split": {"train": 0.5, "dev": 0.0, "test": 0.5},
        "near_duplicate": 1.0,
        "augmentation": {"copies": 8, "deletion": 0.1, "swap": 0, "duplication": 0},
    }
    for twin in questions[:15]:
        number = twin["question_id"]
        text = f"please tell us where the lantern of hall {number} stands"
        corpus.questions.append(
            question(100 + number, text, f"y{number}", relevant=[f"{number + 1}.md"])
        )
    pairs = made(corpus, tmp_path, pairs=settings)
    held = {r["question"] for r in rows(pairs, "questions-test")}
    queries = {r["query"] for r in rows(pairs, "pairs-train")}
    assert any(":eda:" in r["query_id"] for r in rows(pairs, "pairs-train"))
    assert not queries & held
    removed = {r["text"] for r in rows(pairs, "rejected") if r["reason"].startswith("near-dup")}
    assert removed & held


# Held-out entities.


@pytest.mark.parametrize("by", ["entity", "file"])
def test_training_touches_nothing_that_is_held_out(folder: Path, by: str) -> None:
    corpus = sample_corpus(folder / "diseases")
    settings = {
        "negatives": {"generic_topic_share": 0.5},
        "split": {"train": 0.5, "dev": 0.1, "test": 0.4, "by": by},
        "cross_category": 1,
        "synthesis": {"sentences_per_chunk": 1, "from_titles": True},
    }
    pairs = made(corpus, folder / by, store=str(folder / f"store-{by}"), pairs=settings)
    chunks = by_id(corpus.chunks)
    held_files = {
        chunks[i]["filename"]
        for part in ("dev", "test")
        for line in pairs.path(f"qrels-{part}.tsv").read_text().splitlines()
        for i in [line.split()[2]]
    }
    assert held_files
    train = rows(pairs, "pairs-train")
    assert len(train) > 50
    assert not {chunks[row["positive_id"]]["filename"] for row in train} & held_files
    names = [
        name
        for e in corpus.index.values()
        if e["filename"] in held_files
        for name in (e["primary_name"], *e["aliases"])
    ]
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(n)}(?!\w)" for n in names), re.IGNORECASE)
    others = {
        name.casefold()
        for e in corpus.index.values()
        if e["filename"] not in held_files
        for name in (e["primary_name"], *e["aliases"])
    }
    for row in train:  # a name that only stands inside a longer one means nobody
        found = pattern.search(row["query"])
        assert found is None or any(
            found[0].casefold() in name and name in row["query"].casefold() for name in others
        ), row["query"]
    removed = [r for r in rows(pairs, "rejected") if r["reason"] == "touches what is held out"]
    assert len(removed) == report(pairs)["rejected"]["query: touches what is held out"] > 10
    assert opened(folder / f"store-{by}", folder / f"again-{by}").digest == pairs.digest
