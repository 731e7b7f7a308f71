"""Does `compare` keep its word? Comparisons that are simulated with, and without, a true gain.

    python -m benchmarks.calibration
    python -m benchmarks.calibration --simulations 500 --resamples 1000

Without a true gain at most 5 % may be called improved; a true gain as large as the smallest
detectable difference that is printed should be found in 80 %. Questions are rubric-like: 0 to 5 in
steps of the share of their expected topics, with as many topics, and in groups of as many
questions, as those of the shipped sample. Scored pairs are drawn with more or less noise. Shares
are shown with their 95 % interval (Clopper & Pearson, Biometrika 1934).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from codex_forge.compare.significance import Resampler, verdict

Floats = NDArray[np.float64]

SAMPLE = Path(__file__).parent.parent / "examples" / "disease-ontology" / "questions.json"
SIZES = (30, 60, 120, 400)
"""Groups of questions."""
CONFIDENCE = 0.95
_AT_ONCE = 100
_SHARED = 0.6
"""Of the questions of a group, how many move with it."""
_CHANGED = 0.28
"""Share of topics that change sides; the sample's demo has 27 % of questions that change."""


class Shape(NamedTuple):
    """How a bank looks: topics of each question, questions of each group; to be drawn from."""

    topics: list[int]
    sizes: list[int]

    @classmethod
    def of_sample(cls) -> Shape:
        """Of the shipped sample."""
        questions = json.loads(SAMPLE.read_text(encoding="utf-8"))["questions"]
        groups = Counter(tuple(sorted(question["expected_topics"])) for question in questions)
        return cls([len(q["expected_topics"]) for q in questions], list(groups.values()))


class Bank:
    """A bank of questions, of which scores of two systems are drawn again and again."""

    def __init__(self, shape: Shape, groups: int, rng: np.random.Generator) -> None:
        """Draw how many questions each group has, and how many topics each question."""
        sizes = self._sizes(shape, groups, rng)
        self.group = np.repeat(np.arange(groups), sizes)
        self._topics = rng.choice(shape.topics, len(self.group))
        self._of = np.repeat(np.arange(len(self.group)), self._topics)
        self._rng = rng

    def _sizes(self, shape: Shape, groups: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """How many questions each group has."""
        found: NDArray[np.int64] = rng.choice(shape.sizes, groups)
        return found

    @property
    def names(self) -> list[str]:
        """The group of each question."""
        return [f"g{group:04d}" for group in self.group]

    def draw(self, gain: float) -> tuple[Floats, Floats]:
        """Scores of baseline and candidate, shape (questions,), whose means differ by `gain`.

        A topic is covered on both sides, on none, or on one; half a topic's luck is its group's.
        """
        luck = self._luck()
        won = (_CHANGED + gain / 5) / 2
        lost = _CHANGED - won
        kept = (1 - _CHANGED) / 2
        before = (luck < lost + kept).astype(float)
        after = ((luck >= lost) & (luck < lost + kept + won)).astype(float)
        return self._rubric(before), self._rubric(after)

    def _luck(self) -> Floats:
        """A number from 0 to 1 of each topic of each question, often that of its whole group."""
        own, shared = self._rng.random(len(self._of)), self._rng.random(len(self.group))
        with_group = self._rng.random(len(self._of)) < _SHARED
        return np.where(with_group, shared[self.group[self._of]], own)

    def _rubric(self, covered: Floats) -> Floats:
        found: Floats = 5 * np.bincount(self._of, covered, len(self.group)) / self._topics
        return found


class Share(NamedTuple):
    """How many of some simulations had an outcome."""

    had: int
    of: int

    def __str__(self) -> str:
        """In percent, with the interval."""
        low, high = self.interval
        return f"{self.had / self.of:6.1%} ({low:.1%} to {high:.1%})"

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share."""
        k, n = self.had, self.of
        low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
        high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
        return low, high


class Outcome(NamedTuple):
    """What came of the simulations of one bank size."""

    groups: int
    questions: int
    improved: Share
    """Without a gain."""
    worse: Share
    smallest: float
    """The mean of what was printed without a gain."""
    found: Share
    """`improved` with a gain of `smallest`."""


def simulate(shape: Shape, groups: int, simulations: int, resamples: int, seed: int) -> Outcome:
    """Simulate one size of bank.

    All simulations share the draws of groups, as all comparisons of one bank with one seed do.
    """
    rng = np.random.default_rng(seed + groups)
    bank = Bank(shape, groups, rng)
    resampler = Resampler(bank.names, resamples, CONFIDENCE, seed)
    without = list(_verdicts(bank, resampler, simulations, 0.0))
    smallest = float(np.mean([printed for _, printed in without]))
    gained = [word for word, _ in _verdicts(bank, resampler, simulations, smallest)]
    words = [word for word, _ in without]
    return Outcome(
        groups,
        len(bank.group),
        Share(words.count("improved"), simulations),
        Share(words.count("worse"), simulations),
        smallest,
        Share(gained.count("improved"), simulations),
    )


def _verdicts(
    bank: Bank, resampler: Resampler, simulations: int, gain: float
) -> Iterator[tuple[str, float]]:
    """The verdict and the smallest detectable difference that each comparison would print."""
    for start in range(0, simulations, _AT_ONCE):
        drawn = [bank.draw(gain) for _ in range(min(_AT_ONCE, simulations - start))]
        before, after = zip(*drawn, strict=True)
        for paired in resampler.compare_all(before, after):
            yield verdict(paired, CONFIDENCE), paired.smallest_detectable


def main() -> None:
    """Print a line for each size of bank."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--groups", type=int, nargs="*", default=SIZES)
    given = parser.parse_args()
    shape = Shape.of_sample()
    print("groups questions  improved without a gain    worse without a gain  smallest  found")
    for groups in given.groups:
        begun = time.perf_counter()
        o = simulate(shape, groups, given.simulations, given.resamples, given.seed)
        print(
            f"{groups:6d} {o.questions:9d}  {o.improved!s:>23}  {o.worse!s:>22}  "
            f"{o.smallest:8.2f}  {o.found}  {time.perf_counter() - begun:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
