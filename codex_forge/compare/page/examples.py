"""Questions that changed most, and queries that must find their answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codex_forge.compare.ranks import moves

Row = Mapping[str, Any]


def cases(found: Sequence[Row]) -> list[dict[str, Any]]:
    """The questions with what each side retrieved, each chunk with how its rank changed."""
    told = []
    for case in found:
        left, right = moves(case["top_baseline"], case["top_candidate"])
        told.append(
            {
                **case,
                "taught": case.get("taught") or [],
                "top_baseline": _moved(case["top_baseline"], [move.words for move in left]),
                "top_candidate": _moved(case["top_candidate"], [move.words for move in right]),
            }
        )
    return told


def _moved(chunks: Sequence[Row], words: Sequence[str]) -> list[dict[str, Any]]:
    return [{**chunk, "move": move} for chunk, move in zip(chunks, words, strict=True)]


def must_pass(report: Row) -> list[dict[str, Any]]:
    """Each query with the rank of its answer on both sides; the candidate's failures first."""
    told = report.get("must_pass") or {}
    before = {_key(each): each for each in told.get("baseline") or ()}
    rows = [
        {**each, "baseline": before.get(_key(each)), "candidate": each}
        for each in told.get("candidate") or ()
    ]
    return sorted(rows, key=lambda row: bool(row["candidate"]["passed"]))


def _key(each: Row) -> tuple[str, str, int, int]:
    return each["query"], str(each["expects"]), each["k"], each.get("fold", 0)
