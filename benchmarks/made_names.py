"""Names of made-up entities, no two alike, and how popular each is among mentions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_EXPONENT = 0.8
"""Of Zipf's law: how much more popular the first entities are."""
_LONGER_FROM = 20_000
"""So many names are short before others must be longer."""
_STARTS = (
    "B", "C", "D", "F", "G", "H", "J", "K", "L", "M", "N", "P", "R", "S", "T", "V", "W", "Y",
    "Br", "Cr", "Dr", "Fl", "Gr", "Kl", "Pr", "St", "Sk", "Th", "Tr", "Vr"
)  # fmt: skip
_MIDDLES = (
    "a", "e", "i", "o", "u", "ae", "ia", "ar", "en", "il", "or", "un", "ast", "eld", "ind", "orr",
    "ull"
)  # fmt: skip
_ENDS = (
    "n", "r", "s", "th", "l", "m", "nd", "rk", "sk", "ven", "dor", "mir", "tan", "rel", "wick",
    "moor"
)  # fmt: skip
_TITLES = ("the Order of", "the Keeper of", "Old", "the House of", "the Lady of", "Captain")


def entities(rng: np.random.Generator, count: int) -> list[tuple[str, ...]]:
    """`count` entities, each with a name and aliases that no other bears."""
    taken: set[str] = set()
    return [_names(rng, taken) for _ in range(count)]


def _names(rng: np.random.Generator, taken: set[str]) -> tuple[str, ...]:
    first, last = _new(rng, taken), _new(rng, taken)
    title = _TITLES[rng.integers(len(_TITLES))]
    return (f"{first} {last}", f"{title} {_new(rng, taken)}", last, f"{_new(rng, taken)} {last}")


def _new(rng: np.random.Generator, taken: set[str]) -> str:
    while True:
        parts = [pick(rng, _STARTS), pick(rng, _MIDDLES), pick(rng, _ENDS)]
        while len(taken) > _LONGER_FROM or rng.random() < 0.5:
            parts += [pick(rng, _MIDDLES), pick(rng, _ENDS)]
            if rng.random() < 0.7:
                break
        name = "".join(parts)
        if name not in taken:
            taken.add(name)
            return name


def pick(rng: np.random.Generator, parts: Sequence[str]) -> str:
    """One of some parts, drawn."""
    return parts[int(rng.integers(len(parts)))]


def popularity(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Cumulated shares of the entities among all mentions, by Zipf's law, in a random order."""
    shares = 1.0 / np.arange(1, count + 1) ** _EXPONENT
    shares = shares[rng.permutation(count)]
    cumulated: NDArray[np.float64] = np.cumsum(shares / shares.sum())
    return cumulated
