"""How well cosines agree with what people said of pairs of texts: a score, or a label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

CORRELATIONS = ("spearman", "pearson")
SEPARATIONS = ("average_precision", "roc_auc")
DECISIONS = ("f1", "precision", "recall")
ALIKE = 0.5
"""From this score on two texts count as alike, where no label says it."""


class Agreement(NamedTuple):
    """Measures by name; None has its reason in `undefined`."""

    values: dict[str, float | None]
    undefined: dict[str, str]


def agreement(cosines: Values, scores: Values, alike: NDArray[np.bool_]) -> Agreement:
    """Correlations with the scores, and how well cosines separate what is alike.

    Spearman's rank correlation and Pearson's (scipy); the area under the ROC curve and average
    precision (scikit-learn). Correlations are given when any pair has a score.

    Args:
        cosines: of the pairs, shape (pairs,).
        scores: from 0 to 1, NaN for a pair without one, shape (pairs,).
        alike: whether the two mean the same, shape (pairs,).
    """
    found = Agreement({}, {})
    has = np.isfinite(scores)
    if has.any():
        reason = _no_correlation(cosines[has], scores[has])
        _add(found, _correlations(), reason, cosines[has], scores[has])
    reason = "" if alike.any() and not alike.all() else "all pairs have the same label"
    _add(found, _separations(), reason, alike, cosines)
    return found


def means_the_same(score: float | None, label: int | None) -> bool:
    """What the label says; without one, whether the score is at least a half."""
    return (score or 0.0) >= ALIKE if label is None else label > 0


def best_threshold(cosines: Values, alike: NDArray[np.bool_]) -> float | None:
    """The cosine from which on calling two texts alike has the largest F1.

    It lies midway between two cosines, so that it favours neither; of equally good ones it is the
    highest. None when no pair is alike.
    """
    if not alike.any():
        return None
    order = np.argsort(-cosines, kind="stable")
    falling = cosines[order]
    hits = np.cumsum(alike[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + alike.sum())
    last_of_tie = np.append(falling[1:] < falling[:-1], True)
    best = int(np.argmax(np.where(last_of_tie, f1, -1.0)))
    lower = falling[best + 1] if best + 1 < len(falling) else falling[best]
    return float(falling[best] + lower) / 2


def decisions(cosines: Values, alike: NDArray[np.bool_], threshold: float) -> Agreement:
    """F1, precision and recall of calling pairs alike whose cosine reaches the threshold."""
    called = cosines >= threshold
    hits, said, true = (int(x.sum()) for x in (called & alike, called, alike))
    found = Agreement({}, {})
    parts = (
        ("f1", 2 * hits, said + true, "no pair is alike, nor called so"),
        ("precision", hits, said, "no pair reaches the threshold"),
        ("recall", hits, true, "no pair is alike"),
    )
    for name, above, below, reason in parts:
        found.values[name] = round(above / below, 6) if below else None
        if not below:
            found.undefined[name] = reason
    return found


def _no_correlation(cosines: Values, scores: Values) -> str:
    if (scores == scores[0]).all():
        return "all scores are equal"
    return "all cosines are equal" if (cosines == cosines[0]).all() else ""


def _add(
    found: Agreement, measures: Mapping[str, Callable[..., Any]], reason: str, *given: Any
) -> None:
    for name, measure in measures.items():
        if reason:
            found.values[name], found.undefined[name] = None, reason
        else:
            found.values[name] = round(float(measure(*given)), 6)


def _correlations() -> dict[str, Callable[..., Any]]:
    from scipy.stats import pearsonr, spearmanr

    measures = (lambda x, y: spearmanr(x, y).statistic, lambda x, y: pearsonr(x, y).statistic)
    return dict(zip(CORRELATIONS, measures, strict=True))


def _separations() -> dict[str, Callable[..., Any]]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    return dict(zip(SEPARATIONS, (average_precision_score, roc_auc_score), strict=True))
