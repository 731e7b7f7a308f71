"""Which training pairs taught a question: those nearest to it, and why.

Nobody can say which of thousands of pairs moved a vector. What can be said, and is: which rows led
to a chunk that rose, which were about a topic that the question expects, and which used its words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from codex_forge.artifact import Artifact
from codex_forge.compare.train_rows import Row, TrainRows
from codex_forge.pair_files import paths_of
from codex_forge.search import words

_SHOWN = 3
_NEAR = 30
"""Rows by words that are looked at for a question."""
_LEAST_LIKENESS = 0.25
"""Cosine of words below which a row that has nothing else in common is not told."""
_WORDS_SHOWN = 3
_TEXT = 200
_OF_SCORED_PAIRS = ("cosent", "angle", "cosine", "contrastive", "online_contrastive")
"""Objectives that read scored or labelled pairs alone."""


class Taught:
    """The train rows of a pairs artifact; read at the first question, and once."""

    def __init__(
        self, pairs: Artifact, scratch: Path, train: Mapping[str, Any] | None = None
    ) -> None:
        """Look at nothing yet.

        Args:
            pairs: what the model was trained on.
            scratch: a folder for a nameless file while the index is built.
            train: the `train` settings of the model, which say what rows training left out.
        """
        self._pairs, self._scratch = pairs, scratch
        self._stages = None if train is None else _stages(train)

    @cached_property
    def _rows(self) -> TrainRows:
        return TrainRows(paths_of(self._pairs, "pairs-train"), self._was_used, self._scratch)

    def __len__(self) -> int:
        """How many train rows there are to learn from."""
        return len(self._rows)

    def of(
        self, question: str, risen: Collection[str], topics: Collection[str]
    ) -> list[dict[str, Any]]:
        """At most three rows, those first that have most in common with the question.

        Args:
            question: its text.
            risen: ids of the chunks that rose for it.
            topics: what it expects.

        Returns:
            Rows of `query`, `chunk_id`, `text` (the answer, at most 200 letters), `source`,
            `phase`, `query_id`, and `why` in words; no query twice.
        """
        rows = self._rows
        answers, about = set(rows.with_answer(risen)), set(rows.with_topic(topics))
        telling = rows.telling(question)
        asked = " ".join(telling)
        pool = sorted(answers | about | set(rows.near(asked, _NEAR)))
        alike = dict(zip(pool, rows.likeness(asked, pool), strict=True))
        pool = [p for p in pool if p in answers or p in about or alike[p] >= _LEAST_LIKENESS]
        pool.sort(key=lambda p: (-(p in answers) - (p in about), -alike[p], p))
        found: dict[str, dict[str, Any]] = {}
        for position in pool:
            row = rows.row(position)
            own = set(words(row["query"]))
            why = _why(row, position in answers, topics, [w for w in telling if w in own])
            found.setdefault(row["query"].casefold(), {**_told(row), "why": why})
            if len(found) == _SHOWN:
                break
        return list(found.values())

    def _was_used(self, row: Row) -> bool:
        """Whether a stage of the training took such rows (`train.max_pairs` may draw of them)."""
        return self._stages is None or any(_takes(stage, row) for stage in self._stages)


def _why(row: Row, rose: bool, topics: Collection[str], shared: Sequence[str]) -> str:
    """What a row has in common with the question, in words."""
    own = {topic.casefold() for topic in row.get("topics") or ()}
    both = [topic for topic in topics if topic.casefold() in own]
    reasons = [
        "its answer is a chunk that rose" if rose else "",
        f"it is about {_quoted(both)}" if both else "",
        f"it shares {_quoted(shared[:_WORDS_SHOWN])}" if shared else "",
    ]
    return "; ".join(reason for reason in reasons if reason)


def _stages(train: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The settings of each stage that reads pairs, as the manifest of a training holds them."""
    every = train["stages"].values() if train.get("stages") else [train]
    return [stage for stage in every if stage.get("objective") not in _OF_SCORED_PAIRS]


def _takes(stage: Mapping[str, Any], row: Row) -> bool:
    keys = (("phases", "phase"), ("sources", "source"), ("domains", "domain"))
    return all(not stage.get(many) or row.get(one) in stage[many] for many, one in keys)


def _told(row: Row) -> dict[str, Any]:
    return {
        "query": row["query"],
        "chunk_id": row.get("positive_id") or "",
        "text": shortened(row["positive"], _TEXT),
        "source": row.get("source") or "",
        "phase": row.get("phase") or "",
        "query_id": row.get("query_id") or "",
    }


def shortened(text: str, most: int) -> str:
    """A text in one line of at most `most` letters, cut at a space where there is one."""
    plain = " ".join(text.split())
    if len(plain) <= most:
        return plain
    cut = plain[: most - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[most // 2 :] else cut) + "\u2026"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"\u201c{name}\u201d" for name in names)
