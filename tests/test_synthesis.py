"""Queries made from the corpus itself: templates, titles, mentions, sentences; and their phases."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from codex_forge.config.pairs import SynthesisConfig
from codex_forge.corpus import Corpus, chunk_id_of, table_of
from codex_forge.entities import EntityIndex, normalise
from codex_forge.pairs.phases import hardness_of, phase_of, phase_of_scored
from codex_forge.pairs.query import Query
from codex_forge.pairs.sentences import sentence_queries, sentences_of
from codex_forge.pairs.synthesis import entity_queries, mention_queries
from codex_forge.pairs.titles import heading_end, title_of, title_queries
from codex_forge.records import Chunk, Entity

SETS: dict[str, Any] = {
    "templates": ["{name}"],
    "template_sets": [
        {"templates": ["was ist {name}"], "language": "de"},
        {"templates": ["the place {name}"], "category": "place"},
        {"templates": ["der Ort {name}"], "language": "de", "category": "place"},
    ],
}


def chunk(filename: str, text: str, *mentions: str, kind: str = "", **metadata: Any) -> Chunk:
    return Chunk(chunk_id_of(filename, text), text, filename, mentions, kind, None, metadata)


def corpus(*chunks: Chunk, entities: tuple[Entity, ...] = ()) -> Corpus:
    return Corpus(table_of(chunks), list(entities), [])


def config(**settings: Any) -> SynthesisConfig:
    return SynthesisConfig(**settings)


def entities_of(found: Corpus, **settings: Any) -> list[Query]:
    return list(entity_queries(found, EntityIndex(found.entities), config(**settings), 7))


def mentions_of(found: Corpus, widest: int = 3, **settings: Any) -> list[Query]:
    index = EntityIndex(found.entities)
    return list(mention_queries(found, index, config(**settings), 7, widest))


def titles_of(found: Corpus, widest: int = 3, **settings: Any) -> list[Query]:
    index = EntityIndex(found.entities)
    wanted = config(**{"from_titles": True, "templates": ["{name}"], **settings})
    return list(title_queries(found.chunks, index, wanted, 7, widest))


# Templates.


@pytest.mark.parametrize(
    ("language", "kind", "text"),
    [
        (None, "", "Rand"),
        ("fr", "person", "Rand"),
        ("de", "person", "was ist Rand"),
        ("DE", "", "was ist Rand"),
        ("de-AT", "", "was ist Rand"),
        ("de_CH", "", "was ist Rand"),
        ("den", "", "Rand"),
        ("fr", "place", "the place Rand"),
        (None, "place", "the place Rand"),
        ("de", "place", "der Ort Rand"),
        (["de"], "", "Rand"),
    ],
)
def test_the_set_that_says_most_about_a_chunk_wins(language: Any, kind: str, text: str) -> None:
    fields = {} if language is None else {"language": language}
    one = chunk("rand.md", "a text", "Rand", kind=kind, **fields)
    about = Entity("e", "Rand", "rand.md")
    assert [q.text for q in entities_of(corpus(one, entities=(about,)), **SETS)] == [text]
    assert [q.text for q in mentions_of(corpus(one), **SETS)] == [text]
    titled = one._replace(metadata={**fields, "title": "Rand"})
    assert [q.text for q in titles_of(corpus(titled), **SETS)] == [text]


def test_language_counts_for_more_than_category_and_the_first_of_equals_wins() -> None:
    sets = [
        {"templates": ["a {name}"], "category": "place"},
        {"templates": ["b {name}"], "language": "de"},
        {"templates": ["c {name}"], "language": "de"},
    ]
    one = chunk("x.md", "text", "Rand", kind="place", language="de")
    assert [q.text for q in mentions_of(corpus(one), template_sets=sets)] == ["b Rand"]


def test_each_chunk_of_an_entity_gets_the_wordings_of_its_own_language() -> None:
    chunks = [
        chunk("rand.md", "one", language="en"),
        chunk("rand.md", "eins", language="de"),
        chunk("rand.md", "two", language="en"),
    ]
    about = Entity("e", "Rand", "rand.md", ("The Dragon",))
    sets = [
        {"templates": ["wer ist {name}", "was ist {name}"], "language": "de"},
        {"templates": ["who is {name}", "what is {name}"], "language": "en"},
    ]
    found = entities_of(corpus(*chunks, entities=(about,)), template_sets=sets, per_entity=6)
    for query in found:
        spoken = "de" if query.positives[0] == 1 else "en"
        assert query.text.split()[0] in {"de": ("wer", "was"), "en": ("who", "what")}[spoken]
        assert query.answers.tolist() == [0, 1, 2]
    assert len({q.text for q in found}) == len({q.query_id for q in found}) == len(found) == 6
    assert {q.text.split(" ", 2)[2] for q in found[:3]} == {"Rand", "The Dragon"}


def test_without_sets_a_query_of_an_entity_is_numbered_by_its_wording() -> None:
    chunks = [chunk("rand.md", "one"), chunk("rand.md", "two"), chunk("x.md", "three")]
    about = Entity("e", "Rand", "rand.md", ("Dragon",))
    found = entities_of(
        corpus(*chunks, entities=(about,)), templates=["{name}", "on {name}"], per_name=2
    )
    assert [q.query_id for q in found] == [f"entity:e:{n}" for n in range(4)]
    assert [q.positives for q in found] == [(0,), (1,), (0,), (1,)]
    assert {q.text for q in found} == {"Rand", "on Rand", "Dragon", "on Dragon"}
    assert {"Rand", "Dragon"} == {q.text.removeprefix("on ") for q in found[:2]}
    assert entities_of(corpus(*chunks, entities=(about,)), per_entity=0) == []


# Mentions.


def test_mentions_are_what_a_walk_over_the_chunks_finds() -> None:
    rng = random.Random(3)
    names = [f"Name {i}" for i in range(40)] + [f"NAME {i}" for i in range(10)] + ["náme 3"]
    chunks = [
        chunk(f"{i}.md", f"text {i}", *rng.sample(names, rng.randrange(5))) for i in range(60)
    ]
    known = Entity("e", "Big Name 7", "1.md")
    found = mentions_of(corpus(*chunks, entities=(known,)), widest=4)
    holders: dict[str, list[int]] = {}
    shown: dict[str, str] = {}
    for position, one in enumerate(chunks):
        for name in one.mentions:
            if position not in holders.setdefault(normalise(name), []):
                holders[normalise(name)].append(position)
            shown.setdefault(normalise(name), name)
    expected = [
        (f"mention:{key}:{number}", (shown[key],), (position,), positions)
        for key, positions in holders.items()
        if len(positions) <= 4 and key != "name 7"
        for number, position in enumerate(positions)
    ]
    assert [(q.query_id, q.topics, q.positives, q.answers.tolist()) for q in found] == expected
    assert len(expected) > 30
    assert any(len(positions) > 4 for positions in holders.values())


# Titles.


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("The Old Mill\nIt stands by the river.", "The Old Mill"),
        ("\n\n# The Old Mill\n\nIt stands.", "The Old Mill"),
        ("== **The Mill** ==\nIt stands.", "The Mill"),
        ("The Old Mill:\nIt stands.", "The Old Mill"),
        ("大きな水車\n川にある。", "大きな水車"),
        ("The Old Mill", ""),
        ("The Old Mill\n", ""),
        ("It is old.\nIt stands by the river.", ""),
        ("The mill that stands by\nthe river is old.", ""),
        ("- one item\nAnother line", ""),
        ("1. item\nAnother line", ""),
        ("a b c d e f g h i j k\nMore of it", ""),
        ("x" * 81 + "\nMore of it", ""),
        ("***\nMore of it", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_a_first_line_is_a_title_when_it_is_short_and_no_sentence(text: str, title: str) -> None:
    assert title_of(chunk("x.md", text)) == title
    assert title_of(chunk("x.md", text, title=" Given\n one")) == "Given one"
    assert title_of(chunk("x.md", text, title=7)) == title


def test_titles_lead_to_the_first_chunks_that_bear_them() -> None:
    chunks = [
        *(chunk("mill.md", f"text {i}", title="The Mill") for i in range(5)),
        chunk("a.md", "short", title="Introduction"),
        chunk("b.md", "short", title="Introduction"),
        chunk("c.md", "short", title="INTRODUCTION"),
        chunk("d.md", "no title"),
        chunk("rand.md", "text", title="Rand"),
        chunk("e.md", "text", title="Lake"),
        chunk("f.md", "text", title="Láke"),
    ]
    known = Entity("e", "Rand", "rand.md")
    found = titles_of(corpus(*chunks, entities=(known,)), widest=2)
    assert [(q.text, q.positives, q.answers.tolist(), q.topics) for q in found] == [
        ("The Mill", (0,), [0, 1, 2, 3, 4], ("The Mill",)),
        ("The Mill", (1,), [0, 1, 2, 3, 4], ("The Mill",)),
        ("Lake", (10,), [10, 11], ("Lake",)),
        ("Láke", (11,), [10, 11], ("Láke",)),
    ]
    assert {q.source for q in found} == {"title"}
    assert found[0].query_id == f"title:{chunks[0].chunk_id}"
    assert titles_of(corpus(*chunks), from_titles=False) == []


# Sentences.


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Take no. 5 of Fig. 3. Is it? No. Then go.",
         ["Take no. 5 of Fig. 3.", "Is it?", "No.", "Then go."]),
        ("One is. Two is! Three is? Four", ["One is.", "Two is!", "Three is?", "Four"]),
        ('He said "No." She left.', ['He said "No."', "She left."]),
        ("It costs 3.14 at www.x.org now. Yes.", ["It costs 3.14 at www.x.org now.", "Yes."]),
        ("Dr. Brown met J. R. Smith. They ate.", ["Dr. Brown met J. R. Smith.", "They ate."]),
        ("See e.g. the mill, vs. Others, etc. and so on.",
         ["See e.g. the mill, vs. Others, etc. and so on."]),
        ("Really?! Yes... No… Then", ["Really?!", "Yes...", "No…", "Then"]),
        ("今天好。你呢？「好！」是。",
         ["今天好。", "你呢？", "「好！」", "是。"]),
        ("هل هذا؟ نعم. یہ۔ ہے",
         ["هل هذا؟", "نعم.", "یہ۔", "ہے"]),
        ("यह है। वह है॥और",
         ["यह है।", "वह है॥", "और"]),
        ("The Mill\nIt is old. It\nstands.", ["The Mill", "It is old.", "It\nstands."]),
        ("One thing\n\nAnother.\n# Head\nMore of it\n- item\n- item two",
         ["One thing", "Another.", "# Head", "More of it", "- item", "- item two"]),
        ("", []), (" \n ", []), (".", ["."]),
    ],
)  # fmt: skip
def test_sentences_of_many_scripts(text: str, found: list[str]) -> None:
    sentences = sentences_of(text)
    assert [text[s.start : s.end] for s in sentences] == found
    covered = "".join(text[s.start : s.end] for s in sentences)
    assert "".join(covered.split()) == "".join(text.split()), "something is lost"


@pytest.mark.parametrize("filling", ["\n", "\n ", ".", "...x", " ", "=", "#:", ".'"])
def test_long_runs_of_signs_take_no_longer_than_words(filling: str) -> None:
    text = f"The mill stands here{filling * 100_000}x and there. So it does.\nAnd so on."
    begun = time.perf_counter()
    assert sentences_of(text)[-1].end == len(text)
    assert heading_end(text) == 0 or "\n" in filling
    assert time.perf_counter() - begun < 3


MILL = "The mill stands by the river. Nobody knows who built it first. It was old when I came."


def sentences(found: Corpus, seed: int = 7, **settings: Any) -> list[Query]:
    return list(sentence_queries(found.chunks, config(**settings), seed))


def test_a_sentence_is_asked_of_the_rest_of_its_chunk() -> None:
    found = sentences(corpus(chunk("m.md", MILL)), sentences_per_chunk=9, sentence_kept=0.0)
    assert {(q.text, q.positive_text) for q in found} == {
        (
            "The mill stands by the river.",
            "Nobody knows who built it first. It was old when I came.",
        ),
        (
            "Nobody knows who built it first.",
            "The mill stands by the river. It was old when I came.",
        ),
        (
            "It was old when I came.",
            "The mill stands by the river. Nobody knows who built it first.",
        ),
    }
    for query in found:
        assert (query.positives, query.answers.tolist()) == ((0,), [0])
        assert (query.source, query.topics) == ("sentence", ())
    assert len({q.query_id for q in found}) == 3
    assert sentences(corpus(chunk("m.md", MILL))) == []


def test_the_sentence_stays_in_its_share_of_the_positives() -> None:
    many = corpus(*(chunk(f"{i}.md", MILL.replace("mill", f"m{i}").replace("first", f"f{i}"))
                    for i in range(400)))  # fmt: skip
    found = sentences(many, sentences_per_chunk=1, sentence_kept=0.3)
    assert len(found) == 400
    kept = sum(q.positive_text is None for q in found)
    assert 0.22 * 400 < kept < 0.38 * 400
    for query in found:
        text = query.positive_text
        assert text is None or query.text not in text
    other = sentences(many, seed=8, sentences_per_chunk=1, sentence_kept=0.3)
    assert [q.text for q in other] != [q.text for q in found]
    again = sentences(many, sentences_per_chunk=1, sentence_kept=0.3)
    assert [(q.text, q.positive_text) for q in again] == [(q.text, q.positive_text) for q in found]
    # What is drawn of a chunk does not depend on the chunks before it.
    few = corpus(*list(many.chunks)[300:])
    assert [q.text for q in sentences(few, sentences_per_chunk=1)] == [
        q.text for q in sentences(many, sentences_per_chunk=1)[300:]
    ]


def test_sentences_that_say_little_or_stand_in_several_chunks_are_left_out() -> None:
    chunks = [
        chunk("a.md", "This page is a short stub. The mill has a red roof. It is so."),
        chunk("b.md", "THIS page is a short stub. The lake has a blue tone. It is so."),
        chunk("c.md", "Only one sentence stands in here."),
        chunk("d.md", "So many words are in here. But few."),
        chunk("e.md", "Say this twice in here. Say this twice in here. Say that once in here."),
        chunk("f.md", "A Heading Of Four Words\nThe text below it is long. It has two sentences."),
    ]
    found = sentences(corpus(*chunks), sentences_per_chunk=9)
    by_chunk = Counter(q.positives[0] for q in found)
    assert {q.text for q in found if q.positives[0] < 2} == {
        "The mill has a red roof.",
        "The lake has a blue tone.",
    }
    assert by_chunk[2] == by_chunk[3] == 0
    assert [q.text for q in found if q.positives[0] == 4] == ["Say that once in here."]
    assert {q.text for q in found if q.positives[0] == 5} == {
        "The text below it is long.",
        "It has two sentences.",
    }


def test_words_of_scripts_without_spaces_are_counted_by_characters() -> None:
    text = "我们明天去北京看长城。好。"
    text += "他们后天也会回到这里。"
    found = sentences(corpus(chunk("x.md", text)), sentences_per_chunk=9, sentence_kept=0.0)
    assert len(found) == 2
    assert all(q.positive_text and "好。" in q.positive_text for q in found)


def test_a_corpus_with_no_names_and_no_questions_still_has_queries(tmp_path: Path) -> None:
    texts = [MILL.replace("river", f"river {i}").replace("first", f"in {i}") for i in range(20)]
    table = table_of((chunk(f"{i}.md", text) for i, text in enumerate(texts)), tmp_path)
    found = list(sentence_queries(table, config(sentences_per_chunk=2), 7))
    assert len(found) == 40
    assert {q.positives[0] for q in found} == set(range(20))
    assert all("It was old" not in q.text for q in found), "all chunks hold it"


# Phases.


@pytest.mark.parametrize(
    ("given", "rank", "similarity", "others", "phase"),
    [
        ("", 0, 0.5, [], "easy"),
        ("", 0, 0.5, [0.5, 0.4], "easy"),
        ("", 0, 0.5, [0.1, 0.51], "medium"),
        ("", 1, 0.5, [], "medium"),
        ("", 9, 0.5, [0.9], "medium"),
        ("", 10, 0.5, [], "hard"),
        ("", None, 0.5, [], "hard"),
        ("", None, 0.0, [0.3], "hard"),
        ("hard", 0, 0.5, [], "hard"),
        ("easy", None, 0.5, [0.9], "easy"),
        ("expert", 0, 0.5, [], "easy"),
    ],
)
def test_the_phase_of_a_pair(
    given: str, rank: int | None, similarity: float, others: list[float], phase: str
) -> None:
    assert phase_of(given, rank, similarity, others) == phase


@pytest.mark.parametrize(
    ("similarity", "positive", "hardness"),
    [
        (0.46, 0.5, "hard"),
        (0.44, 0.5, "medium"),
        (0.25, 0.5, "medium"),
        (0.24, 0.5, "easy"),
        (0.9, 0.5, "hard"),
        (0.0, 0.5, "easy"),
        (0.0, 0.0, "easy"),
        (0.01, 0.0, "hard"),
    ],
)
def test_the_hardness_of_a_negative(similarity: float, positive: float, hardness: str) -> None:
    assert hardness_of(similarity, positive) == hardness


@pytest.mark.parametrize(
    ("score", "similarity", "given", "phase"),
    [
        (1, 0.9, "", "easy"),
        (1, 0.5, "", "medium"),
        (1, 0.1, "", "hard"),
        (0, 0.1, "", "easy"),
        (0, 0.5, "", "medium"),
        (0, 0.9, "", "hard"),
        (0.5, 0.5, "", "easy"),
        (0.5, 0.0, "", "medium"),
        (0, 0.9, "easy", "easy"),
        (0, 0.9, "other", "hard"),
    ],
)
def test_the_phase_of_a_scored_pair(
    score: float, similarity: float, given: str, phase: str
) -> None:
    assert phase_of_scored(score, similarity, given) == phase
