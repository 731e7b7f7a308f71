"""Intervals and tests: right for groups, exact where that can be worked out, honest by trial."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.calibration import Shape, Share, simulate
from codex_forge.compare.holm import holm
from codex_forge.compare.intervals import Interval
from codex_forge.compare.power import POWER, power_curve
from codex_forge.compare.significance import Paired, Resampler, verdict

Floats = NDArray[np.float64]


def _alone(count: int) -> list[str]:
    """Every question is a group of its own."""
    return [f"g{i}" for i in range(count)]


def _compare(
    before: Floats, after: Floats, groups: list[str], resamples: int = 2000, seed: int = 7
) -> Paired:
    return Resampler(groups, resamples, 0.95, seed).compare(before.tolist(), after.tolist())


def test_intervals_of_many_questions_are_those_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(2.0, 1.0, 3000)
    after = before + rng.normal(0.1, 0.8, 3000)
    found = _compare(before, after, _alone(3000), resamples=10_000)
    for interval, values in (
        (found.baseline, before),
        (found.candidate, after),
        (found.difference, after - before),
    ):
        reach = 1.959964 * values.std() / math.sqrt(len(values))
        assert interval.mean == pytest.approx(values.mean())
        assert interval.low == pytest.approx(values.mean() - reach, abs=0.05 * reach)
        assert interval.high == pytest.approx(values.mean() + reach, abs=0.05 * reach)
    error = (after - before).std() / math.sqrt(3000)
    assert found.smallest_detectable == pytest.approx((1.959964 + 0.841621) * error, rel=0.03)


def test_the_interval_is_paired() -> None:
    """Large spread between questions does not hide a small gain that all of them share."""
    rng = np.random.default_rng(2)
    before = rng.normal(0.0, 10.0, 200)
    found = _compare(before, before + 0.1 + rng.normal(0, 0.01, 200), _alone(200))
    assert 0.09 < found.difference.low < found.difference.high < 0.11
    assert found.candidate.low < 0 < found.candidate.high


def test_repeating_questions_of_a_group_adds_no_certainty() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.normal(2, 1, 60), rng.normal(2.2, 1, 60)
    once = _compare(before, after, _alone(60))
    many = _compare(before.repeat(5), after.repeat(5), [g for g in _alone(60) for _ in range(5)])
    assert many.difference.low == pytest.approx(once.difference.low)
    assert many.difference.high == pytest.approx(once.difference.high)
    assert many.p_value == once.p_value
    assert many.smallest_detectable == pytest.approx(once.smallest_detectable)

    wrongly = _compare(before.repeat(5), after.repeat(5), _alone(300))
    width = once.difference.high - once.difference.low
    assert wrongly.difference.high - wrongly.difference.low == pytest.approx(
        width / math.sqrt(5), rel=0.1
    )
    assert wrongly.p_value < once.p_value


@pytest.mark.parametrize("seed", range(4))
def test_the_p_value_is_that_of_all_sign_flips(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [f"g{i % 9}" for i in range(20)]
    difference = rng.normal(0.4, 1.0, 20)
    sums = [
        sum(d for d, g in zip(difference, groups, strict=True) if g == f"g{i}") for i in range(9)
    ]
    every = [
        abs(sum(s * x for s, x in zip(signs, sums, strict=True)))
        for signs in itertools.product((1, -1), repeat=9)
    ]
    exact = sum(value >= abs(sum(sums)) - 1e-9 for value in every) / len(every)
    found = _compare(np.zeros(20), difference, groups, resamples=20_000).p_value
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000) + 1e-4)


def test_equal_runs_are_unchanged() -> None:
    values = np.random.default_rng(4).normal(2, 1, 50)
    found = _compare(values, values, _alone(50))
    assert found.difference == Interval(0.0, 0.0, 0.0)
    assert (found.win, found.tie, found.loss) == (0, 50, 0)
    assert found.p_value == 1.0
    assert found.smallest_detectable == 0.0
    assert verdict(found, 0.95) == "unchanged"
    assert found.baseline == found.candidate


def test_wins_ties_and_losses_add_up_and_rounding_is_a_tie() -> None:
    found = _compare(
        np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.5, 2.0 + 1e-12, 2.0, 4.0]), _alone(4)
    )
    assert (found.win, found.tie, found.loss) == (1, 2, 1)


def test_the_seed_decides_and_the_names_of_groups_do_not() -> None:
    rng = np.random.default_rng(5)
    before, after = rng.normal(2, 1, 80), rng.normal(2.3, 1, 80)
    first = _compare(before, after, _alone(80), seed=1)
    assert _compare(before, after, _alone(80), seed=1) == first
    other = _compare(before, after, _alone(80), seed=2)
    assert other.difference.mean == first.difference.mean
    assert other.difference.low != first.difference.low
    # More resamples than a block holds begin with the same ones.
    assert _compare(before, after, [f"x{i:03d}" for i in range(80)], seed=1).difference.mean == (
        pytest.approx(first.difference.mean)
    )


@pytest.mark.parametrize(
    ("low", "high", "p_value", "expected"),
    [
        (0.01, 0.2, 0.01, "improved"),
        (0.01, 0.2, 0.06, "unchanged"),
        (0.0, 0.2, 0.01, "unchanged"),
        (-0.1, 0.2, 0.01, "unchanged"),
        (-0.1, 0.0, 0.01, "unchanged"),
        (-0.2, -0.01, 0.01, "worse"),
        (-0.2, -0.01, 0.25, "unchanged"),
    ],
)
def test_the_verdict_asks_interval_and_test(
    low: float, high: float, p_value: float, expected: str
) -> None:
    equal = _compare(np.zeros(3), np.zeros(3), _alone(3))
    interval = Interval((low + high) / 2, low, high)
    assert verdict(replace(equal, difference=interval, p_value=p_value), 0.95) == expected


@pytest.mark.parametrize("groups", [1, 3, 5, 10, 20])
def test_a_handful_of_groups_does_not_decide(groups: int) -> None:
    rng = np.random.default_rng(groups)
    names = _alone(groups)
    found = [
        verdict(_compare(np.zeros(groups), rng.normal(0, 1, groups), names, 400), 0.95)
        for _ in range(400)
    ]
    wrong = len(found) - found.count("unchanged")
    assert wrong <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)


TRIALS = 600
GROUPS = [f"g{i:02d}" for i in range(60) for _ in range(1 + i % 4)]
"""60 groups of one to four questions that share most of their luck."""


def _differences(rng: np.random.Generator) -> Floats:
    shared = dict(zip(dict.fromkeys(GROUPS), rng.normal(0, 1, 60), strict=True))
    return np.array([shared[group] for group in GROUPS]) + rng.normal(0, 0.3, len(GROUPS))


def test_without_a_gain_few_comparisons_find_one() -> None:
    rng = np.random.default_rng(11)
    found = [_compare(np.zeros(len(GROUPS)), _differences(rng), GROUPS, 400) for _ in range(TRIALS)]
    verdicts = [verdict(paired, 0.95) for paired in found]
    # 2.5 % on either side is what a 95 % interval promises; a bootstrap of 60 groups is near it.
    most = TRIALS * 0.05 + 3 * math.sqrt(TRIALS * 0.05 * 0.95)
    assert verdicts.count("improved") + verdicts.count("worse") <= most
    assert verdicts.count("improved") >= 2, "the test could find nothing at all"
    significant = sum(paired.p_value <= 0.05 for paired in found)
    assert significant <= most


def test_ignoring_the_groups_would_find_gains_that_are_not_there() -> None:
    rng = np.random.default_rng(12)
    alone = _alone(len(GROUPS))
    found = [_compare(np.zeros(len(GROUPS)), _differences(rng), alone, 400) for _ in range(200)]
    wrong = sum(verdict(paired, 0.95) != "unchanged" for paired in found)
    assert wrong > 200 * 0.10


def test_the_smallest_detectable_gain_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(13)
    printed = [
        _compare(np.zeros(len(GROUPS)), _differences(rng), GROUPS, 400).smallest_detectable
        for _ in range(100)
    ]
    gain = float(np.mean(printed))
    found = sum(
        verdict(_compare(np.zeros(len(GROUPS)), _differences(rng) + gain, GROUPS, 400), 0.95)
        == "improved"
        for _ in range(TRIALS)
    )
    reach = NormalDist().inv_cdf(0.999) * math.sqrt(0.8 * 0.2 / TRIALS)
    assert 0.8 - reach - 0.02 <= found / TRIALS <= 0.8 + reach + 0.02


# Questions as the sample has them: discrete scores, groups of several questions.


@pytest.mark.parametrize("groups", [30, 120])
def test_simulated_comparisons_are_called_rightly(groups: int) -> None:
    found = simulate(Shape.of_sample(), groups, 300, 500, seed=3)
    assert found.improved.interval[0] <= 0.05
    assert found.improved.had + found.worse.had >= 2, "the test could find nothing at all"
    assert found.improved.had + found.worse.had <= 300 * 0.05 + 3 * math.sqrt(300 * 0.0475)
    assert found.found.interval[1] >= 0.8


def test_the_interval_of_a_share_is_that_of_clopper_and_pearson() -> None:
    # The textbook's example: 5 of 20.
    assert Share(5, 20).interval == pytest.approx((0.0866, 0.4910), abs=1e-4)
    assert Share(0, 10).interval == pytest.approx((0.0, 1 - 0.025**0.1))
    assert Share(10, 10).interval == pytest.approx((0.025**0.1, 1.0))


# Several tests at once, and power.


def test_holm_worked_out_by_hand() -> None:
    # 4 x 0.01; 3 x 0.02 = 0.06; 2 x 0.025 is less, so 0.06 again; 1 x 0.5.
    found = holm({"a": 0.02, "b": 0.5, "c": 0.01, "d": 0.025})
    assert found == pytest.approx({"a": 0.06, "b": 0.5, "c": 0.04, "d": 0.06})
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({"only": 0.04}) == {"only": 0.04}
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_many_true_nulls_give_few_false_alarms_together() -> None:
    rng = np.random.default_rng(21)
    drawn = rng.random((4000, 8))
    alarms = sum(min(holm(dict(enumerate(row))).values()) <= 0.05 for row in drawn.tolist())
    assert alarms <= 4000 * 0.05 + 3 * math.sqrt(4000 * 0.0475)
    assert (drawn.min(axis=1) <= 0.05).mean() > 0.3


def test_the_power_curve_goes_through_the_smallest_detectable_difference() -> None:
    curve = power_curve(0.4, 50, 0.95)
    assert [point["difference"] for point in curve] == sorted(p["difference"] for p in curve)
    assert [point["power"] for point in curve] == sorted(p["power"] for p in curve)
    at = {point["difference"]: point["power"] for point in curve}
    assert at[0.4] == pytest.approx(POWER)
    assert len(curve) >= 8
    assert power_curve(0.0, 50, 0.95) == []


def test_all_measures_at_once_are_what_each_is_alone() -> None:
    rng = np.random.default_rng(22)
    before, after = rng.normal(2, 1, (3, 40)), rng.normal(2.4, 1, (3, 40))
    resampler = Resampler([f"g{i % 15}" for i in range(40)], 700, 0.95, 5)
    together = resampler.compare_all(before, after)
    for one, own, other in zip(together, before, after, strict=True):
        alone = resampler.compare(own.tolist(), other.tolist())
        assert one.p_value == alone.p_value
        assert one.difference.low == pytest.approx(alone.difference.low)
        assert one.candidate.high == pytest.approx(alone.candidate.high)
        assert (one.win, one.tie, one.loss) == (alone.win, alone.tie, alone.loss)
