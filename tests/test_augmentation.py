"""Changed copies of texts: few words differ, none is equal to another, the same every time."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_forge.config.pairs import AugmentationConfig
from codex_forge.pairs.augmentation import augmented
from codex_forge.search import words
from tests.conftest import ROOT

TEXT = "what does the old miller of the river know about the lost seal"
EVERYTHING = AugmentationConfig(copies=3)


def only(**shares: float) -> AugmentationConfig:
    """A config with one operation."""
    return AugmentationConfig(**{"deletion": 0.0, "swap": 0.0, "duplication": 0.0, **shares})


def test_deletion_drops_its_share_of_the_words() -> None:
    for copy in augmented(TEXT, 8, only(deletion=0.25), 7, "q"):
        missing = Counter(TEXT.split()) - Counter(copy.split())
        assert missing.total() == 3
        kept = iter(TEXT.split())
        assert all(word in kept for word in copy.split()), "the order has changed"


def test_swaps_keep_all_words() -> None:
    found = augmented(TEXT, 8, only(swap=0.1), 7, "q")
    assert len(found) == 8
    for copy in found:
        assert Counter(copy.split()) == Counter(TEXT.split())
        moved = sum(a != b for a, b in zip(copy.split(), TEXT.split(), strict=True))
        assert moved == 2


def test_duplication_says_its_share_twice() -> None:
    for copy in augmented(TEXT, 8, only(duplication=0.25), 7, "q"):
        more = Counter(copy.split()) - Counter(TEXT.split())
        assert more.total() == 3
        assert set(more) <= set(TEXT.split())
        pairs = zip(copy.split(), copy.split()[1:], strict=False)
        assert sum(a == b for a, b in pairs) == 3


def test_each_copy_has_one_operation_and_all_come() -> None:
    lengths = Counter(len(copy.split()) for copy in augmented(TEXT, 60, EVERYTHING, 7, "q"))
    assert set(lengths) == {12, 13, 14}


def test_no_share_means_no_copies() -> None:
    assert augmented(TEXT, 5, only(), 7, "q") == []
    assert augmented(TEXT, 0, EVERYTHING, 7, "q") == []


def test_copies_follow_from_seed_and_key() -> None:
    one = augmented(TEXT, 4, EVERYTHING, 7, "q1")
    assert augmented(TEXT, 4, EVERYTHING, 7, "q1") == one
    assert augmented(TEXT, 2, EVERYTHING, 7, "q1") == one[:2]
    assert augmented(TEXT, 4, EVERYTHING, 7, "q2") != one
    assert augmented(TEXT, 4, EVERYTHING, 8, "q1") != one
    program = (
        "from tests.test_augmentation import *\nprint(augmented(TEXT, 4, EVERYTHING, 7, 'q1'))"
    )
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == repr(one)


@given(
    st.text(alphabet="ab cde.?\n\t中文あ กั अा", max_size=40),
    st.integers(0, 6),
    st.sampled_from([EVERYTHING, only(deletion=1.0), only(swap=1.0), only(duplication=1.0)]),
)
def test_no_copy_is_empty_or_equal_to_another(
    text: str, copies: int, config: AugmentationConfig
) -> None:
    found = augmented(text, copies, config, 7, "q")
    assert len(found) <= copies
    plain = ["".join(t.casefold().split()) for t in (text, *found)]
    assert len(set(plain)) == len(plain)
    assert all(words(copy) for copy in found)
    assert set("".join(plain[1:])) <= set(plain[0])


def test_a_short_text_has_only_the_copies_that_differ() -> None:
    assert augmented("Rand", 5, EVERYTHING, 7, "q") == []
    assert augmented("the the", 5, only(swap=0.5), 7, "q") == []
    assert set(augmented("who Rand", 9, only(deletion=0.1), 7, "q")) == {"who", "Rand"}


def test_a_name_that_a_query_asks_for_is_not_deleted() -> None:
    text = "tell me about Rand al'Thor now"
    found = augmented(text, 30, only(deletion=0.5), 7, "q", names=["Rand al'Thor"])
    assert found
    assert all("Rand" in copy and "al'Thor" in copy for copy in found)
    assert augmented("Rand al'Thor", 5, only(deletion=0.5), 7, "q", names=["Rand al'Thor"]) == []
    found = augmented("東京の塔を見る", 9, only(deletion=0.3), 7, "q",
                      names=["東京"])  # fmt: skip
    assert found
    assert all("東京" in copy for copy in found)


@pytest.mark.parametrize(
    "text",
    ["我们明天去北京看长城", "用Python写一个编程语言"],
)
def test_texts_without_spaces_are_changed_by_pieces_and_get_no_spaces(text: str) -> None:
    found = augmented(text, 12, EVERYTHING, 7, "q")
    assert len(found) > 6
    assert not any(" " in copy.replace("Python Python", "") for copy in found)


def test_a_script_without_spaces_that_is_one_word_is_left_alone() -> None:
    assert augmented("ประเทศไทย", 5, EVERYTHING, 7, "q") == []


def test_line_breaks_stay() -> None:
    found = augmented("one two three\nfour five six", 5, only(swap=0.2), 7, "q")
    assert found
    assert all(copy.count("\n") == 1 for copy in found)
