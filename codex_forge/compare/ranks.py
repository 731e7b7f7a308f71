"""How the ranks of retrieved chunks changed from the baseline to the candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Chunks = Sequence[Mapping[str, Any]]
"""What one side retrieved for a question, best first: at least `chunk_id` and `rank`."""


class Move(NamedTuple):
    """Where a chunk went."""

    kind: str
    """`new`, `gone`, `up`, `down` or `same`."""
    places: int = 0
    """How many ranks up or down."""

    @property
    def words(self) -> str:
        """For people; nothing for a chunk that stayed."""
        if self.kind == "same":
            return ""
        return f"{self.kind} {self.places}" if self.places else self.kind


def moves(before: Chunks, after: Chunks) -> tuple[list[Move], list[Move]]:
    """The move of each chunk of the baseline, and of each of the candidate.

    `gone` and `new` mean: not among the chunks that the other side shows.
    """
    was = {chunk["chunk_id"]: int(chunk["rank"]) for chunk in before}
    now = {chunk["chunk_id"]: int(chunk["rank"]) for chunk in after}
    left = [_move(was[c["chunk_id"]], now.get(c["chunk_id"]), "gone") for c in before]
    right = [_move(was.get(c["chunk_id"]), now[c["chunk_id"]], "new") for c in after]
    return left, right


def _move(was: int | None, now: int | None, otherwise: str) -> Move:
    if was is None or now is None:
        return Move(otherwise)
    if was == now:
        return Move("same")
    return Move("up" if now < was else "down", abs(was - now))


def risen(before: Chunks, after: Chunks) -> list[str]:
    """Ids of the candidate's chunks that are new or rose: the relevant and covering ones.

    When none of those is relevant or covers a topic, all of them: what training lifted by mistake.
    """
    _, right = moves(before, after)
    up = [c for c, move in zip(after, right, strict=True) if move.kind in ("new", "up")]
    useful = [chunk for chunk in up if chunk.get("relevant") or chunk.get("covers")]
    return [str(chunk["chunk_id"]) for chunk in useful or up]
