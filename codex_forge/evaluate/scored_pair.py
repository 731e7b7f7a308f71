"""A held-out pair of texts with what was said of it, and which pairs share a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codex_forge.agreement import means_the_same
from codex_forge.entities import normalise


class Judged(NamedTuple):
    """Two texts with a score or a label, or both."""

    pair_id: str
    part: str
    texts: tuple[str, str]
    score: float | None
    label: int | None
    category: str
    phase: str

    @classmethod
    def of(cls, part: str, row: Mapping[str, Any]) -> Judged:
        """One row of `scored-dev` or `scored-test`."""
        return cls(
            pair_id=row["pair_id"],
            part=part,
            texts=(row["text_a"], row["text_b"]),
            score=row.get("score"),
            label=row.get("label"),
            category=row.get("category") or "",
            phase=row.get("phase") or "",
        )

    @property
    def alike(self) -> bool:
        """Whether the two mean the same, as training counts it."""
        return means_the_same(self.score, self.label)

    def told(self) -> dict[str, Any]:
        """All but the texts."""
        return {
            "pair_id": self.pair_id,
            "part": self.part,
            "score": self.score,
            "label": self.label,
            "category": self.category,
            "phase": self.phase,
        }


def grouped(pairs: Sequence[Judged]) -> NDArray[np.int64]:
    """Of each pair the position of the first one that it hangs together with, shape (pairs,).

    Pairs with a text in common, whatever its case, hang together, also over a third pair.
    """
    parent = list(range(len(pairs)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_with: dict[str, int] = {}
    for i, pair in enumerate(pairs):
        for text in pair.texts:
            one, other = root(i), root(first_with.setdefault(normalise(text), i))
            parent[max(one, other)] = min(one, other)
    return np.array([root(i) for i in range(len(pairs))], dtype=np.int64)
