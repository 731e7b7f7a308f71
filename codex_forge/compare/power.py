"""How large a true difference must be for a bank of this size and spread to show it."""

from __future__ import annotations

from statistics import NormalDist

from codex_forge.compare.intervals import reach

POWER = 0.8
"""The chance with which the smallest detectable difference is found."""
_BOTH = 0.05
"""Standard errors that it costs to ask the interval and the test alike: without them simulated
gains are found in 79.5 % (benchmarks/calibration.py)."""
_SHARES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
"""Points of the curve, as shares of the smallest detectable difference."""
_PLACES = 6


def smallest_detectable(standard_error: float, groups: int, confidence: float) -> float:
    """The true difference that is called a difference with a chance of `POWER`."""
    return _needed(groups, confidence, POWER) * standard_error


def power_curve(smallest: float, groups: int, confidence: float) -> list[dict[str, float]]:
    """The chance to find true differences around the smallest detectable one.

    Empty when that is not known.
    """
    if not smallest:
        return []
    standard_error = smallest / _needed(groups, confidence, POWER)
    even = _needed(groups, confidence, 0.5)
    return [
        {
            "difference": round(share * smallest, _PLACES),
            "power": round(NormalDist().cdf(share * smallest / standard_error - even), _PLACES),
        }
        for share in _SHARES
    ]


def _needed(groups: int, confidence: float, power: float) -> float:
    """How large a true difference must be to be found with this chance, in standard errors."""
    return reach(groups, confidence) + _BOTH + NormalDist().inv_cdf(power)
