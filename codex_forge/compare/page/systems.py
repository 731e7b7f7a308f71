"""All systems side by side: what they score, how sure that is, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codex_forge.compare.page.scales import axis, digits_of, first_known, share
from codex_forge.compare.page.written import NONE, number, size, thousands

_BESIDE = ("ndcg@10", "mrr@10", "recall@5", "spearman", "roc_auc")
"""Measures shown beside the main one, where they were taken."""
_MOST = 3
_COSTS = ("One question, ms", "95 %, ms", "Questions a second", "Index", "Dimension")
_EFFECTS = {"improved": "better", "worse": "worse"}


def systems(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Rows of the table and of the interval plot; None without systems."""
    found: Sequence[Mapping[str, Any]] = report.get("systems") or ()
    if not found:
        return None
    main = report["measure"]
    taken = {name for system in found for name in system["metrics"]}
    beside = [name for name in _BESIDE if name in taken and name != main][:_MOST]
    names = [main, *beside] if main in taken else beside
    costs = [_costs(system) for system in found]
    taken_costs = [i for i in range(len(_COSTS)) if any(told[i] != NONE for told in costs)]
    return {
        "measures": [{"name": name, "digits": digits_of(name)} for name in names],
        "rows": [
            {
                **system,
                "effect": _EFFECTS.get(system.get("verdict") or "", "unclear"),
                "costs": [told[i] for i in taken_costs],
            }
            for system, told in zip(found, costs, strict=True)
        ],
        "costs": [_COSTS[i] for i in taken_costs],
        "plot": _plot(found, main) if main in taken else None,
    }


def _costs(system: Mapping[str, Any]) -> list[str]:
    """What the columns of `_COSTS` say."""
    time = system.get("latency_ms") or {}
    return [
        number(time.get("p50"), 1),
        number(time.get("p95"), 1),
        thousands(system.get("queries_per_second")),
        size(system.get("index_bytes")),
        thousands(system.get("dimension")),
    ]


def _plot(found: Sequence[Mapping[str, Any]], main: str) -> dict[str, Any]:
    """Every system's interval of the main measure on one axis, which need not begin at 0."""
    shown = [(system, system["metrics"][main]) for system in found if main in system["metrics"]]
    ends = [_ends(metric) for _, metric in shown]
    low, high, ticks = axis((end for both in ends for end in both), zero=False)
    return {
        "ticks": [{"x": share(tick, low, high), "label": f"{tick:g}"} for tick in ticks],
        "rows": [
            {
                "name": system["name"],
                "role": system["role"],
                "value": metric["value"],
                "ends": both,
                "x": share(metric["value"], low, high),
                "low": share(both[0], low, high),
                "high": share(both[1], low, high),
            }
            for (system, metric), both in zip(shown, ends, strict=True)
        ],
    }


def _ends(metric: Mapping[str, Any]) -> tuple[float, float]:
    value = metric["value"]
    return first_known(metric.get("low"), value), first_known(metric.get("high"), value)
