"""Named levels: of the rubric, and of other measures; judged at the lower ends of intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codex_forge.config.sections import NO_TIER, MeasureTier, Tier

BELOW_ALL_TIERS, TOO_FEW, NOT_JUDGED = NO_TIER
"""Below the first tier; with too few groups to judge; and of a run that asks no questions."""
LEAST_GROUPS = 10
"""Below this many groups of questions, or of pairs, no tier is given."""


def tier_of(score: float, tiers: Sequence[Tier]) -> str:
    """The highest tier that a rubric score reaches."""
    reached = [tier.name for tier in tiers if score >= tier.at_least]
    return reached[-1] if reached else BELOW_ALL_TIERS


def measure_tier(lows: Mapping[str, float], tiers: Sequence[MeasureTier]) -> dict[str, Any] | None:
    """The levels whose measures were taken, and the highest that is reached with all below it.

    Args:
        lows: the lower end of the candidate's interval by measure, where there are enough groups.
        tiers: levels in rising order.

    Returns:
        None when no level's measures were taken.
    """
    levels = [
        {
            "name": tier.name,
            "at_least": dict(tier.at_least),
            "reached": all(lows[name] >= least for name, least in tier.at_least.items()),
            "values": {name: lows[name] for name in tier.at_least},
        }
        for tier in tiers
        if tier.at_least.keys() <= lows.keys()
    ]
    if not levels:
        return None
    name = None
    for level in levels:
        if not level["reached"]:
            break
        name = level["name"]
    return {"name": name, "levels": levels}
