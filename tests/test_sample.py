"""The shipped sample keeps what its README promises."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codex_forge.entities import NameMatcher, normalise
from tests.conftest import SAMPLE

LARGEST = 3_000_000


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((SAMPLE / "questions.json").read_text())["questions"]
    return found


@pytest.fixture(scope="module")
def index() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((SAMPLE / "disease_index.json").read_text())
    return found


def test_it_is_small_and_licensed() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.iterdir() if path.is_file()) < LARGEST
    assert "CC0" in (SAMPLE / "LICENSE").read_text()


def test_alias_in_index_tells_the_truth(
    questions: list[dict[str, Any]], index: dict[str, dict[str, Any]]
) -> None:
    told = {normalise(a) for entity in index.values() for a in entity["aliases"]}
    told |= {normalise(entity["primary_name"]) for entity in index.values()}
    for question in questions:
        assert question["alias_in_index"] == (normalise(question["alias"]) in told), question


def test_withheld_aliases_stand_in_no_chunk(questions: list[dict[str, Any]]) -> None:
    withheld = [q["alias"] for q in questions if not q["alias_in_index"]]
    assert len(withheld) > len(questions) / 5
    matcher = NameMatcher(withheld)
    with (SAMPLE / "chunks.jsonl").open() as handle:
        for chunk in map(json.loads, handle):
            assert not matcher.find("\n".join([chunk["text"], *chunk["concept_mentions"]]))


def test_every_answer_is_a_chunk(questions: list[dict[str, Any]]) -> None:
    with (SAMPLE / "chunks.jsonl").open() as handle:
        files = {json.loads(line)["filename"] for line in handle}
    assert all(name in files for question in questions for name in question["relevant"])
