"""What is left to chance, all of it drawn from the seed."""

from __future__ import annotations

import random
import signal
from typing import Literal, NamedTuple

MOST_KILLS = 3
"""Kills in one campaign."""
_SHARE_AIMED = 0.25
_MOST_SKEW = 3.0

Target = Literal["both ranks", "torchrun", "one rank"]


class Point(NamedTuple):
    """A moment and a signal."""

    share: float
    """Of the undisturbed run's duration; of the time it publishes, when `aimed`."""
    aimed: bool
    """Whether it counts from the moment that the artifact's files begin to appear."""
    signal: signal.Signals


class RankStop(NamedTuple):
    """How a training of two ranks is stopped."""

    share: float
    """Of the time that the undisturbed run trains."""
    target: Target
    signal: signal.Signals
    first: int
    """The rank that gets it first, or alone."""
    skew: float
    """Seconds until the other one gets it."""


def kill_points(seed: int, place: str, mode: str, campaign: int) -> list[Point]:
    """The points of one campaign."""
    draw = random.Random(f"{seed}/{place}/{mode}/{campaign}")
    return [
        Point(
            share=draw.random(),
            aimed=draw.random() < _SHARE_AIMED,
            signal=draw.choice((signal.SIGKILL, signal.SIGTERM)),
        )
        for _ in range(MOST_KILLS)
    ]


def rank_stops(seed: int, campaign: int) -> list[RankStop]:
    """The stops of one campaign; most go to both ranks."""
    draw = random.Random(f"{seed}/ranks/{campaign}")
    kinds: list[tuple[Target, signal.Signals]] = [
        ("both ranks", signal.SIGTERM),
        ("torchrun", signal.SIGTERM),
        ("torchrun", signal.SIGUSR1),
        ("one rank", signal.SIGKILL),
    ]
    found = []
    for _ in range(MOST_KILLS):
        target, number = draw.choices(kinds, weights=(16, 2, 1, 1))[0]
        share, first, skew = draw.random(), draw.randrange(2), draw.uniform(0, _MOST_SKEW)
        found.append(RankStop(share, target, number, first, skew))
    return found
