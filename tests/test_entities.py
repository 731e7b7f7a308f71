"""Names in text: whole words, whatever their case, accents, script and nesting."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codex_forge.entities import EntityIndex, NameMatcher, TopicMatcher, normalise
from codex_forge.records import Chunk, Entity

RAND = Entity("rand", "Rand al'Thor", "rand.md", ("Rand", "the Dragon Reborn", "Lord Dragon"))
LEWS = Entity("lews", "Lews Therin Telamon", "lews.md", ("Lews Therin", "Lord Dragon"))
TOWER = Entity("tower", "White Tower", "tower.md")

SIGNS = "abAB éÉ'’+-_1β中ीß\n"
"""Letters, digits, marks, signs and spaces of which random texts and names are made."""


@pytest.mark.parametrize(
    ("names", "text", "expected"),
    [
        (["Rand"], "Rand rode on.", {"rand"}),
        (["Rand"], "a random operand", set()),
        (["Rand"], "Rand's sword", {"rand"}),
        (["Rand"], "Rand’s sword", {"rand"}),
        (["Rand"], "RAND!", {"rand"}),
        (["Rand"], "(rand)", {"rand"}),
        (["Rand"], "rand_al", set()),
        (["Rand"], "Rand2", set()),
        (["Rand"], "random Rand", {"rand"}),
        (["Rand", "Rand al'Thor"], "Rand al'Thor", {"rand", "rand al'thor"}),
        (["Rand al'Thor"], "rand  AL’THOR\nrode", {"rand al'thor"}),
        (["White Tower", "Tower of Ghenjei"], "White Tower of Ghenjei", None),
        (["Moiraine"], "Moiráine", {"moiraine"}),
        (["Siúan"], "siuan", {"siuan"}),
        (["Ångström"], "A\u030angstro\u0308m", {"angstrom"}),
        (["Straße"], "STRASSE", {"strasse"}),
        (["ﬁre"], "fire", {"fire"}),
        (["C++"], "I write C++.", {"c++"}),
        (["C++"], "C++17 is out", {"c++"}),
        (["C++"], "ABC++", set()),
        (["C"], "C++", {"c"}),
        ([".NET"], "ASP.NET", {".net"}),
        (["Москва"], "в МОСКВА, летом", {"москва"}),
        (["Москва"], "Москвариум", set()),
        (["서울"], "서울 역", {"서울"}),
        (["가"], "각", set()),
        (["नमक"], "नमक।", {"नमक"}),
        (["नमक"], "नमकीन", set()),
        (["北京"], "我在 北京。", {"北京"}),
        (["😀 club"], "😀😀 the 😀 Club", {"😀 club"}),
        (["Rand"], "😀 Rand", {"rand"}),
        (["Rand"], "", set()),
        (["", " ", "\u0301"], "any text at all", set()),
        ([], "any text at all", set()),
    ],
)
def test_a_name_is_found_as_whole_words_only(
    names: list[str], text: str, expected: set[str] | None
) -> None:
    every = {normalise(name) for name in names}
    wanted = every if expected is None else {normalise(name) for name in expected}
    assert NameMatcher(names).find(text) == wanted


def _naive(names: list[str], text: str) -> set[str]:
    """One regular expression a name: no part of a word on either side of a part of a word."""
    part = "[\\w\u0900-\u0903\u093a-\u094f]"
    found = set()
    for name in filter(None, map(normalise, names)):
        before = f"(?<!{part})" if re.match(part, name[0]) else ""
        after = f"(?!{part})" if re.match(part, name[-1]) else ""
        if re.search(before + re.escape(name) + after, normalise(text)):
            found.add(name)
    return found


@given(
    st.lists(st.text(SIGNS, max_size=4), max_size=6),
    st.lists(st.one_of(st.text(SIGNS, max_size=6), st.sampled_from(SIGNS)), max_size=12),
)
@example(["a", "a a"], ["a a a"])
@example(["ab", "b"], ["aab b_"])
def test_the_automaton_finds_what_one_search_a_name_finds(
    names: list[str], pieces: list[str]
) -> None:
    text = "".join(pieces) + " ".join(names[:2])
    assert NameMatcher(names).find(text) == _naive(names, text)


@given(st.text())
def test_normalised_text_stays_as_it_is(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


def test_an_alias_of_several_entities_stands_for_neither_of_them() -> None:
    index = EntityIndex([RAND, LEWS])
    assert index.ambiguous == {"lord dragon"}
    assert index.forms("Rand al'Thor") == {"rand al'thor", "rand", "the dragon reborn"}
    assert index.forms("rand") == index.forms("Rand al'Thor")
    assert "lord dragon" in index.forms("Lord Dragon")
    assert index.forms("nobody knows") == {"nobody knows"}
    assert [entity.entity_id for entity in index.named("LORD  Dragon")] == ["rand", "lews"]


def test_names_that_differ_in_case_only_are_one_and_not_ambiguous() -> None:
    index = EntityIndex([Entity("mat", "Mat", "mat.md", ("MAT", "mat"))])
    assert index.names == ["mat"]
    assert not index.ambiguous


@pytest.mark.parametrize(
    ("text", "mentions", "expected"),
    [
        ("Rand rode.", (), {"Rand al'Thor": "rand"}),
        ("The dragon reborn rode.", (), {"Rand al'Thor": "the dragon reborn"}),
        ("He rode.", ("Rand",), {"Rand al'Thor": "rand"}),
        ("Lord Dragon rode.", (), {}),
        ("A random rider.", (), {}),
        ("Rand saw the White Tower.", (), {"Rand al'Thor": "rand", "White Tower": "white tower"}),
        ("All was white", ("Tower", "Rand"), {"Rand al'Thor": "rand"}),
        ("He rode.", ("White", "Tower"), {}),
    ],
)
def test_a_topic_is_covered_by_text_or_mentions_under_its_own_aliases(
    text: str, mentions: tuple[str, ...], expected: dict[str, str]
) -> None:
    matcher = TopicMatcher(["White Tower", "Rand al'Thor"], EntityIndex([RAND, LEWS, TOWER]))
    found = matcher.covered(Chunk("id", text, "file.md", mentions))
    assert found == expected
    assert list(found) == sorted(found)


def test_one_name_may_cover_several_topics() -> None:
    matcher = TopicMatcher(["Rand", "the dragon reborn"], EntityIndex([RAND]))
    covered = matcher.covered(Chunk("id", "Rand al'Thor", "file.md"))
    assert set(covered) == {"Rand", "the dragon reborn"}
