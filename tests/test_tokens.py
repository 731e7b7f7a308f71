"""Token lengths are the model's own, and what is said about them adds up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_forge.config.sections import ModelConfig
from codex_forge.errors import ConfigError
from codex_forge.model import locate
from codex_forge.tokens import audit_lengths, load_tokenizer
from tests.conftest import MINILM

TEXTS = [
    "",
    "word",
    "What is xylocaine allergy?",
    "Straße, naïve café — “quoted” 北京 हिन्दी 😀",
    "antidisestablishmentarianism " * 200,
    "line\nline\ttab  spaces ",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    return locate.locate(ModelConfig(base=MINILM)).folder


@pytest.mark.parametrize("prompt", ["", "search_query: "])
def test_counts_are_those_of_the_models_own_tokenizer(folder: Path, prompt: str) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(folder))
    expected = [len(theirs(prompt + text)["input_ids"]) for text in TEXTS]
    assert load_tokenizer(folder)([prompt + text for text in TEXTS]) == expected
    found = audit_lengths(TEXTS, load_tokenizer(folder), 256, prompt=prompt)
    assert dict(found.worst) == dict(enumerate(expected))
    assert found.maximum == max(expected) > 256, "the tokenizer cuts nothing off"
    assert found.truncated == 1


def test_any_tokenizer_will_do_and_tells_its_limit(folder: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(folder))
    bare = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = audit_lengths(TEXTS, load_tokenizer(folder), 256)
    assert audit_lengths(TEXTS, folder) == expected == audit_lengths(TEXTS, str(folder))
    assert audit_lengths(TEXTS, theirs, 256) == expected
    assert audit_lengths(TEXTS, theirs).limit == theirs.model_max_length
    assert audit_lengths(TEXTS, bare, 256) == expected
    assert bare.encode("word " * 1000).ids != [], "the given tokenizer is left as it was"
    with pytest.raises(ConfigError, match="give `limit`"):
        audit_lengths(TEXTS, bare)
    with pytest.raises(ConfigError, match="does not count tokens"):
        audit_lengths(TEXTS, 7)


@pytest.mark.parametrize("prompt", ["", "search_document: "])
@pytest.mark.parametrize("limit", [2, 3, 8, 40, 256, 5000])
def test_the_cut_is_where_the_models_own_truncation_stops(
    folder: Path, limit: int, prompt: str
) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(folder))
    counter = load_tokenizer(folder)
    for text in TEXTS:
        at = counter.cut(text, limit, prompt)
        whole = theirs(prompt + text)["input_ids"]
        assert (at is None) == (len(whole) <= limit)
        if at is not None:
            kept = theirs(prompt + text[:at])["input_ids"]
            assert len(kept) <= max(limit, len(theirs(prompt)["input_ids"]))
            told = theirs(
                prompt + text, truncation=True, max_length=limit, return_offsets_mapping=True
            )
            end = max(end for _, end in told["offset_mapping"])
            assert at == max(0, end - len(prompt))


def test_a_model_without_a_fast_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)


def _characters(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


@given(st.lists(st.integers(0, 300), max_size=50), st.integers(1, 200), st.integers(0, 3))
def test_what_is_said_about_lengths_adds_up(lengths: list[int], limit: int, prompt: int) -> None:
    found = audit_lengths(
        ("x" * length for length in lengths), _characters, limit, prompt="p" * prompt, worst=5
    )
    whole = [length + prompt for length in lengths]
    assert found.texts == len(whole) == sum(found.histogram["counts"])
    assert found.maximum == max(whole, default=0)
    assert found.truncated == sum(length > limit for length in whole)
    assert found.truncated_share == (found.truncated / len(whole) if whole else 0.0)
    assert found.mean == pytest.approx(np.mean(whole) if whole else 0.0, abs=0.006)
    edges, counts = found.histogram["edges"], found.histogram["counts"]
    assert len(edges) == len(counts) + 1
    assert edges == sorted(set(edges))
    for start, end, count in zip(edges, edges[1:], counts, strict=False):
        assert count == sum(start <= length < end for length in whole)
    assert found.worst == sorted(enumerate(whole), key=lambda item: (-item[1], item[0]))[:5]
    for name, value in found.percentiles.items():
        assert value == pytest.approx(np.percentile(whole, int(name[1:])) if whole else 0.0)


def test_more_texts_than_a_batch_holds_are_counted_once_and_in_order() -> None:
    seen: list[int] = []

    def count(texts: Sequence[str]) -> list[int]:
        seen.append(len(texts))
        return _characters(texts)

    found = audit_lengths(("x" * (i % 50) for i in range(2500)), count, 48, worst=2)
    assert found.texts == sum(seen) == 2500
    assert len(seen) == 3
    assert found.truncated == 50
    assert found.worst == [(49, 49), (99, 49)]
