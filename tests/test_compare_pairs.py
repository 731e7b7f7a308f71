"""Comparing models on scored pairs: measures under resampling, intervals, the test, the report."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from codex_forge.artifact import Draft, Input, Recipe, begin, open_artifact
from codex_forge.compare.pair_measures import Model, Sample
from codex_forge.compare.pair_resampling import exchange_test, resampled, resamples_of
from codex_forge.config.sections import EvaluateConfig
from codex_forge.errors import EXIT_CHANGE_SOMETHING, EXIT_DONE, EXIT_GATE_NOT_MET
from codex_forge.jsonl import read_json, write_json, write_jsonl
from codex_forge.storage import Store
from tests.conftest import Corpus, Knock

Tree = dict[str, Any]
Floats = NDArray[np.float64]


def sample(count: int, seed: int, of_group: int = 1) -> Sample:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(count), 1)  # with ties
    return Sample(np.arange(count) // of_group, scores, scores >= 0.5)


def cosines(of: Sample, seed: int, noise: float, scale: float = 1.0) -> Floats:
    rng = np.random.default_rng(seed)
    return np.round(scale * (np.nan_to_num(of.scores) + rng.normal(0, noise, len(of.scores))), 2)


def test_weighted_measures_are_those_of_repeated_pairs() -> None:
    """Drawing a pair three times is having it three times, says scipy and scikit-learn."""
    rng = np.random.default_rng(1)
    for seed in range(10):
        of = sample(50, seed)
        of.scores[rng.random(50) < 0.2] = np.nan
        own = cosines(of, seed + 100, 0.4)
        names = of.measures((0.5,))
        assert names == ("spearman", "pearson", "roc_auc", "average_precision", "f1")
        for weights in (np.ones(50), rng.integers(0, 4, 50).astype(float)):
            rows = np.repeat(np.arange(50), weights.astype(int))
            said = rows[np.isfinite(of.scores[rows])]
            expected = [
                spearmanr(own[said], of.scores[said])[0],
                pearsonr(own[said], of.scores[said])[0],
                roc_auc_score(of.alike[rows], own[rows]),
                average_precision_score(of.alike[rows], own[rows]),
                f1_score(of.alike[rows], own[rows] >= 0.5),
            ]
            model = Model(of, own, 0.5)
            assert model(names, weights) == pytest.approx(expected)
            for name, value in zip(names, expected, strict=True):
                assert model((name,), weights) == pytest.approx([value])


def test_undefined_measures_are_not_numbers() -> None:
    of = Sample(np.arange(4), np.array([0.1, 0.9, 0.3, 0.7]), np.array([False, True, False, True]))
    names = of.measures((0.5,))
    constant = Model(of, np.full(4, 0.5), 0.6)(names, np.ones(4))
    assert math.isnan(constant[0])
    assert math.isnan(constant[1])
    assert constant[2:] == pytest.approx([0.5, 0.5, 0.0])
    one_sort = Model(of, np.array([0.1, 0.9, 0.4, 0.7]), 2.0)(names, np.array([1.0, 0, 1, 0]))
    assert np.isnan(one_sort[2:]).all()
    labels = of._replace(scores=np.full(4, np.nan))
    assert labels.measures((None,)) == ("roc_auc", "average_precision")
    assert (of.main, labels.main) == ("spearman", "roc_auc")


def test_resampled_intervals_are_those_of_fisher() -> None:
    """Of two normal variables the correlation's spread is known: (1 - r^2) / sqrt(n)."""
    rng = np.random.default_rng(2)
    scores = rng.normal(0, 1, 800)
    of = Sample(np.arange(800), scores, scores > 0)
    own = 0.6 * scores + 0.8 * rng.normal(0, 1, 800)
    drawn = resampled([Model(of, own, 0.0)], ("spearman", "pearson"), of, 600, 7)
    told = pearsonr(own, scores)[0]
    assert drawn[0, 1].std() == pytest.approx((1 - told**2) / math.sqrt(800), rel=0.15)
    assert drawn[0, 1].mean() == pytest.approx(told, abs=0.01)


def test_groups_widen_the_spread() -> None:
    alone, together = sample(60, 3), sample(60, 3)
    own = cosines(alone, 4, 0.5)
    repeated = Sample(np.repeat(np.arange(60), 4), together.scores.repeat(4), alone.alike.repeat(4))
    one = resampled([Model(alone, own, 0.5)], ("spearman",), alone, 400, 7)
    four = resampled([Model(repeated, own.repeat(4), 0.5)], ("spearman",), repeated, 400, 7)
    assert four.std() == pytest.approx(one.std(), rel=1e-6)


def test_the_exchange_test_is_that_of_all_exchanges() -> None:
    """Worked out over all 2^9 exchanges of ranks, ranked again by scipy."""
    of = sample(18, 5, of_group=2)
    one, other = cosines(of, 6, 0.5), cosines(of, 8, 0.2)
    ranks = [spearman_ranks(one), spearman_ranks(other)]
    observed = abs(spearmanr(one, of.scores)[0] - spearmanr(other, of.scores)[0])
    extreme = 0
    for code in range(2**9):
        swap = np.array([code >> g & 1 for g in of.group], dtype=np.bool_)
        mine, theirs = np.where(swap, ranks[1], ranks[0]), np.where(swap, ranks[0], ranks[1])
        change = spearmanr(mine, of.scores)[0] - spearmanr(theirs, of.scores)[0]
        extreme += abs(change) >= observed - 1e-9
    exact = extreme / 2**9
    found = exchange_test(one, other, of, "spearman", 4000, 7)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000) + 1e-3)
    # Where cosines lie does not count, only their order.
    assert exchange_test(one, np.exp(other) / 9, of, "spearman", 4000, 7) == found


def spearman_ranks(values: Floats) -> Floats:
    from scipy.stats import rankdata

    found: Floats = rankdata(values)
    return found


@pytest.mark.parametrize("measure", ["spearman", "roc_auc"])
def test_equal_models_are_rarely_told_apart_and_unequal_ones_are(measure: str) -> None:
    few = 0
    for seed in range(100):
        of = sample(60, seed)
        one = cosines(of, 2 * seed + 1000, 0.5)
        few += (
            exchange_test(one, cosines(of, 2 * seed + 1001, 0.5, 0.3), of, measure, 199, 7) <= 0.05
        )
    assert few <= 100 * 0.05 + 3 * math.sqrt(100 * 0.0475)
    of = sample(200, 1)
    assert exchange_test(cosines(of, 1, 2.0), cosines(of, 2, 0.2), of, measure, 199, 7) == 1 / 200
    assert exchange_test(cosines(of, 1, 2.0), cosines(of, 1, 2.0), of, measure, 199, 7) == 1.0


def test_very_many_pairs_get_fewer_resamples() -> None:
    assert resamples_of(15_000, 10_000) == 10_000
    assert resamples_of(50_000, 10_000) == 4_000
    assert resamples_of(10_000_000, 10_000) == 1_000
    assert resamples_of(10_000_000, 200) == 200


# Through the door, on hand-written evaluations.


class Pairs:
    """A store with evaluations of the same 80 scored pairs, written by hand."""

    def __init__(self, corpus: Corpus, scratch: Path) -> None:
        self.config, self.scratch = corpus.write(), scratch
        self.store = Store(str(corpus.folder / "store"))
        self.of = sample(80, 11)
        self.pairs = self._make(Recipe("pairs", "small", {}, {}), {"rows.jsonl": [{"row": 1}]}, {})

    def _make(self, recipe: Recipe, lines: Tree, trees: Tree) -> Input:
        draft = begin(self.store, recipe, self.scratch, force=True)
        assert isinstance(draft, Draft)
        for name, rows in lines.items():
            write_jsonl(draft.path(name), rows)
        for name, tree in trees.items():
            write_json(draft.path(name), tree)
        draft.commit({"rows": 1}, volatile=tuple(trees))
        return open_artifact(self.store, recipe.kind, recipe.name, self.scratch).as_input()

    def evaluate(
        self, name: str, noise: float, *, labels: bool = False, fails: bool = False
    ) -> None:
        own = cosines(self.of, len(name), noise)
        rows = [
            {
                "pair_id": f"p{i}",
                "group": f"p{i - i % 2}",
                "part": part,
                "cosine": cosine,
                "score": None if labels else score,
                "label": int(score >= 0.5) if labels else None,
                "category": "net",
                "phase": "easy",
            }
            for part in ("dev", "test")
            for i, (cosine, score) in enumerate(
                zip(own.tolist(), self.of.scores.tolist(), strict=True)
            )
        ]
        values = {"spearman": 0.1, "roc_auc": 0.2}
        trap = {
            "verdict": "fail" if fails else "pass",
            "same_meaning_few_words": 0.31,
            "other_meaning_many_words": 0.62,
        }
        told = {
            "retriever": "dense",
            "model": name,
            "part": "test",
            "questions": 0,
            "metrics": {},
            "slices": {},
            "latency_ms": None,
            "must_pass": [],
            "pairs": {
                "threshold": 0.5,
                "slices": {"category": {"net": {"pairs": 80, "values": values}}, "phase": {}},
                "adversarial": trap,
            },
        }
        settings = {"evaluate": EvaluateConfig().model_dump(mode="json")}
        recipe = Recipe("evaluate", name, settings, {"pairs": self.pairs})
        self._make(recipe, {"per_pair.jsonl": rows}, {"report.json": told})

    def report(self, name: str = "small") -> Tree:
        return read_json(self.artifact(name).path("report.json"))

    def artifact(self, name: str = "small") -> Any:
        return open_artifact(self.store, "compare", name, self.scratch)


@pytest.fixture
def scored(corpus: Corpus, tmp_path: Path) -> Pairs:
    made = Pairs(corpus, tmp_path)
    made.evaluate("small-base", 0.9)
    made.evaluate("small", 0.2, fails=True)
    return made


def test_pairs_alone_are_judged_by_their_rank_correlation(
    scored: Pairs, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("compare", scored.config) == EXIT_DONE
    said = capsys.readouterr().out
    assert "80 scored test pairs in 40 groups" in said
    assert "spearman of scored pairs" in said
    told = scored.report()
    assert (told["questions"], told["metrics"], told["tier"]) == (0, {}, "not judged")
    assert (told["measure"], told["verdict"]) == ("spearman", "improved")
    found = told["pairs"]
    assert (found["pairs"], found["groups"], found["resamples"]) == (80, 40, 500)
    numbers = found["measures"]["spearman"]
    before = spearmanr(cosines(scored.of, len("small-base"), 0.9), scored.of.scores)[0]
    after = spearmanr(cosines(scored.of, len("small"), 0.2), scored.of.scores)[0]
    assert (numbers["baseline"], numbers["candidate"]) == pytest.approx((before, after), abs=1e-6)
    assert numbers["difference"] == pytest.approx(after - before, abs=2e-6)
    assert 0 < numbers["ci_low"] < numbers["difference"] < numbers["ci_high"]
    assert numbers["p_value"] == pytest.approx(1 / 501, abs=1e-6)
    assert found["measures"]["f1"]["p_value"] is None
    assert found["thresholds"] == {"baseline": 0.5, "candidate": 0.5}
    assert found["slices"] == {
        "category": {"net": {"pairs": 80, "baseline": 0.1, "candidate": 0.1}}
    }
    assert [system["role"] for system in told["systems"]] == ["baseline", "candidate"]
    assert told["power"][3]["power"] == pytest.approx(0.8)
    level = told["measure_tier"]
    assert level["levels"][0]["values"]["spearman"] == numbers["candidate_low"]
    assert "mean cosine of 0.62" in " ".join(told["recommendations"])
    assert "| spearman |" in scored.artifact().path("summary.md").read_text()
    with scored.artifact().path("per_pair.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 80
    assert float(rows[3]["candidate"]) == cosines(scored.of, len("small"), 0.2)[3]
    assert "per_question.csv" not in scored.artifact().files


def test_labels_alone_are_judged_by_the_area_under_the_roc_curve(
    scored: Pairs, knock: Knock
) -> None:
    scored.evaluate("small-base", 0.9, labels=True)
    scored.evaluate("small", 0.2, labels=True)
    assert knock("compare", scored.config) == EXIT_DONE
    told = scored.report()
    assert (told["measure"], told["verdict"]) == ("roc_auc", "improved")
    assert "spearman" not in told["pairs"]["measures"]
    assert told["measure_tier"] is None


def test_equal_models_are_unchanged(scored: Pairs, knock: Knock) -> None:
    scored.evaluate("equal", 0.2)  # names of one length draw the same cosines
    arguments = ("compare.baseline=small", "compare.candidate=equal")
    assert knock("compare", scored.config, *arguments) == EXIT_DONE
    told = scored.report("equal-vs-small")
    assert (told["verdict"], told["smallest_detectable"], told["power"]) == ("unchanged", None, [])
    assert "none of the pairs changed" in told["recommendations"][0]


def test_other_models_stand_beside(scored: Pairs, knock: Knock) -> None:
    scored.evaluate("small-earlier", 0.5)
    assert knock("compare", scored.config, 'compare.others=["small-earlier"]') == EXIT_DONE
    systems = scored.report()["systems"]
    assert [s["name"] for s in systems] == ["small-base", "small-earlier", "small"]
    assert systems[1]["difference"]["p_holm"] >= systems[1]["difference"]["p_value"]
    assert systems[2]["metrics"].keys() == {
        "spearman", "pearson", "roc_auc", "average_precision", "f1",
    }  # fmt: skip


def test_the_gate_asks_for_a_level_of_pairs(
    scored: Pairs, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    enforced = ("compare.gate.enforce=true", "compare.gate.min_measure_tier=minimum")
    assert knock("compare", scored.config, *enforced) == EXIT_DONE
    scored.evaluate("small", 0.9)
    assert knock("compare", scored.config, *enforced, "--force") == EXIT_GATE_NOT_MET
    said = capsys.readouterr().err
    assert "measure tier minimum is not reached (spearman " in said
    assert "the verdict is unchanged" in said
    assert "tier not judged is below" not in said


def test_a_run_with_nothing_to_compare_says_so(
    scored: Pairs, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = {"score": 0.5, "label": None, "part": "dev"}
    for name in ("small-base", "small"):
        settings = {"evaluate": EvaluateConfig().model_dump(mode="json")}
        recipe = Recipe("evaluate", name, settings, {"pairs": scored.pairs})
        told: Tree = {
            "retriever": "dense",
            "model": "",
            "part": "test",
            "slices": {},
            "pairs": None,
        }
        report = {"report.json": {**told, "latency_ms": None}}
        scored._make(recipe, {"per_pair.jsonl": [empty]}, report)
    assert knock("compare", scored.config) == EXIT_CHANGE_SOMETHING
    assert "no scored pairs that can be compared" in capsys.readouterr().err
