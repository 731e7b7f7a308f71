"""The comparison: tiers, advice by stated rules, the gate, and what may not be compared."""

from __future__ import annotations

import copy
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import Draft, Input, Recipe, begin, open_artifact
from codex_forge.compare.advice import recommendations
from codex_forge.compare.gate import check_gate
from codex_forge.compare.markdown import markdown
from codex_forge.compare.tiers import BELOW_ALL_TIERS, TOO_FEW, tier_of
from codex_forge.compare.words import headline
from codex_forge.config.sections import CompareConfig, EvaluateConfig, GateConfig, Tier
from codex_forge.errors import (
    EXIT_CHANGE_SOMETHING,
    EXIT_DONE,
    EXIT_GATE_NOT_MET,
    GateNotMet,
)
from codex_forge.jsonl import read_json, write_json, write_jsonl
from codex_forge.storage import Store
from tests.conftest import Corpus, Knock

Tree = dict[str, Any]
TIERS = CompareConfig().tiers


@pytest.mark.parametrize(
    ("score", "tier"),
    [
        (0.0, BELOW_ALL_TIERS),
        (1.999999, BELOW_ALL_TIERS),
        (2.0, "minimal"),
        (2.499999, "minimal"),
        (2.5, "good"),
        (3.0, "usable"),
        (3.499999, "usable"),
        (3.5, "excellent"),
        (5.0, "excellent"),
    ],
)
def test_the_tier_is_the_highest_that_the_score_reaches(score: float, tier: str) -> None:
    assert tier_of(score, TIERS) == tier
    assert tier_of(score, [Tier(name="any", at_least=0.0)]) == "any"


# Advice.


def _report(**changes: Any) -> Tree:
    numbers = {
        "baseline": 2.0,
        "candidate": 3.4,
        "difference": 1.4,
        "ci_low": 1.2,
        "ci_high": 1.6,
        "p_value": 0.0001,
        "p_holm": 0.0003,
        "win": 30,
        "tie": 20,
        "loss": 10,
        "baseline_low": 1.8,
        "baseline_high": 2.2,
        "candidate_low": 3.2,
        "candidate_high": 3.6,
    }
    tree: Tree = {
        "verdict": "improved",
        "tier": "usable",
        "tier_judged_at": 3.2,
        "tiers": [tier.model_dump() for tier in TIERS],
        "smallest_detectable": 0.28,
        "groups": 50,
        "questions": 60,
        "at_ceiling": 3,
        "confidence": 0.95,
        "part": "test",
        "folds": 0,
        "all_questions": None,
        "measure": "rubric",
        "measure_tier": None,
        "baseline": {"name": "small-base", "retriever": "dense"},
        "candidate": {"name": "small", "retriever": "dense"},
        "metrics": {"rubric": numbers},
        "slices": {},
        "systems": [],
        "pairs": None,
        "audit": None,
        "must_pass": {"baseline": [], "candidate": []},
        "latency_ms": {
            "baseline": {"p50": 10.0, "p95": 20.0, "queries": 9},
            "candidate": {"p50": 15.0, "p95": 99.0, "queries": 9},
        },
    }
    for path, value in changes.items():
        *sections, last = path.split("__")
        place = tree
        for section in sections:
            place = place[section]
        place[last] = value
    return tree


def _slice(difference: float, low: float, high: float, questions: int = 20) -> Tree:
    return {
        "questions": questions,
        "baseline": 3.0,
        "candidate": 3.0 + difference,
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
    }


LOST = {"category": {"herbs": _slice(-0.5, -0.9, -0.1), "kings": _slice(0.9, 0.5, 1.3)}}
KNOWN = {"true": _slice(0.8, 0.1, 1.0), "false": _slice(-0.2, -0.5, 0.3)}


@pytest.mark.parametrize(
    ("changes", "said", "unsaid"),
    [
        ({}, "can replace the baseline", "Keep the baseline"),
        ({"verdict": "worse"}, "Keep the baseline", "can replace"),
        ({"verdict": "unchanged"}, "true differences from 0.28 upwards", "can replace"),
        (
            {"tier": BELOW_ALL_TIERS, "tier_judged_at": 1.41},
            "1.41, is below 2.0 (minimal)",
            "lost",
        ),
        ({"slices": LOST}, "category = herbs lost 0.50", "kings"),
        ({"slices": {"category": {"herbs": _slice(-0.5, -0.9, 0.01)}}}, "baseline", "herbs"),
        ({"slices": {"category": {"x": _slice(-2, -2, -2, questions=1)}}}, "baseline", "lost 2"),
        ({"slices": {"alias_in_index": KNOWN}}, "score 1.00 higher", "lost"),
        (
            {"slices": {"alias_in_index": {**KNOWN, "false": _slice(0.9, 0.1, 1.9)}}},
            "baseline",
            "adding aliases",
        ),
        ({"metrics__rubric__loss": 31}, "More questions lost than gained", "Keep"),
        ({"metrics__rubric__loss": 30}, "can replace", "More questions lost"),
    ],
)
def test_each_rule_speaks_on_its_numbers_alone(changes: Tree, said: str, unsaid: str) -> None:
    advice = "\n".join(recommendations(_report(**copy.deepcopy(changes))))
    assert said in advice
    assert unsaid not in advice


def test_the_headline_and_the_markdown_tell_the_numbers() -> None:
    told = _report(slices={"category": LOST["category"], "era": {"old": _slice(0.9, 0.5, 1.3)}})
    told["recommendations"] = ["Do this."]
    said = headline(told)
    for part in (
        "60 test questions",
        "2.00/5   (95 % interval 1.80 to 2.20)",
        "3.40/5   (95 % interval 3.20 to 3.60)",
        "+1.40    (95 % interval +1.20 to +1.60, p 0.0001)",
        "30 / 20 / 10",
        "era = old",
        "usable (judged at 3.20)",
        "improved (smallest detectable difference 0.28)",
    ):
        assert part in said
    assert "herbs" not in said
    written = markdown(told).splitlines()
    assert written[0] == "# small against small-base"
    assert "**improved**, tier **usable** (judged at 3.20), 60 test questions" in written[2]
    row = "| rubric | 2.000 | 3.400 | +1.400 | +1.200 to +1.600 | 0.0001 | 0.0003 | 30 / 20 / 10 |"
    assert row in written
    assert "| category = herbs | 20 | 3.00 | 2.50 | -0.50 | -0.90 to -0.10 |" in written
    assert "- Do this." in written


# The gate.


@pytest.mark.parametrize(
    ("gate", "tier", "verdict", "reason"),
    [
        ({"enforce": False}, BELOW_ALL_TIERS, "worse", ""),
        ({}, "minimal", "improved", ""),
        ({}, "excellent", "improved", ""),
        ({}, BELOW_ALL_TIERS, "improved", "tier change strategy is below minimal"),
        ({"min_tier": "usable"}, "good", "improved", "tier good is below usable"),
        ({"min_tier": "usable"}, "usable", "improved", ""),
        ({}, "excellent", "unchanged", "verdict is unchanged"),
        ({}, "excellent", "worse", "verdict is worse"),
        ({"require_improved": False}, "minimal", "worse", ""),
    ],
)
def test_the_gate_stops_only_when_enforced(
    gate: Tree, tier: str, verdict: str, reason: str
) -> None:
    config = CompareConfig(gate=GateConfig(**{"enforce": True, **gate}))
    told = _report(tier=tier, verdict=verdict)
    if not reason:
        check_gate(told, config, "here")
        return
    with pytest.raises(GateNotMet, match=reason):
        check_gate(told, config, "here")


# Through the door, on hand-written evaluations.

SCORES = [(0.0, 2.5), (2.5, 2.5), (5.0, 2.5), (2.5, 5.0)] * 6
"""Rubric of baseline and candidate: in each four, two gain, one ties, one loses."""


class Bench:
    """A store with evaluations of the same questions, written by hand."""

    def __init__(self, corpus: Corpus, scratch: Path) -> None:
        self.config = corpus.write()
        self.store = Store(str(corpus.folder / "store"))
        self.scratch = scratch
        self.pairs = self._make("pairs", "small", {}, {}, ["x"])

    def _make(
        self, kind: str, name: str, settings: Tree, inputs: dict[str, Input], rows: Sequence[Any]
    ) -> Input:
        recipe = Recipe(kind, name, settings, inputs)
        draft = begin(self.store, recipe, self.scratch, force=True)
        assert isinstance(draft, Draft)
        write_jsonl(draft.path("rows.jsonl"), [{"row": row} for row in rows])
        draft.commit({"rows": len(rows)})
        return open_artifact(self.store, kind, name, self.scratch).as_input()

    def other_pairs(self) -> Input:
        return self._make("pairs", "another", {"seed": 8}, {}, ["y"])

    def evaluate(
        self, name: str, scores: Sequence[float], pairs: Input | None = None, **settings: Any
    ) -> None:
        """Write an evaluate artifact whose questions have these rubric scores."""
        evaluated = {**EvaluateConfig().model_dump(mode="json"), **settings}
        recipe = Recipe("evaluate", name, {"evaluate": evaluated}, {"pairs": pairs or self.pairs})
        draft = begin(self.store, recipe, self.scratch, force=True)
        assert isinstance(draft, Draft)
        rows = [_row(i, score) for i, score in enumerate(scores)]
        slices: Tree = {
            "category": {row["category"]: {} for row in rows},
            "alias_in_index": {"true": {}, "false": {}},
        }
        write_jsonl(draft.path("per_question.jsonl"), rows)
        told = {
            "retriever": "dense",
            "model": name,
            "part": "test",
            "slices": slices,
            "latency_ms": {"p50": 1.0, "p95": 2.0, "queries": 3},
        }
        write_json(draft.path("report.json"), told)
        draft.commit({"questions": len(rows)}, volatile=("report.json",))

    def report(self, name: str = "small") -> Tree:
        artifact = open_artifact(self.store, "compare", name, self.scratch)
        return read_json(artifact.path("report.json"))


def _retrieved(rank: int, covers: dict[str, str]) -> Tree:
    return {
        "rank": rank,
        "chunk_id": f"c{rank}",
        "filename": f"{rank}.md",
        "score": 1 / rank,
        "relevant": rank == 1,
        "covers": covers,
        "text": "text",
    }


def _row(i: int, score: float) -> Tree:
    return {
        "query_id": f"q{i:02d}",
        "question": f"Question {i}?",
        "category": "herbs" if i % 4 == 2 else "kings",
        "difficulty": "easy",
        "expected_topics": ["a", "b"],
        "group": f"q{i - i % 2:02d}",
        "alias_in_index": i % 2 == 0,
        "measures": {"rubric": score, "recall@5": score / 5},
        "retrieved": [
            _retrieved(1, {"a": "name of a"}),
            _retrieved(2, {"a": "later", "b": "b"}),
        ],
    }


@pytest.fixture
def bench(corpus: Corpus, tmp_path: Path) -> Bench:
    made = Bench(corpus, tmp_path)
    made.evaluate("small-base", [before for before, _ in SCORES])
    made.evaluate("small", [after for _, after in SCORES])
    return made


def test_a_comparison_holds_the_numbers_of_its_two_runs(
    bench: Bench, knock: Knock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("compare", bench.config) == EXIT_DONE
    assert "report.html" in capsys.readouterr().out
    told = bench.report()
    numbers = told["metrics"]["rubric"]
    assert (numbers["baseline"], numbers["candidate"], numbers["difference"]) == (2.5, 3.125, 0.625)
    assert (numbers["win"], numbers["tie"], numbers["loss"]) == (12, 6, 6)
    assert told["metrics"]["recall@5"]["difference"] == pytest.approx(0.125)
    assert (told["questions"], told["groups"]) == (24, 12)
    assert told["distribution"]["baseline"] == [6, 0, 12, 0, 6]
    assert told["distribution"]["candidate"] == [0, 0, 18, 0, 6]
    assert told["tier"] == tier_of(told["tier_judged_at"], TIERS)
    assert told["tier_judged_at"] == numbers["candidate_low"]
    assert told["slices"]["category"]["herbs"]["difference"] == -2.5
    assert told["slices"]["category"]["herbs"]["questions"] == 6
    assert told["slices"]["alias_in_index"]["true"]["questions"] == 12
    assert [e["query_id"] for e in told["lost"]] == ["q02", "q06", "q10", "q14", "q18", "q22"]
    assert len(told["gained"]) == 10
    assert all(e["candidate"] - e["baseline"] == 2.5 for e in told["gained"])
    assert told["gained"][0]["covered_baseline"] == {"a": "name of a", "b": "b"}
    assert [e["kind"] for e in told["lineage"]] == ["evaluate", "evaluate", "pairs"]

    artifact = open_artifact(bench.store, "compare", "small", tmp_path)
    with artifact.path("per_question.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [(float(r["baseline"]), float(r["candidate"])) for r in rows] == SCORES
    assert artifact.manifest.summary == {"verdict": told["verdict"], "tier": told["tier"]}


def test_a_run_against_itself_is_unchanged(bench: Bench, knock: Knock) -> None:
    bench.evaluate("small-base", [after for _, after in SCORES])
    assert knock("compare", bench.config) == EXIT_DONE
    told = bench.report()
    assert told["verdict"] == "unchanged"
    assert told["metrics"]["rubric"]["difference"] == 0.0
    assert told["metrics"]["rubric"]["p_value"] == 1.0
    assert told["gained"] == told["lost"] == []


def test_the_gate_is_judged_again_without_comparing_again(
    bench: Bench, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("compare", bench.config) == EXIT_DONE
    gate = ["compare.gate.enforce=true", "compare.gate.min_tier=excellent"]
    assert knock("compare", bench.config, *gate) == EXIT_GATE_NOT_MET
    said = capsys.readouterr().err
    assert "already done" in said
    assert "is below excellent" in said


@pytest.mark.parametrize(
    ("key", "value"), [("part", "dev"), ("rubric_k", 3), ("k", [1, 2]), ("depth", 50)]
)
def test_other_settings_are_refused(
    bench: Bench, knock: Knock, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    bench.evaluate("small", [after for _, after in SCORES], **{key: value})
    assert knock("compare", bench.config) == EXIT_CHANGE_SOMETHING
    assert f"differ in evaluate.{key}" in capsys.readouterr().err


def test_another_question_bank_is_refused(
    bench: Bench, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.evaluate("small", [after for _, after in SCORES], bench.other_pairs())
    assert knock("compare", bench.config) == EXIT_CHANGE_SOMETHING
    assert "different question banks" in capsys.readouterr().err


def test_a_missing_run_is_named(
    bench: Bench, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("compare", bench.config, "compare.candidate=small-bm25") == EXIT_CHANGE_SOMETHING
    assert "there is no evaluate artifact 'small-bm25'" in capsys.readouterr().err


def test_slices_and_retriever_may_differ(bench: Bench, knock: Knock) -> None:
    scores = [after for _, after in SCORES]
    bench.evaluate("small-bm25", scores, retriever="bm25", slices=["era"])
    assert knock("compare", bench.config, "compare.baseline=small-bm25") == EXIT_DONE
    assert bench.report("small-vs-small-bm25")["metrics"]["rubric"]["tie"] == 24


def test_a_bank_that_cannot_tell_says_so() -> None:
    few = " ".join(recommendations(_report(groups=3, tier=TOO_FEW)))
    assert "3 groups of questions are too few to judge" in few
    full = " ".join(recommendations(_report(at_ceiling=40)))
    assert "40 of 60 questions score 5 on both sides" in full
    nothing = _report(verdict="unchanged", smallest_detectable=None)
    assert "none of the questions changed" in " ".join(recommendations(nothing))
    assert "smallest detectable difference unknown" in headline(nothing)
    gate = CompareConfig(gate=GateConfig(enforce=True))
    with pytest.raises(GateNotMet, match="too few questions is below"):
        check_gate(_report(tier=TOO_FEW), gate, "here")
