"""The mode `compare`: two evaluate artifacts in, `compare/<name>/` out, with the verdict."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from codex_forge.artifact import Draft
from codex_forge.compare.audited import cut_texts, find_audit
from codex_forge.compare.gate import check_gate
from codex_forge.compare.html import render
from codex_forge.compare.lineage import ancestors, lineage
from codex_forge.compare.markdown import markdown
from codex_forge.compare.presence import check_there
from codex_forge.compare.report import Comparison
from codex_forge.compare.sides import open_others, open_sides, other_names
from codex_forge.compare.teaching import Teaching
from codex_forge.compare.unjudged import all_questions, find_all
from codex_forge.compare.words import headline
from codex_forge.job import Job
from codex_forge.jsonl import read_json, write_json
from codex_forge.spreadsheets import write_table

log = logging.getLogger("codex_forge")

_NO_SETTINGS = {"baseline", "candidate", "others", "gate"}
"""Keys that name inputs, or that are judged anew each time."""


def run(job: Job) -> None:
    """Compare the run's candidate with its baseline, over all folds if there are, unless done.

    Raises:
        GateNotMet: `compare.gate.enforce` is set and the candidate does not pass.
    """
    config = job.config
    names = (config.baseline_name, config.candidate_name, *other_names(config))
    check_there(job, names)
    baseline, candidate = open_sides(job)
    others = open_others(job, baseline)
    everything = find_all(job, {"baseline": baseline, "candidate": candidate})
    audit = find_audit(job, candidate)
    settings = {
        "seed": config.seed,
        "compare": config.compare.model_dump(mode="json", exclude=_NO_SETTINGS),
    }
    inputs = {**baseline.inputs("baseline"), **candidate.inputs("candidate")}
    for other in others:
        inputs.update(other.inputs(f"other-{other.name}"))
    inputs |= {f"{role}-all": artifact.as_input() for role, artifact in everything.items()}
    inputs |= {} if audit is None else {"audit": audit.as_input()}
    recipe = job.recipe(config.compare_name, settings, inputs)
    draft = job.begin(recipe)
    if isinstance(draft, Draft):
        comparison = Comparison(
            baseline,
            candidate,
            config.compare,
            config.seed,
            others=others,
            everything=all_questions(everything),
            audit=cut_texts(audit),
            teach=Teaching(job, candidate).of,
        )
        report = comparison.report()
        made = [a for side in (candidate, baseline, *others) for a in side.artifacts]
        report["lineage"] = lineage(list(ancestors(job, made)))
        report["versions"] = candidate.artifacts[0].manifest.versions
        _write(draft, report, comparison)
        where = draft.url
        log.info("wrote %s", where)
    else:
        done = job.open("compare", recipe.name)
        report, where = read_json(done.path("report.json")), done.version_url
    print(headline(report))
    print(f"report: {where}/report.html")
    check_gate(report, config.compare, where)


def _write(draft: Draft, report: Mapping[str, Any], comparison: Comparison) -> None:
    rows, pairs = comparison.rows(), comparison.pair_rows()
    write_json(draft.path("report.json"), report)
    draft.path("report.html").write_text(render(report, rows), encoding="utf-8")
    draft.path("summary.md").write_text(markdown(report), encoding="utf-8")
    for name, table in (("per_question.csv", rows), ("per_pair.csv", pairs)):
        if table:
            write_table(draft.path(name), list(table[0]), (row.values() for row in table))
    counts = {"questions": len(rows), "pairs": len(pairs)}
    summary = {"verdict": report["verdict"], "tier": report["tier"]}
    # These hold latencies, which differ between equal runs.
    draft.commit(counts, summary, volatile=("report.json", "report.html", "summary.md"))
