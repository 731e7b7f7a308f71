"""A query to train on, before negatives are mined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int32]
"""Positions of chunks in the corpus, sorted, each once."""


def positions_of(found: Iterable[int]) -> Positions:
    """Positions in order, each once."""
    if isinstance(found, np.ndarray):
        return np.unique(found).astype(np.int32)
    return np.array(sorted(set(found)), dtype=np.int32)


def holds(positions: Positions, position: int) -> bool:
    """Whether a position is among sorted ones."""
    # A number of another type would make a copy of the array.
    place = int(positions.searchsorted(np.int32(position)))
    return place < len(positions) and int(positions[place]) == position


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A query to train on. Queries of one entity share the array of its answers."""

    query_id: str
    text: str
    topics: tuple[str, ...]
    positives: tuple[int, ...]
    """Positions of the chunks that it is paired with."""
    answers: Positions
    """Positions of all chunks that answer it; none of them is a negative."""
    source: str
    phase: str = ""
    temporal_limit: float | None = None
    answers_are_given: bool = False
    """The data names its answers; they need not cover its topics."""
    positive_text: str | None = None
    """What the query is paired with instead of the chunk's own text (a sentence cut out)."""
    category: str = ""
    domain: str = ""
    negatives: tuple[str, ...] = ()
    """Texts that ready-made data gives as its negatives."""
