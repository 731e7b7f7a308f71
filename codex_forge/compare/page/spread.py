"""How scores are spread before and after, and what differences the bank can find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from codex_forge.compare.page.scales import axis, share

_BARS_HEIGHT = 160
_CURVE_TOP, _CURVE_HEIGHT = 10, 150
_LEVELS = (0.0, 0.5, 0.8, 1.0)


def histogram(distribution: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How many questions fall into each band of the scale, before and after."""
    if not distribution:
        return None
    edges = list(distribution["edges"])
    most = max([1, *distribution["baseline"], *distribution["candidate"]])
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
                        "count": distribution[side][i],
                        "x": round((i + at) * width, 3),
                        "middle": round((i + at + 0.19) * width, 3),
                        "width": round(0.38 * width, 3),
                        "height": round(_BARS_HEIGHT * distribution[side][i] / most, 2),
                    }
                    for side, at in (("baseline", 0.11), ("candidate", 0.51))
                ],
            }
        )
    return {"bands": bands}


def power_curve(
    points: Sequence[Mapping[str, float]] | None, smallest: float | None
) -> dict[str, Any] | None:
    """The chance of finding a true difference, by its size: points and lines between them."""
    if not points:
        return None
    low, high, ticks = axis(point["difference"] for point in points)
    low = max(low, 0.0) if all(point["difference"] >= 0 for point in points) else low
    placed = [
        {**point, "x": share(point["difference"], low, high), "y": _height(point["power"])}
        for point in points
    ]
    return {
        "points": placed,
        "lines": list(pairwise(placed)),
        "ticks": [
            {"x": share(tick, low, high), "label": f"{tick:g}"}
            for tick in ticks
            if low <= tick <= high
        ],
        "levels": [{"y": _height(level), "label": f"{level:.0%}"} for level in _LEVELS],
        "smallest": None if smallest is None else share(smallest, low, high),
    }


def _height(power: float) -> float:
    return round(_CURVE_TOP + _CURVE_HEIGHT * (1 - power), 1)
