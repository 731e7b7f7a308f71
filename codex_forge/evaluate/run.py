"""The mode `evaluate`: questions or scored pairs and a model in, `evaluate/<name>/` out."""

from __future__ import annotations

import logging
from typing import Any

from codex_forge.artifact import Artifact, Draft
from codex_forge.evaluate.given import (
    Given,
    check_same_split,
    check_scored_alone,
    given,
    has_scored,
)
from codex_forge.evaluate.model import Model
from codex_forge.evaluate.must_pass import line_of
from codex_forge.evaluate.tables import headline, markdown, numbers
from codex_forge.job import Job
from codex_forge.jsonl import read_json, write_json, write_jsonl
from codex_forge.model.in_use import ModelInUse, find_model, settings_of
from codex_forge.pair_files import has_questions

log = logging.getLogger("codex_forge")

Report = dict[str, Any]

_VOLATILE = ("report.json", "summary.md")
"""They hold times, which differ between equal runs."""


def run(job: Job) -> None:
    """Evaluate one retriever, or a model on scored pairs alone, unless that is done."""
    pairs = job.open("pairs", job.config.pairs_name)
    alone = _model_alone(job, pairs)
    found = given(job, pairs, alone.identity if alone else None)
    recipe = job.recipe(job.config.evaluate_name, _settings(job, alone), found.inputs)
    draft = job.begin(recipe)
    if isinstance(draft, Draft):
        report = write(job, found, alone, draft)
        log.info("wrote %s", draft.url)
    else:
        report = read_json(job.open("evaluate", recipe.name).path("report.json"))
    _log_report(report)


def _model_alone(job: Job, pairs: Artifact) -> ModelInUse | None:
    """The model to judge by its cosines, where there are scored pairs and no questions."""
    if has_questions(pairs) or not has_scored(pairs):
        return None
    check_scored_alone(job)
    model = find_model(job.config, job.open)
    check_same_split(job, model.identity, pairs)
    return model


def _settings(job: Job, alone: ModelInUse | None) -> dict[str, Any]:
    """What determines the numbers, beside the inputs."""
    config = job.config.evaluate
    without = {"latency_queries", *(() if config.retriever == "hybrid" else ("hybrid",))}
    settings = {"evaluate": config.model_dump(mode="json", exclude=without)}
    return settings | (settings_of(job.config, alone) if alone else {})


def write(job: Job, found: Given, alone: ModelInUse | None, draft: Draft) -> Report:
    """Measure, write and commit; returns the report."""
    model = Model(job, found, alone)
    report = _nothing_yet(job, model)
    if found.files is not None:
        from codex_forge.evaluate.retrieval import Retrieval

        report |= Retrieval(job, found, found.files, model).write(draft)
    else:
        write_jsonl(draft.path("per_question.jsonl"), ())
    if job.config.evaluate.retriever == "dense" and has_scored(found.pairs):
        from codex_forge.evaluate.pairs import pair_report

        # Scored pairs are trained in the role of queries.
        encode = model.encoder.encode_query
        report["pairs"] = pair_report(found.pairs, job.config.evaluate, encode, draft.folder)
    write_json(draft.path("report.json"), report)
    draft.path("summary.md").write_text(markdown(report), encoding="utf-8")
    draft.commit(_counts(report), _summary(report), _VOLATILE)
    return report


def _nothing_yet(job: Job, model: Model) -> Report:
    """The report before anything is measured: every key is there."""
    config = job.config
    return {
        "name": config.evaluate_name,
        "retriever": config.evaluate.retriever,
        "model": model.name,
        "part": config.evaluate.part,
        "questions": 0,
        "metrics": {},
        "slices": {},
        "latency_ms": None,
        "queries_per_second": None,
        "index_bytes": None,
        "vectors": None,
        "dimension": None,
        "hybrid": None,
        "chroma": None,
        "must_pass": [],
        "pairs": None,
    }


def _counts(report: Report) -> dict[str, int]:
    pairs = {"pairs": report["pairs"]["test"]["pairs"]} if report["pairs"] else {}
    return {"questions": report["questions"], **pairs}


def _summary(report: Report) -> dict[str, Any]:
    measures = report["metrics"] or (report["pairs"] or {"test": {"values": {}}})["test"]["values"]
    told = [name for name in ("rubric", "spearman", "roc_auc") if measures.get(name) is not None]
    return {"retriever": report["retriever"], **{name: measures[name] for name in told[:1]}}


def _log_report(report: Report) -> None:
    log.info("  %s", headline(report))
    for name, value in numbers(report, every=False):
        log.info("  %-20s %s", name, value)
    for scenario in report["must_pass"]:
        log.info("  %s", line_of(scenario))
    held = report["slices"].get("part", {}).get("test")
    if held:
        log.info(
            "  of these, %d held-out test questions: rubric %.2f/5 (the number to judge by)",
            held["questions"],
            held["metrics"]["rubric"],
        )
