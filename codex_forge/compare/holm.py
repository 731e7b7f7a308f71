"""p-values of several tests at once, corrected for their number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Name = TypeVar("Name")


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Adjusted p-values (Holm, Scandinavian Journal of Statistics, 1979), in the order given.

    Those at most 0.05 are significant together: the chance that any of them is a false alarm is at
    most 5 %, however the tests hang together.
    """
    found: dict[Name, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        found[name] = largest
    return {name: found[name] for name in p_values}
