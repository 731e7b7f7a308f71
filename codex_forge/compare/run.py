"""The mode `compare`: two evaluate artifacts in, `compare/<name>/` out, with the verdict."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codex_forge.artifact import Artifact, Draft, Input
from codex_forge.compare.advice import BELOW_ALL_TIERS, MEASURE, NOT_JUDGED
from codex_forge.compare.html import render
from codex_forge.compare.report import Comparison, lineage
from codex_forge.config.sections import CompareConfig
from codex_forge.errors import GateNotMet, InputError
from codex_forge.job import Job
from codex_forge.jsonl import read_json, write_json

log = logging.getLogger("codex_forge")

_PARTS = {"test": "that training never saw", "dev": "(training may have chosen by them)"}


def run(job: Job) -> None:
    """Compare the run's candidate with its baseline, unless that is done.

    Raises:
        GateNotMet: `compare.gate.enforce` is set and the candidate does not pass.
    """
    config = job.config
    baseline = _open_evaluated(job, config.baseline_name)
    candidate = _open_evaluated(job, config.candidate_name)
    _check_same_questions(baseline, candidate)
    settings = {
        "seed": config.seed,
        "compare": config.compare.model_dump(
            mode="json", exclude={"baseline", "candidate", "gate"}
        ),
    }
    inputs = {"baseline": baseline.as_input(), "candidate": candidate.as_input()}
    recipe = job.recipe(config.compare_name, settings, inputs)
    draft = job.begin(recipe)
    if isinstance(draft, Draft):
        comparison = Comparison(baseline, candidate, config.compare, config.seed)
        report = comparison.report()
        report["lineage"] = lineage(list(_ancestors(job, [candidate, baseline])))
        report["versions"] = candidate.manifest.versions
        _write(draft, report, comparison.rows())
        where = draft.url
        log.info("wrote %s", where)
    else:
        done = job.open("compare", recipe.name)
        report, where = read_json(done.path("report.json")), done.version_url
    print(headline(report))
    print(f"report: {where}/report.html")
    check_gate(report, config.compare, where)


def _open_evaluated(job: Job, name: str) -> Artifact:
    """Open an evaluate artifact; when it is not there, say which commands make it."""
    made_by = {
        f"{job.config.name}-base": "jobs.embed and then jobs.evaluate with embed.model=base",
        f"{job.config.name}-bm25": "jobs.evaluate with evaluate.retriever=bm25",
    }
    try:
        return job.open("evaluate", name)
    except InputError as error:
        if name not in made_by:
            raise
        raise InputError(error.what, where=error.where, do=f"run {made_by[name]}") from error


def _check_same_questions(baseline: Artifact, candidate: Artifact) -> None:
    """Both must have answered the same questions under the same rubric."""
    settings = [a.manifest.settings["evaluate"] for a in (baseline, candidate)]
    differing = [
        key for key in ("part", "rubric_k", "k", "depth") if settings[0][key] != settings[1][key]
    ]
    if differing:
        raise InputError(
            f"baseline and candidate differ in evaluate.{differing[0]}",
            where=f"{baseline.url} and {candidate.url}",
            do="evaluate both with the same settings",
        )
    if baseline.manifest.inputs["pairs"].digest != candidate.manifest.inputs["pairs"].digest:
        raise InputError(
            "baseline and candidate were evaluated on different question banks",
            where=f"{baseline.url} and {candidate.url}",
            do="evaluate both on the same pairs artifact",
        )


def _ancestors(job: Job, artifacts: Sequence[Artifact]) -> Iterator[Artifact]:
    """The artifacts and all that they were made from, each once."""
    seen: set[tuple[str, str]] = set()
    queue = list(artifacts)
    while queue:
        artifact = queue.pop(0)
        key = (artifact.manifest.kind, artifact.manifest.name)
        if key in seen:
            continue
        seen.add(key)
        yield artifact
        for given in artifact.manifest.inputs.values():
            if given.kind in ("pairs", "train", "embed"):
                queue.append(_ancestor(job, artifact, given))


def _ancestor(job: Job, artifact: Artifact, given: Input) -> Artifact:
    """The artifact that another was made from, as it was then."""
    found = job.open(given.kind, given.name)
    if found.digest != given.digest:
        raise InputError(
            f"was made from another {given.kind} artifact {given.name!r} than is there now",
            where=artifact.url,
            do=f"run python -m jobs.{artifact.manifest.kind} --force",
        )
    return found


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


def headline(report: Mapping[str, Any]) -> str:
    """The few lines that a run ends with."""
    numbers = report["metrics"][MEASURE]
    percent = f"{100 * report['confidence']:g} %"
    lines = [
        "",
        f"  {report['questions']} {report['part']} questions "
        + (
            "that training never saw"
            if report["part"] == "test"
            else "(training may have chosen by)"
        ),
        *(_side_line(report, side, percent) for side in ("baseline", "candidate")),
        f"  {'difference':<32} {numbers['difference']:+.2f}    "
        f"({percent} interval {numbers['ci_low']:+.2f} to {numbers['ci_high']:+.2f}, "
        f"p {numbers['p_value']:.2g})",
        f"  {'win / tie / loss':<32} {numbers['win']} / {numbers['tie']} / {numbers['loss']}",
    ]
    for name, values in report["slices"].items():
        if name not in ("category", "exposure", "name_in_index"):
            lines += [_slice_line(name, value, found) for value, found in values.items()]
    lines += [
        f"  {'tier':<32} {report['tier']} (judged at {report['tier_judged_at']:.2f})",
        f"  {'verdict':<32} {report['verdict']} (smallest detectable difference "
        f"{_smallest(report)})",
        "",
    ]
    return "\n".join(lines)


def _smallest(report: Mapping[str, Any]) -> str:
    """The smallest detectable difference; unknown when no question changed."""
    found = report["smallest_detectable"]
    return "unknown" if found is None else f"{found:.2f}"


def _side_line(report: Mapping[str, Any], side: str, percent: str) -> str:
    numbers = report["metrics"][MEASURE]
    return (
        f"  {side:<9} {report[side]['name']:<22} {numbers[side]:.2f}/5   "
        f"({percent} interval {numbers[f'{side}_low']:.2f} to {numbers[f'{side}_high']:.2f})"
    )


def _slice_line(name: str, value: str, found: Mapping[str, Any]) -> str:
    return (
        f"  {f'{name} = {value}':<32} {found['baseline']:.2f} -> {found['candidate']:.2f}  "
        f"({found['ci_low']:+.2f} to {found['ci_high']:+.2f}, {found['questions']} questions)"
    )


def markdown(report: Mapping[str, Any]) -> str:
    """The comparison as Markdown, for a pull request or a ticket."""
    lines = [
        f"# {report['candidate']['name']} against {report['baseline']['name']}",
        "",
        f"**{report['verdict']}**, tier **{report['tier']}** "
        f"(judged at {report['tier_judged_at']:.2f}), {report['questions']} {report['part']} "
        f"questions, smallest detectable difference {_smallest(report)}.",
        "",
        "| measure | baseline | candidate | difference | interval | p | win / tie / loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, n in report["metrics"].items():
        lines.append(
            f"| {name} | {n['baseline']:.3f} | {n['candidate']:.3f} | {n['difference']:+.3f} | "
            f"{n['ci_low']:+.3f} to {n['ci_high']:+.3f} | {n['p_value']:.2g} | "
            f"{n['win']} / {n['tie']} / {n['loss']} |"
        )
    lines += ["", "| slice | questions | baseline | candidate | difference | interval |"]
    lines.append("|---|---|---|---|---|---|")
    for name, values in report["slices"].items():
        for value, n in values.items():
            lines.append(
                f"| {_cell(f'{name} = {value}')} | {n['questions']} | {n['baseline']:.2f} | "
                f"{n['candidate']:.2f} | {n['difference']:+.2f} | "
                f"{n['ci_low']:+.2f} to {n['ci_high']:+.2f} |"
            )
    lines += ["", *(f"- {advice}" for advice in report["recommendations"]), ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text from the data as one harmless cell of a Markdown table."""
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


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
