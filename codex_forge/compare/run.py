"""The mode `compare`: two evaluate artifacts in, `compare/<name>/` out, with the verdict."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codex_forge.artifact import Draft
from codex_forge.compare.advice import BELOW_ALL_TIERS, NOT_JUDGED
from codex_forge.compare.html import render
from codex_forge.compare.lineage import ancestors, lineage
from codex_forge.compare.report import Comparison
from codex_forge.compare.sides import open_sides
from codex_forge.compare.unjudged import all_questions, find_all
from codex_forge.compare.words import headline, markdown
from codex_forge.config.sections import CompareConfig
from codex_forge.errors import GateNotMet
from codex_forge.job import Job
from codex_forge.jsonl import read_json, write_json

log = logging.getLogger("codex_forge")


def run(job: Job) -> None:
    """Compare the run's candidate with its baseline, over all folds if there are, unless done.

    Raises:
        GateNotMet: `compare.gate.enforce` is set and the candidate does not pass.
    """
    config = job.config
    baseline, candidate = open_sides(job)
    everything = find_all(job, {"baseline": baseline, "candidate": candidate})
    settings = {
        "seed": config.seed,
        "compare": config.compare.model_dump(
            mode="json", exclude={"baseline", "candidate", "gate"}
        ),
    }
    inputs = {
        **baseline.inputs("baseline"),
        **candidate.inputs("candidate"),
        **{f"{role}-all": artifact.as_input() for role, artifact in everything.items()},
    }
    recipe = job.recipe(config.compare_name, settings, inputs)
    draft = job.begin(recipe)
    if isinstance(draft, Draft):
        numbers = all_questions(everything)
        comparison = Comparison(baseline, candidate, config.compare, config.seed, numbers)
        report = comparison.report()
        judged = [*candidate.artifacts, *baseline.artifacts]
        report["lineage"] = lineage(list(ancestors(job, judged)))
        report["versions"] = candidate.artifacts[0].manifest.versions
        _write(draft, report, comparison.rows())
        where = draft.url
        log.info("wrote %s", where)
    else:
        done = job.open("compare", recipe.name)
        report, where = read_json(done.path("report.json")), done.version_url
    print(headline(report))
    print(f"report: {where}/report.html")
    check_gate(report, config.compare, where)


def _write(draft: Draft, report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    write_json(draft.path("report.json"), report)
    draft.path("report.html").write_text(render(report, rows), encoding="utf-8")
    draft.path("summary.md").write_text(markdown(report), encoding="utf-8")
    _write_csv(draft.path("per_question.csv"), rows)
    summary = {"verdict": report["verdict"], "tier": report["tier"]}
    # These two hold latencies, which differ between equal runs.
    draft.commit({"questions": len(rows)}, summary, volatile=("report.json", "report.html"))


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def check_gate(report: Mapping[str, Any], config: CompareConfig, where: str) -> None:
    """Fail when the gate is enforced and the candidate does not reach it."""
    if not config.gate.enforce:
        return
    order = [NOT_JUDGED, BELOW_ALL_TIERS, *(tier.name for tier in config.tiers)]
    if order.index(report["tier"]) < order.index(config.gate.min_tier):
        raise GateNotMet(
            f"tier {report['tier']} is below {config.gate.min_tier}",
            where=where,
            do="read the recommendations in report.html",
        )
    if config.gate.require_improved and report["verdict"] != "improved":
        raise GateNotMet(f"the verdict is {report['verdict']}", where=where)
