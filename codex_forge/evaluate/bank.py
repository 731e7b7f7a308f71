"""The questions that are asked, with their judgements: one part of the bank, or all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from codex_forge import pair_files
from codex_forge.artifact import Artifact
from codex_forge.errors import InputError
from codex_forge.records import PARTS, Qrels, Question
from codex_forge.trec import read_qrels

_ALL = "all"


class Bank:
    """Records, questions and qrels of one part; `all` tells by `part` which each is from."""

    def __init__(self, pairs: Artifact, part: str) -> None:
        """Read them from a pairs artifact.

        Raises:
            InputError: the part has no question, or no judgements.
        """
        self.part = part
        parts = PARTS if part == _ALL else (part,)
        self.records = [record for name in parts for record in self._of(pairs, name)]
        if not self.records:
            raise InputError(
                "there are no questions" if part == _ALL else f"there are no {part} questions",
                where=pairs.url,
                do="give corpus.questions, or change pairs.split",
            )
        self.questions = [_question(record) for record in self.records]
        self.qrels: Qrels = {}
        for name in parts:
            self.qrels.update(read_qrels(pairs.path(f"qrels-{name}.tsv")))

    @property
    def slices(self) -> tuple[str, ...]:
        """Fields that are always sliced by."""
        always = ("exposure", "name_in_index")
        return ("part", *always) if self.part == _ALL else always

    def _of(self, pairs: Artifact, part: str) -> Iterator[dict[str, Any]]:
        for record in pair_files.rows(pairs, f"questions-{part}"):
            yield {**record, "part": part} if self.part == _ALL else record


def _question(record: dict[str, Any]) -> Question:
    return Question(
        query_id=record["query_id"],
        text=record["question"],
        category=record["category"],
        expected_topics=tuple(record["expected_topics"]),
        difficulty=record["difficulty"],
        temporal_limit=record["temporal_limit"],
    )
