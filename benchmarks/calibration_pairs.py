"""The same for scored pairs: are differences of rank correlations called rightly?

    python -m benchmarks.calibration_pairs

Two models' cosines are the true score and noise; the second model's are squeezed into a third of
the range, as models differ in where their cosines lie. Pairs share their luck with their group.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.calibration import CONFIDENCE, Share
from codex_forge.compare.intervals import Interval, ends
from codex_forge.compare.pair_measures import Model, Sample
from codex_forge.compare.pair_resampling import exchange_test, resampled
from codex_forge.compare.power import smallest_detectable
from codex_forge.compare.significance import judged

Floats = NDArray[np.float64]

_NOISE = 0.35
"""Of both models without a gain: a rank correlation of about 0.6."""
_SHARED = 0.5


class Judged(NamedTuple):
    """What one comparison would print."""

    verdict: str
    smallest: float


class World:
    """Scored pairs, and two models whose true rank correlations are known."""

    def __init__(self, pairs: int, resamples: int, seed: int) -> None:
        """`pairs` are drawn in groups of one to three."""
        self._rng = np.random.default_rng(seed)
        self._group = np.repeat(np.arange(pairs), self._rng.integers(1, 4, pairs))[:pairs]
        self._resamples, self._seed = resamples, seed
        self._noises = np.linspace(0.02, _NOISE, 40)
        large = self._rng.random(200_000)
        other = self._rng.normal(0, 1, len(large))
        self._true = [float(spearmanr(large, large + n * other)[0]) for n in self._noises]

    def compare(self, gain: float) -> Judged:
        """Draw scores and cosines, and judge them as `compare` does."""
        scores = self._rng.random(len(self._group))
        sample = Sample(self._group, scores, scores >= 0.5)
        better = float(np.interp(self._true[-1] + gain, self._true[::-1], self._noises[::-1]))
        one, other = self._cosines(scores, _NOISE), 0.6 + self._cosines(scores, better) / 3
        models = [Model(sample, cosines, None) for cosines in (one, other)]
        drawn = resampled(models, ("spearman",), sample, self._resamples, self._seed)
        change = drawn[1] - drawn[0]
        told = float(spearmanr(other, scores)[0] - spearmanr(one, scores)[0])
        low, high = ends(change, sample.groups, CONFIDENCE)
        difference = Interval(told, float(low[0]), float(high[0]))
        p_value = exchange_test(one, other, sample, "spearman", self._resamples, self._seed + 1)
        smallest = smallest_detectable(float(change.std()), sample.groups, CONFIDENCE)
        return Judged(judged(difference, p_value, CONFIDENCE), smallest)

    def _cosines(self, scores: Floats, noise: float) -> Floats:
        own = self._rng.normal(0, 1, len(scores))
        shared = self._rng.normal(0, 1, len(scores))[self._group]
        luck = np.sqrt(_SHARED) * shared + np.sqrt(1 - _SHARED) * own
        found: Floats = scores + noise * luck
        return found


def main() -> None:
    """Print a line for each number of pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--pairs", type=int, nargs="*", default=(100, 300))
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    print(" pairs  improved without a gain    worse without a gain  smallest  found")
    for pairs in given.pairs:
        begun = time.perf_counter()
        world = World(pairs, given.resamples, given.seed)
        without = [world.compare(0.0) for _ in range(given.simulations)]
        smallest = float(np.mean([each.smallest for each in without]))
        words = [each.verdict for each in without]
        gained = [world.compare(smallest).verdict for _ in range(given.simulations)]
        shares = [
            Share(words.count("improved"), len(words)),
            Share(words.count("worse"), len(words)),
            Share(gained.count("improved"), len(gained)),
        ]
        print(
            f"{pairs:6d}  {shares[0]!s:>23}  {shares[1]!s:>22}  {smallest:8.3f}  {shares[2]}  "
            f"{time.perf_counter() - begun:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
