"""The questions that gained and lost the most, with what both sides retrieved for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from codex_forge.compare.asked import MEASURE
from codex_forge.compare.sides import Row

Both = tuple[Row, Row]
Teach = Callable[[Row, Row], list[dict[str, Any]]]
"""The train pairs that taught a question, from both sides' rows of it."""


def examples(pairs: Sequence[Both], shown: int, teach: Teach) -> dict[str, list[Row]]:
    """At most `shown` that gained, and as many that lost, the largest change first."""
    by_gain = sorted(pairs, key=lambda pair: (gain(pair), pair[0]["query_id"]))
    lost = [pair for pair in by_gain[:shown] if gain(pair) < 0]
    gained = [pair for pair in by_gain[::-1][:shown] if gain(pair) > 0]
    return {
        "gained": [_example(pair, teach) for pair in gained],
        "lost": [_example(pair, teach) for pair in lost],
    }


def gain(pair: Both) -> float:
    """How much the rubric of a question rose."""
    return float(pair[1]["measures"][MEASURE] - pair[0]["measures"][MEASURE])


def question_rows(pairs: Sequence[Both], *, folds: bool) -> list[Row]:
    """One flat row a question: what it is, both scores, the difference."""
    return [
        {
            "query_id": before["query_id"],
            **({"fold": before["fold"]} if folds else {}),
            "question": before["question"],
            "category": before["category"],
            "difficulty": before["difficulty"],
            "baseline": round(float(before["measures"][MEASURE]), 6),
            "candidate": round(float(after["measures"][MEASURE]), 6),
            "difference": round(gain((before, after)), 6),
        }
        for before, after in pairs
    ]


def _example(pair: Both, teach: Teach) -> Row:
    before, after = pair
    return {
        **{key: before[key] for key in ("query_id", "question", "category", "difficulty")},
        "baseline": round(float(before["measures"][MEASURE]), 6),
        "candidate": round(float(after["measures"][MEASURE]), 6),
        "topics": before["expected_topics"],
        "covered_baseline": _covered(before),
        "covered_candidate": _covered(after),
        "top_baseline": before["retrieved"],
        "top_candidate": after["retrieved"],
        "taught": teach(before, after),
    }


def _covered(row: Row) -> dict[str, str]:
    found: dict[str, str] = {}
    for chunk in row["retrieved"]:
        for topic, name in chunk["covers"].items():
            found.setdefault(topic, name)
    return found
