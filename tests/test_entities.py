"""Names in text: whole words, whatever their case, accents, script and nesting."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codex_forge.entities import EntityIndex, NameMatcher, TopicMatcher, named_text, normalise
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
    """One regular expression a name: no part of a word on either side of a part of a word.

    Beside a sign of a script without spaces only a mark that belongs to that sign counts.
    """
    mark = "[\u0900-\u0903\u093a-\u094f]"
    part = f"(?:[^\\W中]|{mark})"
    found = set()
    for name in filter(None, map(normalise, names)):
        before = f"(?<!{part})" if re.match(part, name[0]) else ""
        before += "(?<!中)" if re.match(mark, name[0]) else ""
        after = f"(?!{part})" if re.match(part, name[-1]) else ""
        after += f"(?!{mark})" if name[-1] == "中" else ""
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


@pytest.mark.parametrize(
    ("name", "text", "is_found"),
    [
        # Possessives, with whatever apostrophe; endings without one are other words.
        ("Rand", "Rand's, Rand\u2019s, Rand\u02bcs, Rand\u00b4s", True),
        ("Perrins", "the Perrins' house", True),
        ("Perrins", "the Perrins\u2019 house", True),
        ("Rand", "the Rands' house", False),
        ("Rand", "Rands Schwert", False),
        # Hyphens, apostrophes and other signs within names and beside them.
        ("Rand", "a Rand-like man, non-Rand", True),
        ("Aes-Sedai", "an Aes\u2010Sedai", True),
        ("Aes-Sedai", "an Aes\u2011Sedai", True),
        ("Aes-Sedai", "an Aes\u2013Sedai", True),
        ("Aes-Sedai", "Aes Se\u00addai", False),
        ("Aes Sedai", "an Aes Se\u00addai", True),
        ("al'Thor", "Rand al\u2018Thor", True),
        ("al\u2019Thor", "Rand al'Thor", True),
        ("al\u02bcThor", "Rand AL\u00b4THOR", True),
        ("C++", "(C++)", True),
        (".NET", "on .NET 8", True),
        ("AT&T", "AT&amp;T", False),
        ("AT&T", "AT&T\u2019s", True),
        # Articles are part of a name.
        ("the Dragon Reborn", "The Dragon Reborn", True),
        ("the Dragon Reborn", "a Dragon Reborn", False),
        ("Dragon Reborn", "the Dragon Reborn", True),
        # Case and accents.
        ("Ilgın", "ILGIN", True),
        ("Ilgın", "ılgın", True),
        ("İzmir", "izmir", True),
        ("İzmir", "IZMIR'de", True),
        ("Weiß", "WEISS", True),
        ("WEIẞ", "weiß", True),
        ("Οδυσσεύς", "ΟΔΥΣΣΕΥΣ", True),
        ("Οδυσσεύς", "Οδυσσέας", False),
        ("Ёлкин", "ЕЛКИНА", False),
        ("Ёлкин", "ЕЛКИН.", True),
        ("Nguyễn", "Nguye\u0302\u0303n", True),
        ("ＡＢＣ", "abc", True),
        # Points and joiners of Arabic, Persian and Hebrew; hyphen and quotes of Hebrew.
        ("محمد", "مُحَمَّد", True),
        ("محمد", "محـــمد", True),
        ("محمد", "محمدي", False),
        ("می\u200cخواهم", "میخواهم", True),
        ("שלום", "שָׁלוֹם", True),
        ("שלום", "ושלום", False),
        ("תל-אביב", "תל־אביב", True),
        ("ז'בוטינסקי", "ז׳בוטינסקי", True),
        # Vowel signs and other marks of a letter continue a word and make another one.
        ("नमक", "नमकी", False),
        ("हिन्दी", "हिनदी", False),
        ("हिन्दी", "(हिन्दी)", True),
        ("தமிழ்", "தமிழ்", True),
        ("தமிழ", "தமிழ்", False),
        # Scripts without spaces: every place is a border, but not within a sign.
        ("北京", "我在北京工作", True),
        ("北京", "東京", False),
        ("𠮷野", "その𠮷野屋", True),
        ("Rand", "我是Rand嗎", True),
        ("Rand", "我是Random", False),
        ("東京タワー", "昨日東京タワーに行った", True),
        ("タワ", "タワー", False),
        ("ひかり", "これはひかりです", True),
        ("かき", "かぎ", False),
        ("か\u3099", "がく", True),
        ("ﾗﾝﾄﾞ", "ランドは", True),
        ("ラン", "フランスの", False),
        ("ラン", "彼はランを見た", True),
        ("ラン", "ブーラン", False),
        ("กรุงเทพ", "ฉันอยู่กรุงเทพนะ", True),
        ("กา", "กำ", False),
        ("ปา", "ป่า", False),
        ("ន", "នំ", False),
        ("서울", "서울에서", False),
    ],
)
def test_names_are_found_in_every_script(name: str, text: str, is_found: bool) -> None:
    matcher = NameMatcher([name])
    assert matcher.find(text) == ({normalise(name)} if is_found else set())
    assert matcher.find_normalised(normalise(text)) == matcher.find(text)


@given(st.text(), st.text())
def test_normalising_is_the_same_whatever_is_remembered(text: str, ascii_text: str) -> None:
    """Runs outside ASCII are folded on their own: ASCII around them changes nothing."""
    apart = " ".join((normalise(text), normalise(ascii_text))).strip()
    assert normalise(f"{text} {ascii_text}") == " ".join(apart.split())


@given(st.text())
def test_normalised_text_stays_as_it_is(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


def test_an_alias_of_several_entities_stands_for_neither_of_them() -> None:
    index = EntityIndex([RAND, LEWS])
    assert index.ambiguous == {"lord dragon"}
    assert index.ambiguous_names() == {"lord dragon": [RAND, LEWS]}
    assert index.forms("Rand al'Thor") == {"rand al'thor", "rand", "the dragon reborn"}
    assert index.forms("rand") == index.forms("Rand al'Thor")
    assert "lord dragon" in index.forms("Lord Dragon")
    assert index.forms("nobody knows") == {"nobody knows"}
    assert [entity.entity_id for entity in index.named("LORD  Dragon")] == ["rand", "lews"]


def test_a_name_of_very_many_entities_costs_no_more_than_its_length() -> None:
    entities = [Entity(f"e{i}", f"Name {i}", f"{i}.md", ("the disease",)) for i in range(10_000)]
    index = EntityIndex(entities)
    begun = time.perf_counter()
    assert all(index.forms(f"Name {i}") == {f"name {i}"} for i in range(10_000))
    assert len(index.forms("the disease")) == 10_001
    assert time.perf_counter() - begun < 5


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
    mentioned = Chunk("id", text, "file.md", mentions)
    assert matcher.covered_normalised(normalise(named_text(mentioned))) == expected


def test_one_name_may_cover_several_topics() -> None:
    matcher = TopicMatcher(["Rand", "the dragon reborn"], EntityIndex([RAND]))
    covered = matcher.covered(Chunk("id", "Rand al'Thor", "file.md"))
    assert set(covered) == {"Rand", "the dragon reborn"}
