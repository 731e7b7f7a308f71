"""Does meaning decide, or words? Pairs in which the two point in opposite directions.

As in adversarial sets of paraphrases (PAWS: Zhang, Baldridge & He, NAACL 2019), pairs that share
most of their words and differ in meaning are set against pairs that share hardly a word and mean
the same. A model that only counts words puts the former closer together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.agreement import agreement
from codex_forge.config.sections import EvaluateConfig
from codex_forge.evaluate.scored_pair import Judged
from codex_forge.search import words
from codex_forge.shingles import jaccard

_LEAST = 5
"""Pairs of each sort below which nothing is judged."""
_WORST = 5
_PLACES = 6


def adversarial(
    pairs: Sequence[Judged], cosines: NDArray[Any], config: EvaluateConfig
) -> dict[str, Any]:
    """The key `adversarial` of a report: passed when meaning brings texts closer than words do.

    Judged on test pairs; dev pairs are added where test has too few of a sort.
    """
    overlaps = np.array([jaccard(*(set(words(text)) for text in pair.texts)) for pair in pairs])
    alike = np.array([pair.alike for pair in pairs])
    same = alike & (overlaps <= config.low_overlap)
    other = ~alike & (overlaps >= config.high_overlap)
    test = np.array([pair.part == "test" for pair in pairs])
    suffices = min((same & test).sum(), (other & test).sum()) >= _LEAST
    if suffices:
        same, other = same & test, other & test
    near, far = _mean(cosines[same]), _mean(cosines[other])
    return {
        "verdict": _verdict(cosines[same], cosines[other]),
        "parts": ["test"] if suffices else ["dev", "test"],
        "same_meaning_few_words": near,
        "other_meaning_many_words": far,
        "same_pairs": int(same.sum()),
        "other_pairs": int(other.sum()),
        "roc_auc": _area(cosines[same], cosines[other]),
        "worst": [
            {
                "text_a": pairs[i].texts[0],
                "text_b": pairs[i].texts[1],
                "cosine": float(cosines[i]),
                "overlap": round(float(overlaps[i]), 4),
                "label": int(alike[i]),
            }
            for i in _worst(cosines, same, other)
        ],
    }


def _verdict(same: NDArray[Any], other: NDArray[Any]) -> str:
    if min(len(same), len(other)) < _LEAST:
        return "not judged"
    return "pass" if same.mean() > other.mean() else "fail"


def _mean(cosines: NDArray[Any]) -> float | None:
    return round(float(cosines.mean()), _PLACES) if len(cosines) else None


def _area(same: NDArray[Any], other: NDArray[Any]) -> float | None:
    """How often a pair of one meaning lies closer together than one of many words."""
    if not len(same) or not len(other):
        return None
    cosines = np.concatenate([same, other])
    is_same = np.arange(len(cosines)) < len(same)
    return agreement(cosines, np.full(len(cosines), np.nan), is_same).values["roc_auc"]


def _worst(
    cosines: NDArray[Any], same: NDArray[np.bool_], other: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Pairs that deceive the model most: how far each lies beyond the mean of all of them."""
    both = same | other
    middle = cosines[both].mean() if both.any() else 0.0
    wrong = np.where(both, np.where(other, cosines - middle, middle - cosines), -np.inf)
    order = np.argsort(-wrong, kind="stable")
    return order[: min(_WORST, int(both.sum()))]
