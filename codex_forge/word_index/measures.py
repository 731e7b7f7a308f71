"""What a word in a text is worth: BM25's and TF-IDF's part that depends on the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Positions = NDArray[np.int32]
Counts = NDArray[Any]
"""Of a word in texts: unsigned, as narrow as the largest allows."""


class Measure(NamedTuple):
    """How much a word that a text holds `count` times says of it: an impact."""

    of_text: Doubles
    """What the impact depends on beside the count: a length or a norm."""
    peaks: Floats
    """The largest impact of each word."""
    impact: Callable[[Counts, Doubles], Doubles]
    rough: Callable[[Counts, Doubles], Floats]
    """The impact in single precision."""


def saturated(counts: Counts, damping: Doubles) -> Doubles:
    """The part of BM25 that depends on the text; less than 1."""
    times = counts.astype(np.float64)
    found: Doubles = times / (times + damping)
    return found


def roughly_saturated(counts: Counts, damping: Doubles) -> Floats:
    """The same in single precision."""
    times = counts.astype(np.float32)
    times /= times + damping.astype(np.float32)
    return times


def logarithmic(counts: Counts, norms: Doubles) -> Doubles:
    """The part of the cosine that depends on the text: ltc without the word's rarity."""
    found: Doubles = (1 + np.log(counts, dtype=np.float64)) / norms
    return found


def roughly_logarithmic(counts: Counts, norms: Doubles) -> Floats:
    """The same in single precision."""
    times = np.log(counts, dtype=np.float32)
    times += 1
    times /= norms.astype(np.float32)
    return times
