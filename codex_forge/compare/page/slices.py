"""Groups of questions, each with bars and the interval of its difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codex_forge.compare.page.scales import (
    axis,
    digits_of,
    effect_of,
    known,
    scale_of,
    share,
)
from codex_forge.compare.page.written import number
from codex_forge.metrics import NOT_GIVEN

_SHOWN = 12
_FEW = 20
_NO_VALUE = frozenset({"", "None", NOT_GIVEN})
_BAR = 0.84
"""Of the width, so that the number has room behind the longest bar."""
_ENDS = ("difference", "ci_low", "ci_high")
_TITLES = {
    "category": "By category",
    "difficulty": "By difficulty",
    "phase": "By phase",
    "alias_in_index": "By whether an index knows the name in the question",
    "name_in_index": "By whether an index knows the name in the question",
    "exposure": "By whether training saw the answer",
    "fold": "By fold, each with a model of its own",
}
_VALUES = {
    ("alias_in_index", "true"): "name is in an index",
    ("alias_in_index", "false"): "name is not in an index",
    ("name_in_index", "true"): "name is in an index",
    ("name_in_index", "false"): "name is not in an index",
    ("exposure", "trained_chunk"): "answer chunk was trained on",
    ("exposure", "unseen_chunk"): "answer chunk was never trained on",
}
_DIFFICULTY_ORDER = {"easy": 0, "medium": 1, "hard": 2}
_BY_DIFFICULTY = ("difficulty", "phase")

Parts = Mapping[str, Mapping[str, Any]]


def slices(by_field: Mapping[str, Parts], measure: str, unit: str) -> list[dict[str, Any]]:
    """Sections of groups, by the fields they were made by.

    The interval of a handful of questions says little (of one question it has no width at all), so
    small groups are not called better or worse and do not stretch the common axis.

    Args:
        by_field: field -> value -> `baseline`, `candidate`, a count named `unit`, and perhaps
            `difference`, `ci_low`, `ci_high`.
        measure: what was measured.
        unit: `questions` or `pairs`.
    """
    every = [part for parts in by_field.values() for part in parts.values()]
    wide = [part for part in every if part[unit] >= _FEW and known(part, *_ENDS)]
    low, high, _ = axis(part[key] for part in wide for key in _ENDS)
    sections = []
    for field, parts in by_field.items():
        if parts:
            rows = [
                _bar(field, name, parts[name], measure, unit, (low, high))
                for name in _order(field, parts, unit)
            ]
            title = _TITLES.get(field, f"By {field.replace('_', ' ')}")
            sections.append(
                {
                    "title": title,
                    "shown": rows[:_SHOWN],
                    "more": rows[_SHOWN:],
                    "digits": digits_of(measure),
                    "judged": any(row["judged"] for row in rows),
                }
            )
    return sections


def _order(field: str, parts: Parts, unit: str) -> list[str]:
    """Easy before hard; otherwise the largest first."""
    if field in _BY_DIFFICULTY:
        return sorted(parts, key=lambda name: _DIFFICULTY_ORDER.get(name.lower(), 9))
    return sorted(parts, key=lambda name: -parts[name][unit])


def _bar(
    field: str,
    name: str,
    part: Mapping[str, Any],
    measure: str,
    unit: str,
    ends: tuple[float, float],
) -> dict[str, Any]:
    few = part[unit] < _FEW
    scale, digits = scale_of(measure), digits_of(measure)
    return {
        "baseline": part["baseline"],
        "candidate": part["candidate"],
        "difference": part.get("difference", _difference(part)),
        "ci_low": part.get("ci_low"),
        "ci_high": part.get("ci_high"),
        "count": part[unit],
        "unit": unit if part[unit] != 1 else unit.removesuffix("s"),
        "label": "not given" if name in _NO_VALUE else _VALUES.get((field, name), name),
        "effect": "unclear" if few else effect_of(part),
        "few": few,
        "judged": known(part, "ci_low", "ci_high"),
        "sides": [
            {
                "side": side,
                "width": round(_BAR * share(part[side] or 0.0, 0, scale), 2),
                "value": number(part[side], digits),
            }
            for side in ("baseline", "candidate")
        ],
        "strip": {"zero": share(0.0, *ends), **{k: share(part[k], *ends) for k in _ENDS}}
        if not few and known(part, *_ENDS)
        else None,
    }


def _difference(part: Mapping[str, Any]) -> float | None:
    if not known(part, "baseline", "candidate"):
        return None
    return float(part["candidate"] - part["baseline"])
