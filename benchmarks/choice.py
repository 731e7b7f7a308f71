"""Does `sweep` choose honestly? Sweeps that are simulated with, and without, true differences.

    python -m benchmarks.choice
    python -m benchmarks.choice --simulations 200 --resamples 500 --trials 8 27
    python -m benchmarks.choice --sizes uneven --kinds none one

The truly best trial should be among those called alike in at least 95 %, and the estimated optimism
should be near the true one: the winner's dev score less its true score. Beside it stands what one
would do instead: leave out every trial whose own paired interval leaves out 0, not corrected for
their number; and estimate the optimism by the plain bootstrap, which measures the best of a
resample on all questions.

Questions are like those of the shipped sample (benchmarks/calibration.py). A topic is covered when
a trial's luck with it is good enough; trials share most of their luck, so that any two of them
differ on 15 % of the topics. `spread` draws true scores at random, `one` makes one trial better
than all others by twice the standard error of a difference, `none` makes all equal. Groups are as
large as the sample's, or `uneven`: as many questions as there are groups in the first, half as many
in the second, a third in the third. `together` is the worst case of these: the questions of a group
nearly move as one. `covered` is how often the interval of a trial's score holds its true score.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from benchmarks.calibration import CONFIDENCE, Bank, Floats, Shape, Share
from codex_forge.sweep.choice import choose
from codex_forge.sweep.effective import Effective
from codex_forge.sweep.resampling import Means, resampled

TRIALS = (8, 27, 128)
SIZES = (10, 30, 120)
"""Groups of questions."""
KINDS = ("none", "one", "spread")
_CHANGED = 0.15
_OWN = 0.3
"""Luck of a question beside that of its group, where groups move as one."""
_ALIKE = float(np.cos(np.pi * _CHANGED))
"""Correlation of two trials' luck that gives so many changed topics (Sheppard, 1899)."""


class Sweeps(Bank):
    """A bank of questions, of which scores of many trials are drawn again and again."""

    def draw_all(self, truth: Floats) -> Floats:
        """Scores of trials with these true means, shape (trials, questions)."""
        own = np.stack([ndtri(self._luck()) for _ in truth])
        luck = np.sqrt(_ALIKE) * ndtri(self._luck()) + np.sqrt(1 - _ALIKE) * own
        covered = (luck < ndtri(truth / 5)[:, None]).astype(float)
        return np.stack([self._rubric(row) for row in covered])

    def truth(self, kind: str, trials: int) -> Floats:
        """True means around 2.5."""
        even = np.full(trials, 2.5)
        if kind == "none":
            return even
        error = self._error
        if kind == "spread":
            return even + error * self._rng.normal(size=trials)
        even[self._rng.integers(trials)] += 2 * error
        return even

    @cached_property
    def _error(self) -> float:
        """Standard error of the difference of two trials, by drawing."""
        drawn = [self.draw_all(np.full(2, 2.5)).mean(axis=1) for _ in range(200)]
        return float(np.diff(drawn, axis=1).std())


class Uneven(Sweeps):
    """The same where few groups hold most of the questions."""

    def _sizes(self, shape: Shape, groups: int, rng: np.random.Generator) -> NDArray[np.int64]:
        del shape, rng
        found: NDArray[np.int64] = np.round(groups / np.arange(1, groups + 1)).astype(np.int64)
        return found


class Together(Uneven):
    """The worst case: the questions of such a group nearly move as one, by normal luck."""

    def draw_all(self, truth: Floats) -> Floats:
        """Scores of trials with these true means, shape (trials, questions)."""
        groups = self._rng.normal(size=(len(truth), int(self.group.max()) + 1))
        own = _OWN * self._rng.normal(size=(len(truth), len(self.group)))
        found: Floats = truth[:, None] + groups[:, self.group] + own
        return found


BANKS = {"sample": Sweeps, "uneven": Uneven, "together": Together}


class Told(NamedTuple):
    """What came of one simulated sweep."""

    kept: bool
    """The truly best trial is among those alike."""
    kept_plain: bool
    alike: float
    """Share of the trials."""
    chosen: bool
    """The winner is the truly best one."""
    optimism: float
    """True; less the luck that all trials share, which is 0 on average and hides the rest."""
    estimated: float
    plain: float
    """Estimated by the plain bootstrap."""
    covered: bool
    """The first trial's true score lies in the interval of its score."""


def simulate(
    kind: str, trials: int, bank: Sweeps, simulations: int, resamples: int, seed: int
) -> Iterator[Told]:
    """Simulated sweeps of one kind, on one bank."""
    for _ in range(simulations):
        truth = bank.truth(kind, trials)
        yield _told(bank.draw_all(truth), truth, bank, resamples, seed)


def bank_of(sizes: str, kind: str, trials: int, groups: int, seed: int) -> Sweeps:
    """The questions of all simulations of one line."""
    rng = np.random.default_rng([seed, KINDS.index(kind), trials, groups])
    return BANKS[sizes](Shape.of_sample(), groups, rng)


def _told(scores: Floats, truth: Floats, bank: Sweeps, resamples: int, seed: int) -> Told:
    names = [f"t{i}" for i in range(len(truth))]
    choice = choose(
        dict(zip(names, scores, strict=True)),
        seed=seed,
        resamples=resamples,
        confidence=CONFIDENCE,
        groups=bank.names,
    )
    winner, best = names.index(choice.winner), names[int(np.argmax(truth))]
    luck = scores.mean(axis=1) - truth
    first = choice.standings[names[0]].score
    plain = resampled(Means.of(scores, bank.group), resamples, seed)
    return Told(
        best in choice.alike,
        _kept_plain(plain.scores, winner, int(np.argmax(truth)), choice.worth),
        len(choice.alike) / len(names),
        choice.winner == best,
        float(luck[winner] - luck.mean()),
        choice.optimism,
        float((plain.scores.max(axis=0) - plain.full[plain.scores.argmax(axis=0)]).mean()),
        first.low <= truth[0] <= first.high,
    )


def _kept_plain(means: Floats, winner: int, best: int, worth: Effective) -> bool:
    """By the paired interval of the two alone."""
    low, _ = worth.ends(means[[winner]] - means[[best]], CONFIDENCE)
    return bool(low[0] <= 0)


def main() -> None:
    """Print a line for each kind, number of trials, and size of bank."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--trials", type=int, nargs="*", default=TRIALS)
    parser.add_argument("--groups", type=int, nargs="*", default=SIZES)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--sizes", choices=BANKS, default="sample")
    given = parser.parse_args()
    print("kind   trials groups  worth  best among alike   not corrected   alike  chosen")
    print("       optimism: true   estimated  plain bootstrap  covered")
    for kind in given.kinds:
        for trials in given.trials:
            for groups in given.groups:
                _line(kind, trials, groups, given)


def _line(kind: str, trials: int, groups: int, given: argparse.Namespace) -> None:
    begun = time.perf_counter()
    bank = bank_of(given.sizes, kind, trials, groups, given.seed)
    worth = Effective.of(np.bincount(bank.group).astype(float)).groups
    told = list(simulate(kind, trials, bank, given.simulations, given.resamples, given.seed))
    columns = zip(*told, strict=True)
    mean = dict(zip(Told._fields, (float(np.mean(column)) for column in columns), strict=True))
    kept = Share(sum(each.kept for each in told), len(told))
    plain = Share(sum(each.kept_plain for each in told), len(told))
    covered = Share(sum(each.covered for each in told), len(told))
    error = float(np.std([each.optimism for each in told])) / len(told) ** 0.5
    print(
        f"{kind:6s} {trials:6d} {groups:6d} {worth:6.1f}  {kept!s:>24}  {plain!s:>24}  "
        f"{mean['alike']:5.0%}  {mean['chosen']:6.0%}\n       optimism: {mean['optimism']:.3f} "
        f"(± {1.96 * error:.3f})  {mean['estimated']:.3f}  {mean['plain']:.3f}  {covered!s}  "
        f"{time.perf_counter() - begun:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
