"""Cross-fitted comparisons: all folds as one result, and what keeps folds from being one.

Also the number on all questions, which is told beside the held-out one and never judged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import Draft, Input, Recipe, begin, open_artifact
from codex_forge.config import load_config
from codex_forge.config.sections import EvaluateConfig
from codex_forge.errors import (
    EXIT_CHANGE_SOMETHING,
    EXIT_DONE,
    EXIT_GATE_NOT_MET,
)
from codex_forge.jsonl import read_json, write_json, write_jsonl
from codex_forge.storage import Store
from tests.conftest import Corpus, Knock, sample_corpus
from tests.test_compare_report import SCORES, Bench, Tree, _row, bench

__all__ = ["bench"]

THREE = "pairs.split.folds=3"


class Folds:
    """A store with the evaluations of three folds, of eight questions each, written by hand."""

    def __init__(self, corpus: Corpus, scratch: Path) -> None:
        self.config = corpus.write()
        self.store = Store(str(corpus.folder / "store"))
        self.scratch = scratch

    def _make(self, recipe: Recipe, files: Tree) -> Input:
        draft = begin(self.store, recipe, self.scratch, force=True)
        assert isinstance(draft, Draft)
        for name, content in files.items():
            write = write_jsonl if name.endswith("l") else write_json
            write(draft.path(name), content)
        draft.commit({"rows": 1}, volatile=("report.json",) if "report.json" in files else ())
        return open_artifact(self.store, recipe.kind, recipe.name, self.scratch).as_input()

    def pairs(self, fold: int, **other: Any) -> Input:
        """The pairs of one fold."""
        told = {"seed": 7, "pairs": {"split": {"folds": 3, "fold": fold}}, **other}
        recipe = Recipe("pairs", f"small-fold{fold}", told, {})
        return self._make(recipe, {"rows.jsonl": [{"fold": fold}]})

    def model(self, fold: int, pairs: Input, epochs: float) -> Input:
        """A model of one fold."""
        recipe = Recipe(
            "train", f"small-fold{fold}", {"train": {"epochs": epochs}}, {"pairs": pairs}
        )
        return self._make(recipe, {"rows.jsonl": [{"epochs": epochs, "fold": fold}]})

    def evaluate(self, name: str, side: int, first: int, inputs: dict[str, Input]) -> None:
        """Write the evaluation of eight questions from `first` on."""
        rows = [_row(i, SCORES[i][side]) for i in range(first, first + 8)]
        told = {
            "retriever": "dense",
            "model": name,
            "part": "test",
            "slices": {"category": {row["category"]: {} for row in rows}},
            "latency_ms": {"p50": 1.0 + first, "p95": 2.0, "queries": 3},
        }
        settings = {"evaluate": EvaluateConfig().model_dump(mode="json")}
        recipe = Recipe("evaluate", name, settings, inputs)
        self._make(recipe, {"per_question.jsonl": rows, "report.json": told})

    def fold(self, fold: int, first: int | None = None, epochs: float = 1.0, **pairs: Any) -> None:
        """Everything of one fold."""
        given = self.pairs(fold, **pairs)
        begins = 8 * fold if first is None else first
        self.evaluate(f"small-fold{fold}-base", 0, begins, {"pairs": given})
        model = self.model(fold, given, epochs)
        self.evaluate(f"small-fold{fold}", 1, begins, {"pairs": given, "embed": model})

    def report(self, name: str = "small-crossfit") -> Tree:
        found = open_artifact(self.store, "compare", name, self.scratch)
        return read_json(found.path("report.json"))


@pytest.fixture
def folds(corpus: Corpus, tmp_path: Path) -> Folds:
    made = Folds(corpus, tmp_path)
    for fold in range(3):
        made.fold(fold)
    return made


def test_all_folds_are_one_result_with_the_numbers_of_an_undivided_one(
    folds: Folds, bench: Bench, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bench` holds the same 24 scores in one artifact a side."""
    assert knock("compare", folds.config, THREE) == EXIT_DONE
    said = capsys.readouterr().out
    assert "24 questions, cross-fitted: each scored by the one of 3 models" in said
    assert knock("compare", bench.config) == EXIT_DONE
    crossed, whole = folds.report(), bench.report()
    for key in ("metrics", "verdict", "tier", "questions", "groups", "smallest_detectable"):
        assert crossed[key] == whole[key], key
    assert crossed["slices"]["category"] == whole["slices"]["category"]
    assert (crossed["folds"], whole["folds"]) == (3, 0)
    by_fold = crossed["slices"]["fold"]
    assert {value: found["questions"] for value, found in by_fold.items()} == dict.fromkeys(
        "012", 8
    )
    assert by_fold["1"]["candidate"] == pytest.approx(sum(a for _, a in SCORES[8:16]) / 8)
    assert crossed["candidate"]["name"] == "small (3 folds)"
    assert crossed["baseline"]["name"] == "small-base (3 folds)"
    assert crossed["latency_ms"]["candidate"] == {"p50": 9.0, "p95": 2.0, "queries": 9}
    kinds = [entry["kind"] for entry in crossed["lineage"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {"evaluate": 6, "pairs": 3, "train": 3}


def test_the_page_and_the_table_say_that_it_is_cross_fitted(folds: Folds, knock: Knock) -> None:
    assert knock("compare", folds.config, THREE) == EXIT_DONE
    found = open_artifact(folds.store, "compare", "small-crossfit", folds.scratch)
    page = found.path("report.html").read_text()
    assert "cross-fitted: each scored by the one of 3 models that never saw it" in page
    assert "By fold, each with a model of its own" in page
    assert "cross-fitted" in found.path("summary.md").read_text()
    table = found.path("per_question.csv").read_text().splitlines()
    assert table[0].startswith("query_id,fold,question,")
    assert [line.split(",")[1] for line in table[1:]] == [str(i // 8) for i in range(24)]


def test_missing_folds_are_all_named_with_what_makes_them(
    corpus: Corpus, tmp_path: Path, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Folds(corpus, tmp_path)
    made.fold(1)
    given = made.pairs(2)
    made.evaluate("small-fold2-base", 0, 16, {"pairs": given})
    assert knock("compare", made.config, THREE) == EXIT_CHANGE_SOMETHING
    said = capsys.readouterr().err
    assert "'small-fold0-base', 'small-fold0', 'small-fold2'" in said
    assert "small-fold1'" not in said
    assert "make crossfit CONFIG=... FOLDS=3" in said
    assert "pairs.split.fold=0 or 2" in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epochs": 2.0}, "train.epochs is 2.0, not 1.0"),
        ({"seed": 8}, "pairs: seed is 8, not 7"),
        ({"pairs": {"split": {"folds": 4, "fold": 2}}}, "pairs.split.folds is 4, not 3"),
        ({"pairs": {"split": {"folds": 3, "fold": 1}}}, "pairs.split.fold is 1, not 2"),
        ({"first": 8}, "question q08 is in folds 1 and 2"),
    ],
)
def test_folds_that_do_not_belong_together_are_refused(
    folds: Folds, knock: Knock, capsys: pytest.CaptureFixture[str], change: Tree, reason: str
) -> None:
    folds.fold(2, **change)
    assert knock("compare", folds.config, THREE) == EXIT_CHANGE_SOMETHING
    assert reason in capsys.readouterr().err


def test_the_gate_judges_the_cross_fitted_result(folds: Folds, knock: Knock) -> None:
    gate = (THREE, "compare.gate.enforce=true", "compare.gate.min_tier=excellent")
    assert knock("compare", folds.config, *gate) == EXIT_GATE_NOT_MET


def test_other_sides_are_named_with_the_place_of_the_fold(
    folds: Folds, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold in range(3):
        folds.evaluate(f"old{fold}", 0, 8 * fold, {"pairs": folds.pairs(fold)})
    assert knock("compare", folds.config, THREE, "compare.candidate=old{fold}") == EXIT_DONE
    assert folds.report("old-vs-small-base-crossfit")["metrics"]["rubric"]["tie"] == 24
    assert knock("compare", folds.config, THREE, "compare.candidate=old1") == EXIT_CHANGE_SOMETHING
    assert knock("compare", folds.config, "compare.candidate=old{fold}") == EXIT_CHANGE_SOMETHING
    assert capsys.readouterr().err.count("hold {fold}") == 2


def test_others_are_cross_fitted_too(
    folds: Folds, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold in range(3):
        given = {"pairs": folds.pairs(fold)}
        folds.evaluate(f"small-fold{fold}-bm25", 1, 8 * fold, given)
    assert knock("compare", folds.config, THREE, 'compare.others=["bm25"]') == EXIT_DONE
    systems = folds.report()["systems"]
    names = ["small-base (3 folds)", "small-bm25 (3 folds)", "small (3 folds)"]
    assert [system["name"] for system in systems] == names
    assert systems[1]["metrics"] == systems[2]["metrics"]
    assert systems[1]["candidate_over"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    arguments = (THREE, 'compare.others=["bm25","small-bm25"]')
    assert knock("compare", folds.config, *arguments) == EXIT_CHANGE_SOMETHING
    assert "compare.others 'small-bm25' must hold {fold}" in capsys.readouterr().err


# The number on all questions.


def test_all_questions_are_never_judged(
    bench: Bench, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("small-base", "small"):
        bench.evaluate(name, [5.0] * 24, part="all")
    gate = ("compare.gate.enforce=true",)
    assert knock("compare", bench.config, *gate) == EXIT_CHANGE_SOMETHING
    assert "questions that were trained on: no verdict, tier or gate" in capsys.readouterr().err


# Names.


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ((), ("small-fold1", "small-fold1", "small-fold1", "small-crossfit")),
        (
            ("embed.model=base",),
            ("small-fold1", "small-base", "small-fold1-base", "small-crossfit"),
        ),
        (
            ("evaluate.retriever=bm25", "evaluate.part=all"),
            ("small-fold1", "small-fold1", "small-fold1-bm25-all", "small-crossfit"),
        ),
        (
            ("compare.baseline=old-fold{fold}-bm25",),
            ("small-fold1", "small-fold1", "small-fold1", "small-vs-old-bm25-crossfit"),
        ),
    ],
)
def test_the_artifacts_of_a_fold_are_named_after_it(
    tmp_path: Path, overrides: tuple[str, ...], names: tuple[str, ...]
) -> None:
    path = sample_corpus(tmp_path / "corpus", 2).write()
    config = load_config(path, [*overrides, "pairs.split.folds=3", "pairs.split.fold=1"])
    found = (config.run_name, config.embed_name, config.evaluate_name, config.compare_name)
    assert found == names
