"""Where values lie on the page, in percent of a plot."""

from __future__ import annotations

import math
from collections.abc import Iterable

from codex_forge.compare.page.scales import axis, share

Place = dict[str, float]


class Axis:
    """A scale with room for what must lie on it."""

    def __init__(self, values: Iterable[float], maximum: float) -> None:
        """`maximum` is the largest value that the measure takes; 0 need not lie on the scale."""
        found = [value for value in values if math.isfinite(value)]
        low, high, ticks = axis(found, zero=False)
        self.low, self.high = low, min(high, maximum) if max(found, default=0) <= maximum else high
        self.ticks = [tick for tick in _thinned(ticks) if self.low <= tick <= self.high]

    def at(self, value: float) -> float:
        """In percent, from the low end."""
        return share(value, self.low, self.high)

    def holds(self, value: float) -> bool:
        """Is the value on the scale?"""
        return self.low <= value <= self.high


def _thinned(ticks: list[float]) -> list[float]:
    """At most five."""
    step = max(1, math.ceil(len(ticks) / 5))
    return ticks[::step]
