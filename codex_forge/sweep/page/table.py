"""The trials as rows of the table, each with its interval on one common scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codex_forge.compare.page.scales import digits_of, scale_of
from codex_forge.compare.page.written import NONE, number, plain
from codex_forge.sweep.page.axes import Axis
from codex_forge.sweep.page.facts import Board, Tree, beside, range_of, ranked

_BESIDE = ("ndcg@10", "mrr@10", "recall@5", "spearman", "roc_auc")
"""Measures shown beside the main one, where they were taken."""
_MOST_MEASURES = 1
_MOST_KEYS = 5
_LONG = 40
_HOUR, _MINUTE = 3600, 60


def table(board: Board) -> dict[str, Any] | None:
    """Columns and rows, best first; None when no trial was scored."""
    if not (found := ranked(board)):
        return None
    digits = digits_of(board["metric"])
    scale = _scale(board, found)
    keys = list(board["keys"])[:_MOST_KEYS]
    measures = _measures(board, found)
    timed = any(trial["seconds"] for trial in found)
    return {
        "columns": keys,
        "measures": measures,
        "timed": timed,
        "ticks": [{"x": scale.at(t), "label": f"{t:g}"} for t in _ends(scale.ticks)],
        "marks": [
            {"what": what, "x": scale.at(side["score"])}
            for what, side in beside(board)
            if scale.holds(side["score"])
        ],
        "rows": [_row(board, trial, keys, measures, scale) for trial in found],
        "beside": [
            {
                "what": what,
                "name": side["name"],
                "score": number(side["score"], digits),
                "range": range_of(side, digits),
                **_bar(scale, side),
            }
            for what, side in beside(board)
        ],
    }


def _row(
    board: Board, trial: Tree, keys: Sequence[str], measures: Sequence[str], scale: Axis
) -> dict[str, Any]:
    digits, behind = digits_of(board["metric"]), trial["behind"]
    seconds = sum((trial["seconds"] or {}).values())
    return {
        "rank": trial["rank"],
        "index": trial["index"],
        "label": trial["label"] or trial["name"],
        "name": trial["name"],
        "winner": bool(board["choice"]) and trial["name"] == board["choice"]["winner"],
        "alike": trial["alike"],
        "cells": [_cell(trial["overrides"], key) for key in keys],
        "score": number(trial["score"], digits),
        "range": range_of(trial, digits),
        "raw": {**_raw(trial), "time": seconds},
        "behind": number(behind["difference"], digits) if behind else NONE,
        "behind_range": range_of(behind, digits) if behind else "",
        "best": _percent(trial["best_share"]),
        "measures": [_measure(trial, name) for name in measures],
        "time": duration(seconds) if trial["seconds"] else NONE,
        **_bar(scale, trial),
    }


def _raw(trial: Tree) -> dict[str, float]:
    """Numbers to sort by."""
    behind = trial["behind"]
    return {
        "score": trial["score"],
        "behind": behind["difference"] if behind else 0.0,
        "best": trial["best_share"],
    }


def _bar(scale: Axis, side: Tree) -> dict[str, float]:
    return {
        "x": scale.at(side["score"]),
        "low": scale.at(side["low"]),
        "high": scale.at(side["high"]),
    }


def _cell(overrides: Tree, key: str) -> dict[str, Any]:
    """A value of a key, with what to sort by; the config's own where the trial has none."""
    if key not in overrides:
        return {"text": NONE, "sort": ""}
    value = overrides[key]
    return {"text": written(value), "sort": value if is_number(value) else plain(value)}


def is_number(value: object) -> bool:
    """Has the value a size? `true` has none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def written(value: object) -> str:
    """A value of a key, short enough for a table or an axis."""
    text = f"{value:.6g}" if isinstance(value, float) else plain(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}\u2026"


def _scale(board: Board, found: Sequence[Tree]) -> Axis:
    """Holds all intervals, and what stands beside unless that is far from all of them."""
    values = [trial[end] for trial in found for end in ("low", "high")]
    low, high = min(values), max(values)
    near = [
        side["score"]
        for _, side in beside(board)
        if low - (high - low) <= side["score"] <= high + (high - low)
    ]
    return Axis([*values, *near], scale_of(board["metric"]))


def _ends(ticks: Sequence[float]) -> list[float]:
    """The first and the last tick: a narrow plot has room for no more."""
    return list(dict.fromkeys([ticks[0], ticks[-1]])) if ticks else []


def _measures(board: Board, found: Sequence[Tree]) -> list[str]:
    taken = {name for trial in found for name in trial["measures"]}
    names = [name for name in _BESIDE if name in taken and name != board["metric"]]
    return names[:_MOST_MEASURES]


def _measure(trial: Tree, name: str) -> dict[str, Any]:
    """A measure's mean, however the leaderboard holds it."""
    found = trial["measures"].get(name)
    value = found.get("value") if isinstance(found, dict) else found
    return {"text": number(value, digits_of(name)), "sort": "" if value is None else value}


def _percent(part: float) -> str:
    """A share; a small one is not called nothing."""
    return "< 1\u00a0%" if 0 < part < 0.005 else f"{100 * part:.0f}\u00a0%"  # noqa: PLR2004


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    if seconds >= _HOUR:
        return f"{seconds / _HOUR:.1f}\u00a0h"
    if seconds >= _MINUTE:
        return f"{seconds / _MINUTE:.1f}\u00a0min"
    return f"{seconds:.0f}\u00a0s"
