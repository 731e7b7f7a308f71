"""What each varied key does to the score: the trials by its values, and their means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from codex_forge.compare.page.scales import digits_of, scale_of
from codex_forge.compare.page.written import number, plain
from codex_forge.sweep.page.axes import Axis
from codex_forge.sweep.page.facts import Board, Tree, ranked
from codex_forge.sweep.page.table import is_number, written

_TOP, _HEIGHT = 12.0, 148.0
_LEFT = 11.0
"""Percent of the width that the labels of the axis take."""
_SPREAD = 0.28
"""Of a value's room on each side, how much its points may use."""
_LETTERS = 42
"""That fit below a plot."""
_UNSET = "as in config"


def keys(board: Board) -> list[dict[str, Any]]:
    """A plot for each key of which at least two values were scored."""
    found = ranked(board)
    if not found:
        return []
    scale = Axis([trial["score"] for trial in found], scale_of(board["metric"]))
    plots = (_plot(board, key, found, scale) for key in board["keys"])
    return [plot for plot in plots if len(plot["values"]) > 1]


def _plot(board: Board, key: str, found: Sequence[Tree], scale: Axis) -> dict[str, Any]:
    digits = digits_of(board["metric"])
    values = _values(key, found)
    width = (100 - _LEFT) / len(values)
    longest = max(len(written(value)) for value, _ in values) + 2
    every = math.ceil(len(values) * longest / _LETTERS)
    placed = []
    for i, (value, trials) in enumerate(values):
        middle = _LEFT + (i + 0.5) * width
        mean = sum(trial["score"] for trial in trials) / len(trials)
        placed.append(
            {
                "label": written(value),
                "shown": i % every == 0,
                "x": round(middle, 2),
                "y": _height(scale, mean),
                "half": round(min(2.5, 0.4 * width), 2),
                "mean": number(mean, digits),
                "count": len(trials),
                "points": _points(board, trials, middle, width, scale),
            }
        )
    return {
        "key": key,
        "values": placed,
        "lines": list(pairwise(placed)),
        "ticks": [{"y": _height(scale, t), "label": f"{t:g}"} for t in scale.ticks],
    }


def _points(
    board: Board, trials: Sequence[Tree], middle: float, width: float, scale: Axis
) -> list[dict[str, Any]]:
    """Beside each other in the order of the plan, so that equal ones are seen."""
    winner = board["choice"]["winner"] if board["choice"] else None
    ordered = sorted(trials, key=lambda trial: int(trial["index"]))
    room = 2 * _SPREAD * width
    return [
        {
            "x": round(middle + room * ((i + 0.5) / len(ordered) - 0.5), 2),
            "y": _height(scale, trial["score"]),
            "kind": "won" if trial["name"] == winner else "alike" if trial["alike"] else "behind",
        }
        for i, trial in enumerate(ordered)
    ]


def _values(key: str, found: Sequence[Tree]) -> list[tuple[object, list[Tree]]]:
    """Values of a key with their trials: numbers by size, others in the order of the plan."""
    groups: dict[str, tuple[object, list[Tree]]] = {}
    for trial in sorted(found, key=lambda trial: int(trial["index"])):
        value = trial["overrides"].get(key, _UNSET)
        groups.setdefault(plain(value), (value, []))[1].append(trial)
    values = list(groups.values())
    if all(is_number(value) or value == _UNSET for value, _ in values):
        values.sort(key=lambda item: -math.inf if item[0] == _UNSET else float(str(item[0])))
    return values


def _height(scale: Axis, value: float) -> float:
    return round(_TOP + _HEIGHT * (1 - scale.at(value) / 100), 1)
