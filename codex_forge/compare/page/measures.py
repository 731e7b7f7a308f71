"""The measures of a comparison: a plot of their differences, and a table of everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codex_forge.compare.page.scales import (
    axis,
    digits_of,
    effect_of,
    known,
    meaning_of,
    ordered,
    scale_of,
    share,
)
from codex_forge.compare.page.written import signed

Metrics = Mapping[str, Mapping[str, Any]]

_LEVEL = 0.05
"""A corrected p above this one is no finding."""
_ENDS = ("difference", "ci_low", "ci_high")


def plot(metrics: Metrics, main: str) -> dict[str, Any]:
    """Difference and interval of the measures, as shares of each measure's full scale."""
    shown = [
        (name, metric, scale_of(name))
        for name, metric in ordered(metrics, main)
        if not name.startswith("precision@") and known(metric, *_ENDS)
    ]
    low, high, ticks = axis(m[key] / scale for _, m, scale in shown for key in _ENDS)
    return {
        "zero": share(0.0, low, high),
        "ticks": [
            {"x": share(tick, low, high), "label": f"{signed(100 * tick, 0)} %" if tick else "0"}
            for tick in ticks
        ],
        "measures": [
            {
                "name": name,
                "effect": _effect(name, metric, main),
                "digits": digits_of(name),
                "metric": metric,
                "x": share(metric["difference"] / scale, low, high),
                "low": share(metric["ci_low"] / scale, low, high),
                "high": share(metric["ci_high"] / scale, low, high),
            }
            for name, metric, scale in shown
        ],
    }


def _effect(name: str, metric: Mapping[str, Any], main: str) -> str:
    """Which way a measure went; of many measures one does so by chance, so p is corrected."""
    by_chance = (metric.get("p_holm") or 0.0) > _LEVEL
    return "unclear" if name != main and by_chance else effect_of(metric)


def table(metrics: Metrics, main: str) -> dict[str, Any]:
    """Every measure for a table, the judged one first, and which columns it has."""
    rows: Sequence[dict[str, Any]] = [
        {
            "name": name,
            "meaning": meaning_of(name),
            "digits": digits_of(name),
            "effect": _effect(name, metric, main),
            "metric": metric,
            "ranges": {
                side: known(metric, f"{side}_low", f"{side}_high")
                for side in ("baseline", "candidate")
            },
            "p": metric.get("p_value"),
            "p_holm": metric.get("p_holm"),
            "counts": known(metric, "win", "tie", "loss"),
        }
        for name, metric in ordered(metrics, main)
    ]
    return {
        "rows": rows,
        "has_p": any("p_value" in row["metric"] for row in rows),
        "has_holm": any(row["p_holm"] is not None for row in rows),
        "has_counts": any(row["counts"] for row in rows),
    }
