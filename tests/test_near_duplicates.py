"""Near-duplicates: small changes are found, other names and other wordings are not, none missed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_forge.near_duplicates import NearDuplicates, grams

NAMES = ["xylocaine", "Polocaine", "Nembutal", "tetracycline", "Bactrim", "Lugol's iodine"]
TEMPLATES = [
    "What is {} allergy?",
    "I was told that I have {} allergy; what does that mean?",
    "Which foods should somebody with {} allergy stay away from?",
    "How would a doctor describe {} allergy to a child?",
]
BANK = [
    (f"q{i}-{j}", template.format(name))
    for i, template in enumerate(TEMPLATES)
    for j, name in enumerate(NAMES)
    if (i + j) % 2 == 0
]
"""Held-out questions: no name with every wording, no wording with every name."""


@lru_cache(maxsize=1)
def _holders(bank: tuple[str, ...]) -> Counter[str]:
    return Counter(gram for text in bank for gram in grams(text))


def similarity(text: str, other: str, bank: Sequence[str]) -> float:
    """The smaller of two Jaccard similarities of 4-grams: plain, and weighted by rarity."""
    mine, theirs = grams(text), grams(other)
    count = _holders(tuple(bank))

    def weight(gram: str) -> float:
        held = count[gram]
        rarity = math.log((len(bank) + 1.5) / (held + 0.5 if held else 1.0))
        return max(1e-6, rarity)

    def jaccard(weigh: bool) -> float:
        shared, every = mine & theirs, mine | theirs
        if weigh:
            return sum(map(weight, shared)) / sum(map(weight, every))
        return len(shared) / len(every)

    return min(jaccard(weigh=False), jaccard(weigh=True)) if mine | theirs else 1.0


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("What is xylocaine allergy?", "q0-0"),
        ("  what IS Xylocaine   allergy ", "q0-0"),
        ("What is xýlocaine-allergy?!", "q0-0"),
        ("I was told I have Polocaine allergy; what does that mean?", "q1-1"),
        ("I was told that I have a Polocaine allergy. What does this mean?", "q1-1"),
        ("Which foods should someone with xylocaine allergy stay away from?", "q2-0"),
        ("How would a doctor describe Lugol’s iodine allergy to a child?", "q3-5"),
    ],
)
def test_a_question_with_small_changes_is_found(text: str, key: str) -> None:
    match = NearDuplicates(BANK, 0.7).find(text)
    assert match is not None
    assert match.key == key
    assert match.text == dict(BANK)[key]
    assert match.similarity == pytest.approx(similarity(text, match.text, [t for _, t in BANK]))


@pytest.mark.parametrize(
    "text",
    [
        # The wording of a held-out question, with another name.
        "What is penicillin allergy?",
        "I was told that I have penicillin allergy; what does that mean?",
        "How would a doctor describe aspirin allergy to a child?",
        # The name of a held-out question, in another wording.
        "tell me about xylocaine allergy",
        "Is there a cure for xylocaine?",
        "who or what is xylocaine allergy",
        "Something else altogether",
        "",
        "?!",
    ],
)
def test_another_name_or_another_wording_is_not_found(text: str) -> None:
    assert NearDuplicates(BANK, 0.7).find(text) is None


def test_an_exact_copy_is_found_at_any_threshold_and_nothing_in_an_empty_bank() -> None:
    for threshold in (0.01, 0.5, 1.0):
        for key, text in BANK:
            match = NearDuplicates(BANK, threshold).find(text)
            assert match == (key, text, 1.0)
    assert NearDuplicates([], 0.1).find("What is xylocaine allergy?") is None


WORDS = st.sampled_from(
    ["what", "is", "the", "allergy", "aller", "xylo", "caine", "of", "a", "Ωmega"]
)
SENTENCE = st.lists(WORDS, min_size=1, max_size=7).map(" ".join)


@settings(max_examples=300)
@given(
    st.lists(SENTENCE, min_size=1, max_size=8),
    SENTENCE,
    st.one_of(st.floats(0.05, 1.0), st.sampled_from([0.25, 0.5, 0.75, 1.0])),
)
def test_the_index_finds_what_comparing_with_every_text_finds(
    bank: list[str], text: str, threshold: float
) -> None:
    found = NearDuplicates([(str(i), entry) for i, entry in enumerate(bank)], threshold).find(text)
    every = [similarity(text, entry, tuple(dict.fromkeys(bank))) for entry in bank]
    best = max(every)
    if best >= threshold + 1e-9:
        assert found is not None
    if found is not None:
        assert found.similarity == pytest.approx(best)
        assert best >= threshold - 1e-9
        assert bank[int(found.key)] == found.text
        assert every[int(found.key)] == pytest.approx(best)


def test_a_text_given_twice_counts_once() -> None:
    """Pairs and audit hold the same questions, but not each as often; they must agree."""
    text = "What is xylocaine or Polocaine allergy?"
    once = NearDuplicates(BANK, 0.3).find(text)
    assert once is not None
    again = [(f"again {key}", entry) for key, entry in BANK[:4]]
    assert NearDuplicates(BANK + again, 0.3).find(text) == once


@settings(max_examples=300)
@given(st.lists(SENTENCE, min_size=2, max_size=8), SENTENCE)
def test_a_text_exactly_at_the_threshold_is_found(bank: list[str], text: str) -> None:
    protected = [(str(i), entry) for i, entry in enumerate(bank)]
    nearest = NearDuplicates(protected, 1e-6).find(text)
    if nearest is not None:
        assert NearDuplicates(protected, nearest.similarity).find(text) == nearest
