"""The top of the page: the verdict in a sentence, the tiers, better and worse questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codex_forge.compare.page.scales import (
    digits_of,
    effect_of,
    first_known,
    known,
    scale_of,
    share,
)
from codex_forge.compare.page.written import number, signed

Report = Mapping[str, Any]

SIDES = ("baseline", "candidate")
_HEADLINES = {
    ("improved", True): "Fine-tuning helped",
    ("unchanged", True): "Fine-tuning made no clear difference",
    ("worse", True): "Fine-tuning made it worse",
    ("improved", False): "The candidate is better",
    ("unchanged", False): "No clear difference",
    ("worse", False): "The candidate is worse",
}
_TUNED = ("dense", None, "")
"""Retrievers whose two sides differ in the model alone; scored pairs need none."""
_READINGS = {
    "better": "The whole interval is above zero: chance alone hardly explains this.",
    "worse": "The whole interval is below zero: chance alone hardly explains this.",
    "unclear": "The interval includes zero: this could be chance.",
}


def main_metric(report: Report) -> dict[str, Any]:
    """The numbers of the judged measure; of scored pairs when there are no questions."""
    measure = report["measure"]
    found = report["metrics"].get(measure) or report["pairs"]["measures"][measure]
    return {"win": None, "tie": None, "loss": None, "p_value": None, **found}


def head(report: Report) -> dict[str, Any]:
    """The verdict in one sentence, and what stands behind it."""
    measure, metric = report["measure"], main_metric(report)
    digits = digits_of(measure)
    tuned = all(report[side]["retriever"] in _TUNED for side in SIDES)
    difference = signed(metric["difference"], digits)
    level = f"{100 * report['confidence']:.6g}"
    of = f" of {scale_of(measure):g}" if report["questions"] else ""
    return {
        "verdict": report["verdict"],
        "claim": _HEADLINES[report["verdict"], tuned],
        "detail": f"{measure} {number(metric['baseline'], digits)} \u2192 "
        f"{number(metric['candidate'], digits)}{of}, {difference} ({level} % interval "
        f"{number(metric['ci_low'], digits)} to {number(metric['ci_high'], digits)})",
        "difference": difference,
        "reading": _reading(report["verdict"], metric),
        "level": f"{level}\u00a0%",
        "metric": metric,
        "smallest": number(report["smallest_detectable"], digits),
    }


def _reading(verdict: str, metric: Mapping[str, Any]) -> str:
    effect = effect_of(metric)
    if known(metric, "win", "loss") and not metric["win"] and not metric["loss"]:
        return "No question changed."
    if verdict == "unchanged" and effect != "unclear":
        return "The interval leaves zero out, but with so few groups chance alone can do that."
    return _READINGS[effect]


def ladder(report: Report) -> dict[str, Any] | None:
    """The tiers as steps, the one reached, and where both sides stand on the scale."""
    if not report["questions"]:
        return None
    tiers = sorted(report["tiers"], key=lambda tier: float(tier["at_least"]))
    scale = scale_of(report["measure"])
    names = [tier["name"] for tier in tiers]
    reached = names.index(report["tier"]) if report["tier"] in names else -1
    return {
        "tiers": [
            {**tier, "state": "here" if i == reached else "passed" if i < reached else "ahead"}
            for i, tier in enumerate(tiers)
        ],
        "this": tiers[reached] if reached >= 0 else None,
        "next": tiers[reached + 1] if reached + 1 < len(tiers) else None,
        **_ladder_plot([float(tier["at_least"]) for tier in tiers], scale, main_metric(report)),
    }


def _ladder_plot(levels: list[float], scale: float, metric: Mapping[str, Any]) -> dict[str, Any]:
    ends = [*levels[1:], scale]
    return {
        "bands": [
            {"x": share(low, 0, scale), "width": share(high - low, 0, scale)}
            for low, high in zip(levels, ends, strict=True)
        ],
        "ticks": [
            {"x": share(value, 0, scale), "label": f"{value:g}"}
            for value in sorted({0.0, scale, *levels})
        ],
        "sides": [
            {
                "side": side,
                "x": share(metric[side], 0, scale),
                "low": share(first_known(metric.get(f"{side}_low"), metric[side]), 0, scale),
                "high": share(first_known(metric.get(f"{side}_high"), metric[side]), 0, scale),
            }
            for side in SIDES
        ],
    }


def outcomes(report: Report) -> list[dict[str, Any]]:
    """How many questions got better, stayed the same and got worse, as parts of one bar."""
    metric = main_metric(report)
    if not known(metric, "win", "tie", "loss"):
        return []
    total = metric["win"] + metric["tie"] + metric["loss"]
    parts, before = [], 0
    for key, word in (("win", "better"), ("tie", "same"), ("loss", "worse")):
        count = metric[key]
        x, width = share(before, 0, total), share(count, 0, total)
        parts.append({"word": word, "count": count, "x": x, "width": width})
        before += count
    return parts


def levels(report: Report) -> dict[str, Any] | None:
    """The tier by other measures: every level with what it asks for and what was reached."""
    tier = report.get("measure_tier")
    if not tier or not tier["levels"]:
        return None
    names = list(dict.fromkeys(m for level in tier["levels"] for m in level["at_least"]))
    rows = [
        {
            "name": level["name"],
            "reached": level["reached"],
            "asked": [_asked(level, name) for name in names],
        }
        for level in tier["levels"]
    ]
    ends = {name: v for level in tier["levels"] for name, v in level["values"].items()}
    return {
        "name": tier["name"],
        "measures": names,
        "rows": rows,
        "ends": [{"name": n, "value": ends[n]} for n in names if ends.get(n) is not None],
    }


def _asked(level: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """What a level asks of one measure, and the lower end that it is held against."""
    if name not in level["at_least"]:
        return None
    value, least = level["values"].get(name), level["at_least"][name]
    return {"least": least, "value": value, "met": value is not None and value >= least}
