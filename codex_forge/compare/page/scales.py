"""Scales of measures and positions on an axis, in percent of its width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codex_forge.metrics import RUBRIC_MAXIMUM

MEANINGS = {
    "rubric": "expected topics that the first chunks cover, from 0 to 5",
    "recall": "relevant chunks found in the first {k}",
    "precision": "how much of the first {k} is relevant",
    "mrr": "how early the first relevant chunk comes",
    "ndcg": "how early all relevant chunks come",
    "map": "precision averaged over relevant chunks",
    "spearman": "whether cosines put the pairs in the order of their scores",
    "pearson": "whether cosines grow in step with the scores",
    "roc_auc": "chance that a pair of one meaning has a higher cosine than one of two",
    "average_precision": "how pure the pairs of highest cosine are",
    "f1": "balance of precision and recall at the threshold",
}
"""What a measure says, by its name up to the `@`; also their order."""
_NO_WIDTH = 1e-9


def scale_of(measure: str) -> float:
    """The largest value that the measure can take."""
    return RUBRIC_MAXIMUM if measure == "rubric" else 1.0


def digits_of(measure: str) -> int:
    """Decimals that a measure is written with."""
    return 2 if measure == "rubric" else 3


def meaning_of(measure: str) -> str:
    """What a measure says; nothing when we do not know it."""
    stem, _, cut = measure.partition("@")
    return MEANINGS.get(stem, "").format(k=cut)


def ordered(
    metrics: Mapping[str, Mapping[str, Any]], first: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """The measures, the judged one first, others by kind and then by cut-off."""
    kinds = list(MEANINGS)

    def key(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, int, int]:
        stem, _, cut = item[0].partition("@")
        kind = kinds.index(stem) if stem in kinds else len(kinds)
        return item[0] != first, kind, int(cut) if cut.isdigit() else 0

    return sorted(metrics.items(), key=key)


def effect_of(part: Mapping[str, Any]) -> str:
    """`better`, `worse` or `unclear`: on which side of zero the interval lies."""
    if not known(part, "ci_low", "ci_high"):
        return "unclear"
    return "better" if part["ci_low"] > 0 else "worse" if part["ci_high"] < 0 else "unclear"


def known(part: Mapping[str, Any], *keys: str) -> bool:
    """Are these numbers there, and finite?"""
    return all(part.get(key) is not None and math.isfinite(part[key]) for key in keys)


def first_known(value: float | None, otherwise: float) -> float:
    """The value when it is there and finite."""
    return otherwise if value is None or not math.isfinite(value) else value


def share(value: float, low: float, high: float) -> float:
    """Where the value lies between low and high, in percent, kept inside the picture."""
    if not math.isfinite(value) or high <= low:
        return 0.0
    return round(min(100.0, max(0.0, 100 * (value - low) / (high - low))), 2)


def axis(values: Iterable[float], *, zero: bool = True) -> tuple[float, float, list[float]]:
    """Ends of an axis that holds the values with room to spare, and its round ticks.

    Args:
        values: what must lie on it.
        zero: whether it must hold 0 too.
    """
    held: Sequence[float] = [*([0.0] if zero else []), *values] or [0.0]
    low, high = min(held), max(held)
    if high - low < _NO_WIDTH:
        low, high = low - 0.05, high + 0.05
    room = 0.08 * (high - low)
    low, high = low - room, high + room
    raw = (high - low) / (5 if zero else 8)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    step = max(step, 0.01)
    return low, high, [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
