"""All that was evaluated, side by side: measures, and the difference from the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codex_forge.compare.holm import holm
from codex_forge.compare.intervals import Interval
from codex_forge.compare.sides import Row, Side
from codex_forge.compare.significance import judged

_TIMES = ("p50", "p95")
_PLACES = 6


@dataclass
class System:
    """One evaluation with what was measured of it."""

    side: Side
    role: str
    """`baseline`, `candidate` or `other`."""
    measures: Mapping[str, Interval]
    difference: Interval | None = None
    """Of the judged measure, from the baseline; None for the baseline itself."""
    p_value: float | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """Differences from systems other than the baseline."""


def table(systems: Sequence[System], confidence: float) -> list[dict[str, Any]]:
    """Rows of `report.json`, in the order given.

    The verdict on the candidate is that of the comparison, which was planned alone; the others are
    judged by the p-value that is corrected for the number of systems.
    """
    p_values = {i: s.p_value for i, s in enumerate(systems) if s.p_value is not None}
    corrected = holm(p_values)
    return [_row(system, corrected.get(i), confidence) for i, system in enumerate(systems)]


def _row(system: System, p_holm: float | None, confidence: float) -> dict[str, Any]:
    reports = system.side.reports()
    facts = system.side.facts()
    difference, verdict = None, None
    if system.difference is not None and system.p_value is not None and p_holm is not None:
        told = interval_of(system.difference)
        difference = {**told, "p_value": _round(system.p_value), "p_holm": _round(p_holm)}
        decides = system.p_value if system.role == "candidate" else p_holm
        verdict = judged(system.difference, decides, confidence)
    return {
        "name": facts["name"],
        "role": system.role,
        "retriever": facts["retriever"],
        "model": facts["model"],
        "metrics": {
            name: {
                "value": _round(found.mean),
                "low": _round(found.low),
                "high": _round(found.high),
            }
            for name, found in system.measures.items()
        },
        "difference": difference,
        "verdict": verdict,
        **system.more,
        "latency_ms": latency_of(reports),
        "queries_per_second": _mean([report.get("queries_per_second") for report in reports]),
        "index_bytes": reports[0].get("index_bytes"),
        "dimension": reports[0].get("dimension"),
    }


def interval_of(found: Interval) -> dict[str, float]:
    """A difference with its interval, rounded."""
    return {"mean": _round(found.mean), "low": _round(found.low), "high": _round(found.high)}


def latency_of(reports: Sequence[Row]) -> dict[str, float] | None:
    """Milliseconds of one query; with folds the mean over their models; None if none was timed."""
    timed = [report["latency_ms"] for report in reports if report["latency_ms"]]
    if not timed:
        return None
    return {
        **{name: round(sum(t[name] for t in timed) / len(timed), 3) for name in _TIMES},
        "queries": sum(t["queries"] for t in timed),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 3) if known else None


def _round(value: float) -> float:
    return round(float(value), _PLACES)


def vectors_of(side: Side) -> list[str] | None:
    """Digests of the embed artifacts that a side searches; None without vectors."""
    inputs = [artifact.manifest.inputs.get("embed") for artifact in side.artifacts]
    return [given.digest for given in inputs if given is not None] or None
