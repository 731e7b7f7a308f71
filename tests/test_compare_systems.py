"""Several systems beside each other: table, correction, advice; levels of measures, gates."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import Draft, Recipe, begin, open_artifact
from codex_forge.compare.advice import recommendations
from codex_forge.compare.gate import check_gate
from codex_forge.compare.markdown import markdown
from codex_forge.compare.tiers import measure_tier
from codex_forge.compare.words import headline
from codex_forge.config.sections import CompareConfig, EvaluateConfig, GateConfig, MeasureTier
from codex_forge.errors import (
    EXIT_CHANGE_SOMETHING,
    EXIT_DONE,
    EXIT_GATE_NOT_MET,
    GateNotMet,
)
from codex_forge.jsonl import read_json, write_json, write_jsonl
from tests.conftest import Knock
from tests.test_compare_report import SCORES, Bench, Tree, _report, _row, bench

__all__ = ["bench"]

OTHERS = 'compare.others=["bm25","hybrid","base","small"]'


def told(bench: Bench, name: str, scores: list[float], **report: Any) -> None:
    """An evaluation that says more of itself."""
    retriever = report.get("retriever", "dense")
    settings = {"evaluate": {**EvaluateConfig().model_dump(mode="json"), "retriever": retriever}}
    inputs = {"pairs": bench.pairs, **report.pop("inputs", {})}
    recipe = Recipe("evaluate", name, settings, inputs)
    draft = begin(bench.store, recipe, bench.scratch, force=True)
    assert isinstance(draft, Draft)
    rows = [_row(i, score) for i, score in enumerate(scores)]
    write_jsonl(draft.path("per_question.jsonl"), rows)
    facts = {"retriever": retriever, "model": name, "part": "test", "slices": {}}
    timed = {"latency_ms": {"p50": 4.0, "p95": 9.0, "queries": 3}}
    write_json(draft.path("report.json"), {**facts, **timed, **report})
    draft.commit({"questions": len(rows)}, volatile=("report.json",))


@pytest.fixture
def several(bench: Bench) -> Bench:
    """BM25 as good as the candidate, and a hybrid that finds everything."""
    vectors = {"embed": bench.other_pairs()}  # any artifact has a digest
    candidate = [after for _, after in SCORES]
    told(bench, "small", candidate, inputs=vectors, must_pass=[], dimension=384)
    told(bench, "small-bm25", candidate[::-1], retriever="bm25", index_bytes=77)
    told(bench, "small-hybrid", [5.0] * 24, retriever="hybrid", inputs=vectors)
    return bench


def test_every_system_is_compared_with_the_baseline(several: Bench, knock: Knock) -> None:
    assert knock("compare", several.config, OTHERS) == EXIT_DONE
    report = several.report()
    systems = {system["name"]: system for system in report["systems"]}
    assert list(systems) == ["small-base", "small-bm25", "small-hybrid", "small"]
    roles = [system["role"] for system in systems.values()]
    assert roles == ["baseline", "other", "other", "candidate"]
    assert systems["small-base"]["difference"] is systems["small-base"]["verdict"] is None
    assert systems["small-hybrid"]["metrics"]["rubric"] == {"value": 5.0, "low": 5.0, "high": 5.0}
    assert systems["small-hybrid"]["difference"]["mean"] == 2.5
    assert systems["small-hybrid"]["verdict"] == "improved"
    assert systems["small-bm25"]["index_bytes"] == 77
    assert systems["small"]["dimension"] == 384
    main = report["metrics"]["rubric"]
    change = systems["small"]["difference"]
    assert (change["mean"], change["low"], change["high"], change["p_value"]) == (
        main["difference"], main["ci_low"], main["ci_high"], main["p_value"],
    )  # fmt: skip
    assert systems["small"]["verdict"] == report["verdict"]
    p_values = sorted(s["difference"]["p_value"] for s in systems.values() if s["difference"])
    assert systems["small-hybrid"]["difference"]["p_holm"] == pytest.approx(3 * p_values[0])
    assert systems["small-hybrid"]["candidate_over"]["mean"] == pytest.approx(3.125 - 5)
    assert systems["small-hybrid"]["over_dense"]["name"] == "small"
    assert systems["small-hybrid"]["over_dense"]["mean"] == pytest.approx(5 - 3.125)
    assert systems["small-bm25"]["over_dense"] is None
    advice = " ".join(report["recommendations"])
    assert "small-hybrid scores 1.88 more than small alone" in advice
    assert "BM25 alone is not shown to be worse" in advice
    kinds = [entry["name"] for entry in report["lineage"] if entry["kind"] == "evaluate"]
    assert kinds == ["small", "small-base", "small-bm25", "small-hybrid"]


def test_terminal_and_markdown_have_a_compact_table(
    several: Bench, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("compare", several.config) == EXIT_DONE
    assert "small-hybrid" not in capsys.readouterr().out
    assert knock("compare", several.config, OTHERS, "--force") == EXIT_DONE
    assert "small-hybrid                     5.00    (+2.50, " in capsys.readouterr().out
    artifact = open_artifact(several.store, "compare", "small", several.scratch)
    table = artifact.path("summary.md").read_text().splitlines()
    row = next(line for line in table if line.startswith("| small-hybrid (other) |"))
    assert row.split("|")[2:4] == [" 5.000 ", " +2.500 "]
    assert row.endswith("| improved | 4.0 |")


def test_others_must_have_answered_the_same_questions(
    several: Bench, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    several.evaluate("another", [1.0] * 24, several.other_pairs())
    assert knock("compare", several.config, 'compare.others=["another"]') == EXIT_CHANGE_SOMETHING
    assert "baseline and another were evaluated on different question" in capsys.readouterr().err
    several.evaluate("another", [1.0] * 24, rubric_k=3)
    assert knock("compare", several.config, 'compare.others=["another"]') == EXIT_CHANGE_SOMETHING
    assert "baseline and another differ in evaluate.rubric_k" in capsys.readouterr().err


def test_all_that_is_missing_is_named_with_what_makes_it(
    several: Bench, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    others = 'compare.others=["base-hybrid","chroma","x{fold}"]'
    assert knock("compare", several.config, others) == EXIT_CHANGE_SOMETHING
    assert "compare.others 'x{fold}' can, without pairs.split.folds, not hold" in (
        capsys.readouterr().err
    )
    others = 'compare.others=["base-hybrid","chroma","small-served"]'
    assert knock("compare", several.config, others) == EXIT_CHANGE_SOMETHING
    said = capsys.readouterr().err
    assert "there is no evaluate artifact 'small-base-hybrid', 'small-chroma', 'small-serv" in said
    assert (
        "for small-base-hybrid run jobs.embed and then jobs.evaluate with embed.model=base "
        "evaluate.retriever=hybrid; for small-chroma run jobs.evaluate with "
        "evaluate.retriever=chroma; for small-served run jobs.embed and then jobs.evaluate with "
        "embed.model=served"
    ) in said


def test_the_audit_of_the_same_pairs_is_read(several: Bench, knock: Knock) -> None:
    kinds: Tree = {"chunk": {"texts": 50, "truncated": 9}, "query": {"texts": 40, "truncated": 0}}
    expected: Tree = {"limit": 256, "lost": 2, "kinds": kinds}
    for pairs, found in ((several.other_pairs(), None), (several.pairs, expected)):
        recipe = Recipe("audit", "small", {}, {"pairs": pairs})
        draft = begin(several.store, recipe, several.scratch, force=True)
        assert isinstance(draft, Draft)
        told = {"limit": 256, "evidence": {"lost": 2}, "lengths": kinds}
        write_json(draft.path("report.json"), told)
        draft.commit({"pairs": 1})
        assert knock("compare", several.config, "--force") == EXIT_DONE
        report = several.report()
        assert report["audit"] == found
    advice = " ".join(report["recommendations"])
    assert "9 of 50 chunk texts are cut at 256 tokens" in advice
    assert "query texts" not in advice
    assert "In 2 train pairs the expected topics" in advice


# Rules, each on its numbers alone.


def _system(name: str, retriever: str, **more: Any) -> Tree:
    return {
        "name": name,
        "role": "other",
        "retriever": retriever,
        "candidate_over": None,
        "over_dense": None,
        "metrics": {"rubric": {"value": 3.0, "low": 2.9, "high": 3.1}},
        "difference": {"mean": 1.0, "low": 0.9, "high": 1.1, "p_value": 0.01, "p_holm": 0.02},
        "verdict": "improved",
        "latency_ms": None,
        **more,
    }


def _interval(mean: float, low: float, high: float) -> Tree:
    return {"name": "small", "mean": mean, "low": low, "high": high}


TRAP = {"verdict": "fail", "other_meaning_many_words": 0.8, "same_meaning_few_words": 0.4}
PAIRS: Tree = {
    "pairs": 90,
    "groups": 80,
    "measure": "roc_auc",
    "measures": {},
    "adversarial": {"baseline": TRAP, "candidate": {**TRAP, "verdict": "pass"}},
}
FAILED = {"query": "who?", "expects": ["a.md"], "k": 3, "rank": 7, "passed": False}
SLOW = {"p50": 15.1, "p95": 20.0, "queries": 3}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"systems": [_system("h", "hybrid", over_dense=_interval(0.2, 0.1, 0.3))]},
            "h scores 0.2",
        ),
        ({"systems": [_system("h", "hybrid", over_dense=_interval(0.2, 0.0, 0.4))]}, ""),
        ({"systems": [_system("b", "bm25", candidate_over=_interval(0.1, -0.1, 0.3))]}, "BM25 a"),
        ({"systems": [_system("b", "bm25", candidate_over=_interval(0.2, 0.1, 0.3))]}, ""),
        ({"smallest_detectable": 0.6}, "needs about 200 groups"),
        ({"smallest_detectable": 0.3}, ""),
        ({"must_pass__candidate": [FAILED]}, "1 of 1 queries that must find their answer do not"),
        ({"must_pass__baseline": [FAILED]}, ""),
        ({"pairs": {**PAIRS, "adversarial": {"candidate": TRAP}}}, "have a mean cosine of 0.80"),
        ({"pairs": PAIRS}, ""),
        ({"latency_ms__candidate": SLOW}, "1.5 times as long"),
        ({"latency_ms__candidate": None}, ""),
    ],
)
def test_each_rule_speaks_only_when_its_numbers_say_so(changes: Tree, said: str) -> None:
    usual = recommendations(_report())
    found = recommendations(_report(**copy.deepcopy(changes)))
    more = [advice for advice in found if advice not in usual]
    assert len(more) == bool(said)
    assert said in "".join(more)


# Levels of other measures.

LEVELS = (
    MeasureTier(name="low", at_least={"spearman": 0.5}),
    MeasureTier(name="middle", at_least={"spearman": 0.6, "f1": 0.7}),
    MeasureTier(name="high", at_least={"spearman": 0.7}),
)


@pytest.mark.parametrize(
    ("lows", "name", "reached"),
    [
        ({"spearman": 0.49, "f1": 0.9}, None, [False, False, False]),
        ({"spearman": 0.5, "f1": 0.9}, "low", [True, False, False]),
        ({"spearman": 0.6, "f1": 0.7}, "middle", [True, True, False]),
        ({"spearman": 0.9, "f1": 0.6}, "low", [True, False, True]),
        ({"spearman": 0.9}, "high", [True, True]),
    ],
)
def test_a_level_is_reached_with_all_below_it(
    lows: dict[str, float], name: str | None, reached: list[bool]
) -> None:
    found = measure_tier(lows, LEVELS)
    assert found is not None
    assert found["name"] == name
    assert [level["reached"] for level in found["levels"]] == reached
    assert measure_tier({"rubric": 3.0}, LEVELS) is None


def test_the_gate_names_all_that_failed() -> None:
    levels = measure_tier({"spearman": 0.55, "f1": 0.5}, LEVELS)
    gate = GateConfig.model_construct(
        enforce=True, min_tier="excellent", min_measure_tier="middle", require_improved=True,
        must_pass=True,
    )  # fmt: skip
    config = CompareConfig().model_copy(update={"gate": gate})
    report = _report(tier="good", verdict="unchanged", measure_tier=levels)
    report["must_pass"]["candidate"] = [FAILED, {**FAILED, "passed": True}]
    report["must_pass"]["candidate"].append({**FAILED, "query": "where?", "rank": None})
    with pytest.raises(GateNotMet) as raised:
        check_gate(report, config, "here")
    assert str(raised.value).startswith(
        "here: tier good is below excellent; measure tier middle is not reached (spearman 0.550 is "
        "below 0.6, f1 0.500 is below 0.7); the verdict is unchanged; 'who?' must find a.md among "
        "the first 3, and it is at rank 7; 'where?' must find a.md among the first 3, and it is "
        "not found; "
    )
    lenient = gate.model_copy(update={"must_pass": False, "min_measure_tier": "low"})
    with pytest.raises(GateNotMet) as raised:
        check_gate(report, config.model_copy(update={"gate": lenient}), "here")
    assert "must find" not in str(raised.value)
    assert "measure tier" not in str(raised.value)
    with pytest.raises(GateNotMet, match="measure tier middle was not judged"):
        check_gate({**report, "measure_tier": None}, config, "here")


def test_scenarios_come_from_the_evaluations(
    several: Bench, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = [after for _, after in SCORES]
    told(several, "small", candidate, must_pass=[FAILED, {**FAILED, "passed": True, "rank": 1}])
    enforced = ("compare.gate.enforce=true", "compare.gate.require_improved=false")
    assert knock("compare", several.config, *enforced) == EXIT_GATE_NOT_MET
    captured = capsys.readouterr()
    assert "'who?' must find a.md" in captured.err
    assert "1 of 2" in captured.out
    assert several.report()["must_pass"] == {
        "baseline": [],
        "candidate": [FAILED, {**FAILED, "passed": True, "rank": 1}],
    }
    assert knock("compare", several.config, *enforced, "compare.gate.must_pass=false") == EXIT_DONE


def test_words_tell_everything_that_there_is() -> None:
    measures = {"roc_auc": {
        "baseline": 0.7, "candidate": 0.9, "difference": 0.2, "ci_low": 0.1, "ci_high": 0.3,
        "p_value": 0.01,
    }}  # fmt: skip
    report = _report(
        pairs={**PAIRS, "measures": measures},
        systems=[_system("small|bm25", "bm25")],
        measure_tier={"name": "low", "levels": []},
        must_pass={"baseline": [], "candidate": [FAILED]},
        recommendations=[],
    )
    said, written = headline(report), markdown(report)
    assert "roc_auc of scored pairs          0.700 -> 0.900  (+0.100 to +0.300, p 0.01)" in said
    assert "meaning against shared words     pass" in said
    assert "measure tier                     low" in said
    assert "must pass                        0 of 1" in said
    assert "| roc_auc | 0.700 | 0.900 | +0.200 | +0.100 to +0.300 |" in written
    assert "| who? | 3 | 7 | **failed** |" in written
    assert "small\\|bm25 (other)" in written


def test_the_questions_that_changed_say_what_taught_them(
    several: Bench, knock: Knock, tmp_path: Path
) -> None:
    """Only a model that was trained was taught."""
    assert knock("compare", several.config) == EXIT_DONE
    assert all(each["taught"] == [] for each in several.report()["gained"])

    def make(kind: str, inputs: Tree, settings: Tree, rows: list[Tree], name: str) -> Any:
        recipe = Recipe(kind, "small", settings, inputs)
        draft = begin(several.store, recipe, tmp_path, force=True)
        assert isinstance(draft, Draft)
        write_jsonl(draft.path(name), rows)
        draft.commit({"rows": len(rows)})
        return open_artifact(several.store, kind, "small", tmp_path).as_input()

    row = {
        "query_id": "t1", "query": "Question of old", "positive": "An answer.",
        "positive_id": "c1", "source": "question", "phase": "easy", "topics": ["a"],
        "negatives": [], "negative_ids": [],
    }  # fmt: skip
    several.pairs = make("pairs", {}, {}, [row], "pairs-train.jsonl")
    model = make("train", {"pairs": several.pairs}, {"train": {}}, [{}], "x.jsonl")
    vectors = make("embed", {"model": model}, {}, [{}], "x.jsonl")
    candidate = [after for _, after in SCORES]
    told(several, "small-base", [before for before, _ in SCORES])
    told(several, "small", candidate, inputs={"embed": vectors})
    assert knock("compare", several.config, "--force") == EXIT_DONE
    taught = several.report()["gained"][0]["taught"]
    assert [found["query"] for found in taught] == ["Question of old"]
    assert "\u201ca\u201d" in taught[0]["why"]
    artifact = open_artifact(several.store, "compare", "small", tmp_path)
    assert read_json(artifact.path("report.json"))["lost"][0]["taught"] == taught
