"""The words of the domain as values: Chunk, Entity, Question, Pair, Qrels, Run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

PARTS = ("train", "dev", "test")
"""Of a question bank, and of pairs; the last is the most protected."""
HELD_OUT = ("test", "dev")
"""Parts that training may not look at."""
PHASES = ("easy", "medium", "hard")
"""Of pairs: what words give away first, what they contradict last."""

Qrels = dict[str, dict[str, int]]
"""query_id -> chunk_id -> grade (0 = not relevant, larger = more relevant)."""

Run = dict[str, list[tuple[str, float]]]
"""query_id -> (chunk_id, score), best first."""


class Chunk(NamedTuple):
    """A piece of the corpus. `chunk_id` is derived from `filename` and `text` alone."""

    chunk_id: str
    text: str
    filename: str
    mentions: tuple[str, ...] = ()
    chunk_type: str = ""
    temporal_order: float | None = None
    metadata: dict[str, Any] = {}  # noqa: RUF012 - never written to
    """Every other field of the record."""


class Entity(NamedTuple):
    """A thing that the domain names: its names are `primary_name` and every alias."""

    entity_id: str
    primary_name: str
    filename: str
    aliases: tuple[str, ...] = ()
    entity_type: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Primary name first, then the aliases, each once."""
        return tuple(dict.fromkeys((self.primary_name, *self.aliases)))


@dataclass(frozen=True, slots=True)
class Question:
    """A query of the question bank, with what a good answer must cover."""

    query_id: str
    text: str
    category: str
    expected_topics: tuple[str, ...]
    difficulty: str = ""
    temporal_limit: float | None = None
    relevant: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)
    """Every other field of the record, kept for slices."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A training example: a query, a chunk that answers it, and chunks that do not."""

    query_id: str
    query: str
    positive: Chunk
    negatives: tuple[Chunk, ...]
    negative_sources: tuple[str, ...]
    phase: str
    source: str
    """Where the query came from: `question`, `alias_rewrite`, `entity` or `mention`."""


@dataclass(frozen=True, slots=True)
class ReadyPair:
    """A ready-made query with what answers it and what does not; texts, not chunks."""

    pair_id: str
    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    domain: str = ""
    category: str = ""
    phase: str = ""
    """`easy`, `medium` or `hard`; empty when not given."""
    part: str = ""
    """`train`, `dev` or `test`; empty when not given."""


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two ready-made texts, and how alike their meanings are."""

    pair_id: str
    text_a: str
    text_b: str
    score: float | None = None
    """From 0 (nothing in common) to 1 (the same)."""
    label: int | None = None
    """1 = they mean the same, 0 = they do not."""
    domain: str = ""
    category: str = ""
    phase: str = ""
    part: str = ""
