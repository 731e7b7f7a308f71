"""How well cosines agree with what people said of pairs of texts: a score, or a label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

CORRELATIONS = ("spearman", "pearson")
SEPARATIONS = ("average_precision", "roc_auc")


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
