"""Choosing by scored pairs: each measure by itself, models that have none, how much is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact
from codex_forge.compare.pair_measures import MEASURES, Model, Sample
from codex_forge.errors import ConfigError
from codex_forge.jsonl import write_json, write_jsonl
from codex_forge.storage import Store
from codex_forge.sweep.pair_scores import PairScores, resamples_of
from codex_forge.sweep.scores import Drawing

Floats = NDArray[np.float64]
COUNT = 60
SCORES = np.random.default_rng(0).integers(0, 6, COUNT) / 5
GROUPS = np.arange(COUNT) // 2
IDS = [f"p{i}" for i in range(COUNT)]


def noisy(noise: float, seed: int = 1) -> Floats:
    found: Floats = SCORES + noise * np.random.default_rng(seed).normal(size=COUNT)
    return found


class World:
    """Evaluations of scored pairs in a store, and choices among them."""

    def __init__(self, folder: Path) -> None:
        self.store, self.scratch = Store(str(folder / "store")), folder / "scratch"
        self.scratch.mkdir()

    def evaluation(self, name: str, cosines: Floats) -> Artifact:
        draft = begin(self.store, Recipe("evaluate", name, {}, {}), self.scratch, force=True)
        assert isinstance(draft, Draft)
        rows = [
            {
                "pair_id": IDS[i],
                "part": "dev",
                "cosine": float(cosine),
                "score": float(SCORES[i]),
                "label": None,
                "group": f"g{GROUPS[i]:02d}",
            }
            for i, cosine in enumerate(cosines)
        ]
        write_jsonl(draft.path("per_pair.jsonl"), rows)
        write_json(draft.path("report.json"), {"pairs": {"threshold": 0.5}})
        draft.commit({"pairs": COUNT})
        return open_artifact(self.store, "evaluate", name, self.scratch)

    def scores(self, metric: str, models: Mapping[str, Floats], resamples: int = 300) -> PairScores:
        found = PairScores(metric, "dev", IDS, Drawing(7, resamples, 0.95))
        for name, cosines in models.items():
            assert found.add(name, self.evaluation(name, cosines)) == ""
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("metric", MEASURES)
def test_every_measure_can_choose_by_itself(world: World, metric: str) -> None:
    models = {"bad": noisy(0.9), "good": noisy(0.05)}
    found = world.scores(metric, models)
    choice = found.choose(["bad", "good"])
    assert choice.winner == "good"
    assert choice.alike == ["good"]
    sample = Sample(GROUPS, SCORES, SCORES >= 0.5)
    whole = sample.measures((0.5,))
    for name, cosines in models.items():
        told = dict(zip(whole, Model(sample, cosines, 0.5)(whole, np.ones(COUNT)), strict=True))
        assert choice.standings[name].score.mean == pytest.approx(told[metric])
        assert found.of(name).mean == pytest.approx(told[metric])
    apart = found.difference("good", "bad")
    assert 0 < apart.low < apart.mean < apart.high


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_a_collapsed_model_has_no_rank_and_the_others_have(world: World, metric: str) -> None:
    found = world.scores(metric, {"good": noisy(0.1), "fair": noisy(0.4)})
    why = found.add("collapsed", world.evaluation("collapsed", np.full(COUNT, 0.5)))
    assert why == f"{metric} cannot be measured, since all cosines are equal: not ranked"
    assert found.choose(["good", "fair"]).winner == "good"


def test_what_it_owes_to_the_choice_is_found_on_pairs_that_were_not_drawn(world: World) -> None:
    """Equally good models: the plain bootstrap would find about two thirds of it."""
    models = {f"t{i}": noisy(0.5, seed=i) for i in range(6)}
    found = world.scores("spearman", models, resamples=400)
    choice = found.choose(list(models))
    means = [standing.score.mean for standing in choice.standings.values()]
    assert choice.optimism == pytest.approx(max(means) - np.mean(means), rel=0.6)
    assert choice.optimism > 0
    assert f"trials on {COUNT} scored pairs" in choice.said


def test_another_trial_changes_no_number_of_resamples(world: World) -> None:
    models = {f"t{i}": noisy(0.2, seed=i) for i in range(8)}
    found = world.scores("pearson", models)
    one, all_of_them = found.choose(["t0"]), found.choose(list(models))
    assert (one.resamples, all_of_them.resamples) == (300, 300)
    assert one.tree()["resamples"] == 300
    assert all_of_them.standings["t0"].score == one.score


@pytest.mark.parametrize(
    ("pairs", "wanted", "drawn"),
    [(60, 10_000, 10_000), (4_000, 10_000, 5_000), (10**6, 10_000, 1_000), (10**6, 200, 200)],
)
def test_many_pairs_get_fewer_resamples(pairs: int, wanted: int, drawn: int) -> None:
    assert resamples_of(pairs, wanted) == drawn


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no measure 'ndcg' of pairs"):
        PairScores("ndcg", "dev", IDS, Drawing(7, 100, 0.95))
