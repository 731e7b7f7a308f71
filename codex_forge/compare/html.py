"""The comparison as one HTML page that opens anywhere and asks nothing of the network.

The template `report.html.j2` holds the words, the style and the small script; this module works
out what it shows: sentences, scales and positions. Questions and chunks are untrusted text, so
autoescaping is on, the rows travel as inert JSON, and the page's Content-Security-Policy allows
its own script alone, by hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from codex_forge.metrics import RUBRIC_MAXIMUM
from codex_forge.pages import environment_of

_TEMPLATE = "report.html.j2"
_SLICE_VALUES_SHOWN = 12
_FEW_QUESTIONS = 20
_NO_WIDTH = 1e-9
_LEAST_P = 0.001
_NO_VALUE = frozenset({"", "None"})
_MINUS = "\u2212"

_HEADLINES = {
    ("improved", True): "Fine-tuning helped",
    ("unchanged", True): "Fine-tuning made no clear difference",
    ("worse", True): "Fine-tuning made it worse",
    ("improved", False): "The candidate is better",
    ("unchanged", False): "No clear difference",
    ("worse", False): "The candidate is worse",
}
_MEASURES = {
    "rubric": "expected topics that the first chunks cover, from 0 to 5",
    "recall": "relevant chunks found in the first {k}",
    "precision": "how much of the first {k} is relevant",
    "mrr": "how early the first relevant chunk comes",
    "ndcg": "how early all relevant chunks come",
    "map": "precision averaged over relevant chunks",
}
_SLICES = {
    "category": "By category",
    "difficulty": "By difficulty",
    "alias_in_index": "By whether an index knows the name in the question",
    "name_in_index": "By whether an index knows the name in the question",
    "exposure": "By whether training saw the answer",
    "fold": "By fold, each with a model of its own",
}
_SLICE_VALUES = {
    ("alias_in_index", "true"): "name is in an index",
    ("alias_in_index", "false"): "name is not in an index",
    ("name_in_index", "true"): "name is in an index",
    ("name_in_index", "false"): "name is not in an index",
    ("exposure", "trained_chunk"): "answer chunk was trained on",
    ("exposure", "unseen_chunk"): "answer chunk was never trained on",
}
_DIFFICULTY_ORDER = {"easy": 0, "medium": 1, "hard": 2}
_ROW_FIELDS = ("query_id", "question", "category", "difficulty")
_ROW_NUMBERS = ("baseline", "candidate", "difference")


def render(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The whole page as text; write it as UTF-8.

    Args:
        report: the comparison, as in `report.json`.
        rows: one mapping a question: `query_id`, `question`, `category`, `difficulty`, `baseline`,
            `candidate` and `difference`.
    """
    from markupsafe import Markup

    environment = environment_of(Path(__file__).parent)
    environment.filters.update(
        number=_number,
        signed=_signed,
        p=_p_value,
        plain=_plain,
        thousands=_thousands,
        marked=_marked,
        csp_hash=_csp_hash,
    )
    page = environment.get_template(_TEMPLATE).render(
        report=report,
        head=_head(report),
        ladder=_ladder(report),
        outcomes=_outcomes(report),
        plot=_plot(report),
        measures=_measures(report),
        slices=_slices(report),
        histogram=_histogram(report["distribution"]),
        rows_json=Markup(_rows_json(rows)),  # noqa: S704 - escaped by _rows_json
        row_count=len(rows),
    )
    return re.sub("[\ud800-\udfff]", "\ufffd", page)


# What the parts of the page show.


def _head(report: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict in one sentence, and what stands behind it."""
    measure, metric = report["measure"], report["metrics"][report["measure"]]
    scale, digits = _scale(measure), _digits(measure)
    tuned = all(report[side]["retriever"] == "dense" for side in ("baseline", "candidate"))
    claim = _HEADLINES[report["verdict"], tuned]
    difference = _signed(metric["difference"], digits)
    interval = f"{_number(metric['ci_low'], digits)} to {_number(metric['ci_high'], digits)}"
    level = f"{100 * report['confidence']:.6g}"
    effect = _effect(metric)
    reading = {
        "better": "The whole interval is above zero: chance alone hardly explains this.",
        "worse": "The whole interval is below zero: chance alone hardly explains this.",
        "unclear": "The interval includes zero: this could be chance.",
    }[effect]
    if not metric["win"] and not metric["loss"]:
        reading = "No question changed."
    elif report["verdict"] == "unchanged" and effect != "unclear":
        reading = "The interval leaves zero out, but with so few groups chance alone can do that."
    return {
        "verdict": report["verdict"],
        "claim": claim,
        "detail": f"{measure} {_number(metric['baseline'], digits)} \u2192 "
        f"{_number(metric['candidate'], digits)} of {scale:g}, {difference} "
        f"({level} % interval {interval})",
        "difference": difference,
        "reading": reading,
        "level": f"{level}\u00a0%",
        "metric": metric,
        "smallest": _number(report["smallest_detectable"], digits),
    }


def _ladder(report: Mapping[str, Any]) -> dict[str, Any]:
    """The tiers as steps, the one reached, and where both sides stand on the scale."""
    tiers = sorted(report["tiers"], key=lambda tier: float(tier["at_least"]))
    scale, metric = _scale(report["measure"]), report["metrics"][report["measure"]]
    names = [tier["name"] for tier in tiers]
    reached = names.index(report["tier"]) if report["tier"] in names else -1
    ends = [float(tier["at_least"]) for tier in tiers[1:]] + [scale]
    return {
        "reached": reached >= 0,
        "tiers": [
            {**tier, "state": "here" if i == reached else "passed" if i < reached else "ahead"}
            for i, tier in enumerate(tiers)
        ],
        "this": tiers[reached] if reached >= 0 else None,
        "next": tiers[reached + 1] if reached + 1 < len(tiers) else None,
        "bands": [
            {"x": _share(tier["at_least"], 0, scale), "width": _width(tier["at_least"], end, scale)}
            for tier, end in zip(tiers, ends, strict=True)
        ],
        "ticks": [
            {"x": _share(value, 0, scale), "label": f"{value:g}"}
            for value in sorted({0.0, scale, *(float(tier["at_least"]) for tier in tiers)})
        ],
        "sides": [
            {
                "side": side,
                "x": _share(metric[side], 0, scale),
                "low": _share(_first(metric.get(f"{side}_low"), metric[side]), 0, scale),
                "high": _share(_first(metric.get(f"{side}_high"), metric[side]), 0, scale),
            }
            for side in ("baseline", "candidate")
        ],
    }


def _outcomes(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How many questions got better, stayed the same and got worse, as parts of one bar."""
    metric = report["metrics"][report["measure"]]
    if not _known(metric, "win", "tie", "loss"):
        return []
    total = metric["win"] + metric["tie"] + metric["loss"]
    parts, before = [], 0
    for key, word in (("win", "better"), ("tie", "same"), ("loss", "worse")):
        count = metric[key]
        x, width = _share(before, 0, total), _share(count, 0, total)
        parts.append({"word": word, "count": count, "x": x, "width": width})
        before += count
    return parts


def _plot(report: Mapping[str, Any]) -> dict[str, Any]:
    """Difference and interval of the main measures, as shares of each measure's full scale."""
    shown = [
        (name, metric, _scale(name))
        for name, metric in _ordered(report)
        if not name.startswith("precision@") and _known(metric, "difference", "ci_low", "ci_high")
    ]
    values = [
        m[key] / scale for _, m, scale in shown for key in ("difference", "ci_low", "ci_high")
    ]
    low, high, ticks = _axis(values)
    return {
        "zero": _share(0.0, low, high),
        "ticks": [
            {"x": _share(tick, low, high), "label": f"{_signed(100 * tick, 0)} %" if tick else "0"}
            for tick in ticks
        ],
        "measures": [
            {
                "name": name,
                "effect": _effect(metric),
                "digits": _digits(name),
                "metric": metric,
                "x": _share(metric["difference"] / scale, low, high),
                "low": _share(metric["ci_low"] / scale, low, high),
                "high": _share(metric["ci_high"] / scale, low, high),
            }
            for name, metric, scale in shown
        ],
    }


def _measures(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every measure for the table, the judged one first."""
    table = []
    for name, metric in _ordered(report):
        stem, _, cut = name.partition("@")
        table.append(
            {
                "name": name,
                "meaning": _MEASURES.get(stem, "").format(k=cut),
                "digits": _digits(name),
                "effect": _effect(metric),
                "metric": metric,
                "ranges": {
                    side: _known(metric, f"{side}_low", f"{side}_high")
                    for side in ("baseline", "candidate")
                },
                "counts": _known(metric, "win", "tie", "loss"),
            }
        )
    return table


def _slices(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Groups of questions, each with bars and the interval of its difference.

    The interval of a handful of questions says little (of one question it has no width at all), so
    small groups are not called better or worse and do not stretch the common axis.
    """
    measure = report["measure"]
    scale, digits = _scale(measure), _digits(measure)
    every = [part for parts in report["slices"].values() for part in parts.values()]
    wide = [part for part in every if part["questions"] >= _FEW_QUESTIONS]
    keys = ("difference", "ci_low", "ci_high")
    low, high, _ = _axis([part[key] for part in wide if _known(part, *keys) for key in keys])
    sections = []
    for field, parts in report["slices"].items():
        if not parts:
            continue
        if field == "difficulty":
            names = sorted(parts, key=lambda name: _DIFFICULTY_ORDER.get(name.lower(), 9))
        else:
            names = sorted(parts, key=lambda name: -parts[name]["questions"])
        bars = []
        for name in names:
            part = parts[name]
            few = part["questions"] < _FEW_QUESTIONS
            bars.append(
                {
                    **part,
                    "label": "not given"
                    if name in _NO_VALUE
                    else _SLICE_VALUES.get((field, name), name),
                    "effect": "unclear" if few else _effect(part),
                    "few": few,
                    "sides": [
                        {
                            "side": side,
                            "width": round(0.84 * _share(part[side], 0, scale), 2),
                            "value": _number(part[side], digits),
                        }
                        for side in ("baseline", "candidate")
                    ],
                    "strip": {
                        "zero": _share(0.0, low, high),
                        "x": _share(part["difference"], low, high),
                        "low": _share(part["ci_low"], low, high),
                        "high": _share(part["ci_high"], low, high),
                    }
                    if not few and _known(part, *keys)
                    else None,
                }
            )
        sections.append(
            {
                "title": _SLICES.get(field, f"By {field.replace('_', ' ')}"),
                "shown": bars[:_SLICE_VALUES_SHOWN],
                "more": bars[_SLICE_VALUES_SHOWN:],
                "digits": digits,
            }
        )
    return sections


def _histogram(distribution: Mapping[str, Any]) -> dict[str, Any]:
    """How many questions fall into each band of the scale, before and after."""
    edges = list(distribution["edges"])
    counts = {side: list(distribution[side]) for side in ("baseline", "candidate")}
    most = max([1, *counts["baseline"], *counts["candidate"]])
    width = 100 / max(1, len(edges) - 1)
    bands = []
    for i, (start, end) in enumerate(pairwise(edges)):
        last = i == len(edges) - 2
        bands.append(
            {
                "centre": round((i + 0.5) * width, 3),
                "label": f"{start:g} to {end:g}" if last else f"{start:g} to <{end:g}",
                "short": f"{start:g}\u2013{end:g}",
                "bars": [
                    {
                        "side": side,
                        "count": counts[side][i],
                        "x": round((i + at) * width, 3),
                        "middle": round((i + at + 0.19) * width, 3),
                        "width": round(0.38 * width, 3),
                        "height": round(160 * counts[side][i] / most, 2),
                    }
                    for side, at in (("baseline", 0.11), ("candidate", 0.51))
                ],
            }
        )
    return {"bands": bands}


# Scales and positions.


def _scale(measure: str) -> float:
    """The largest value that the measure can take."""
    return RUBRIC_MAXIMUM if measure == "rubric" else 1.0


def _digits(measure: str) -> int:
    return 2 if measure == "rubric" else 3


def _ordered(report: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The measures, the judged one first, others by kind and then by cut-off."""
    kinds = list(_MEASURES)

    def key(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, int, int]:
        stem, _, cut = item[0].partition("@")
        kind = kinds.index(stem) if stem in kinds else len(kinds)
        return item[0] != report["measure"], kind, int(cut) if cut.isdigit() else 0

    return sorted(report["metrics"].items(), key=key)


def _effect(part: Mapping[str, Any]) -> str:
    """`better`, `worse` or `unclear`: on which side of zero the interval lies."""
    if not _known(part, "ci_low", "ci_high"):
        return "unclear"
    return "better" if part["ci_low"] > 0 else "worse" if part["ci_high"] < 0 else "unclear"


def _known(part: Mapping[str, Any], *keys: str) -> bool:
    """Are these numbers there, and finite?"""
    return all(part.get(key) is not None and math.isfinite(part[key]) for key in keys)


def _first(value: float | None, otherwise: float) -> float:
    return otherwise if value is None or not math.isfinite(value) else value


def _share(value: float, low: float, high: float) -> float:
    """Where the value lies between low and high, in percent, kept inside the picture."""
    if not math.isfinite(value) or high <= low:
        return 0.0
    return round(min(100.0, max(0.0, 100 * (value - low) / (high - low))), 2)


def _width(low: float, high: float, scale: float) -> float:
    return round(_share(high, 0, scale) - _share(low, 0, scale), 2)


def _axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Ends of an axis that holds the values and zero with room to spare, and its round ticks."""
    low, high = min([0.0, *values]), max([0.0, *values])
    if high - low < _NO_WIDTH:
        low, high = -0.05, 0.05
    room = 0.08 * (high - low)
    low, high = low - room, high + room
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    step = max(step, 0.01)
    ticks = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return low, high, ticks


# How values are written.


def _number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign; a dash when there is none."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    text = f"{value:.{digits}f}"
    if not float(text):
        text = text.lstrip("-")
    return text.replace("-", _MINUS)


def _signed(value: float | None, digits: int = 2) -> str:
    """A difference: plus or minus in front, nothing in front of zero."""
    text = _number(value, digits)
    if value is not None and value > 0 and text[0].isdigit() and float(text):
        return f"+{text}"
    return text


def _p_value(value: float | None) -> str:
    """Three decimals, and `< 0.001` below that."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    return "< 0.001" if value < _LEAST_P else f"{value:.3f}"


def _thousands(value: int) -> str:
    """Thousands apart by a thin space."""
    return f"{value:,}".replace(",", "\u202f")


def _plain(value: object) -> str:
    """A setting as people write it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _marked(text: str, names: Iterable[str]) -> list[tuple[str, bool]]:
    """The text in pieces, each with whether it is one of the names."""
    wanted = sorted({name for name in names if name.strip()}, key=len, reverse=True)
    if not wanted:
        return [(text, False)]
    pattern = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in wanted)
    pieces = re.split(f"({pattern})", text, flags=re.IGNORECASE)
    return [(piece, i % 2 == 1) for i, piece in enumerate(pieces) if piece]


def _csp_hash(script: str) -> str:
    """The source expression that lets a Content-Security-Policy allow this one script."""
    digest = hashlib.sha256(str(script).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _rows_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as JSON that cannot end the element around it: no `<`, `>` or `&` is left."""
    table = [
        [str(row.get(field) or "") for field in _ROW_FIELDS]
        + [row[field] if _known(row, field) else None for field in _ROW_NUMBERS]
        for row in rows
    ]
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
