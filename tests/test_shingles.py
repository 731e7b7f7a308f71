from __future__ import annotations

import pytest
from hypothesis import given

from codex_forge.shingles import chunk_similarity, shingles
from tests.test_near_duplicates import SENTENCE


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("One two, THREE four!", 3, {"one two three", "two three four"}),
        ("One two, THREE four!", 2, {"one two", "two three", "three four"}),
        ("a b a b a b", 3, {"a b a", "b a b"}),
        ("Éa b c", 3, {"ea b c"}),
        ("only two", 3, {"only two"}),
        ("one", 3, {"one"}),
        ("", 3, set()),
        ("?!", 3, set()),
    ],
)
def test_shingles_are_runs_of_words(text: str, n: int, expected: set[str]) -> None:
    assert shingles(text, n) == expected


def test_chunks_are_as_similar_as_the_runs_of_words_that_they_share() -> None:
    text = "Rand rode to the tower, and the guards of the tower let him in at once."
    assert chunk_similarity(text, text.upper().replace(",", " –")) == 1.0
    assert chunk_similarity(text, f"Then {text}") == pytest.approx(14 / 15)
    assert chunk_similarity(text, "Mat slept.") == 0.0
    assert chunk_similarity(text, " ".join(reversed(text.split()))) < 0.1
    assert chunk_similarity(text, "") == chunk_similarity("", text) == 0.0
    assert chunk_similarity("", "?!") == 1.0


@given(SENTENCE, SENTENCE)
def test_the_similarity_of_chunks_is_symmetric_and_1_for_itself(text: str, other: str) -> None:
    assert chunk_similarity(text, text) == 1.0
    assert chunk_similarity(text, other) == chunk_similarity(other, text)
    assert 0 <= chunk_similarity(text, other) <= 1
