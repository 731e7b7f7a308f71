"""The scored pairs: measures with intervals, thresholds, slices, and the adversarial check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codex_forge.compare.page.measures import plot, table
from codex_forge.compare.page.scales import share
from codex_forge.compare.page.slices import slices

_MAIN = ("spearman", "roc_auc")
_NUMBERS = (
    ("same_meaning_few_words", "same_pairs", "same meaning, few words in common"),
    ("other_meaning_many_words", "other_pairs", "other meaning, many words in common"),
)


def scored(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Everything about the scored pairs; None without them."""
    found = report.get("pairs")
    if not found:
        return None
    measures = found["measures"]
    main = found.get("measure") or next((name for name in _MAIN if name in measures), "")
    parts = {field: values for field, values in (found.get("slices") or {}).items() if values}
    return {
        "pairs": found["pairs"],
        "groups": found.get("groups"),
        "resamples": found.get("resamples") or report["resamples"],
        "main": main,
        "plot": plot(measures, main),
        "table": table(measures, main),
        "thresholds": found.get("thresholds") or {},
        "slices": slices(parts, main, "pairs"),
        "adversarial": _adversarial(found.get("adversarial") or {}, report["part"]),
    }


def _adversarial(sides: Mapping[str, Mapping[str, Any]], part: str) -> list[dict[str, Any]]:
    """Of each side the verdict and its two numbers, as bars; nothing where no side was judged."""
    return [
        {
            "side": side,
            "verdict": told["verdict"],
            "roc_auc": told.get("roc_auc"),
            "parts": told.get("parts") or [part],
            "bars": [
                {
                    "label": label,
                    "value": told.get(key),
                    "pairs": told.get(count) or 0,
                    "width": share(max(0.0, told.get(key) or 0.0), 0, 1) * 0.84,
                }
                for key, count, label in _NUMBERS
            ],
            "worst": told.get("worst") or [],
        }
        for side, told in sides.items()
        if told and (told.get("same_pairs") or told.get("other_pairs"))
    ]
