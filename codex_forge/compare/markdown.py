"""The comparison as Markdown, for a pull request or a ticket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from codex_forge.compare.words import asked, smallest
from codex_forge.spreadsheets import markdown_cell

Report = Mapping[str, Any]

_JUDGED = ("candidate", "baseline")
_NONE = "-"


def markdown(report: Report) -> str:
    """The verdict, and a table for each part of the report that there is."""
    judged = report["tier_judged_at"]
    at = "" if judged is None else f" (judged at {judged:.2f})"
    lines = [
        "# " + " against ".join(markdown_cell(report[side]["name"]) for side in _JUDGED),
        "",
        f"**{report['verdict']}**, tier **{report['tier']}**{at}, {asked(report)}, smallest "
        f"detectable difference {smallest(report)}.",
    ]
    for part in (_levels, _measures, _systems, _slices, _pairs, _must_pass, _everything):
        if found := list(part(report)):
            lines += ["", *found]
    lines += ["", *(f"- {markdown_cell(advice)}" for advice in report["recommendations"]), ""]
    return "\n".join(lines)


def _levels(report: Report) -> Iterator[str]:
    if level := report["measure_tier"]:
        yield f"Measure tier: **{level['name'] or 'none reached'}**."


def _measures(report: Report) -> Iterator[str]:
    if not report["metrics"]:
        return
    yield (
        "| measure | baseline | candidate | difference | interval | p | p of all "
        "| win / tie / loss |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for name, n in report["metrics"].items():
        counts = f"{n['win']} / {n['tie']} / {n['loss']}"
        yield f"{_measure(name, n)} {n['p_value']:.2g} | {n['p_holm']:.2g} | {counts} |"


def _systems(report: Report) -> Iterator[str]:
    """Every system, when there are more than the two."""
    if not any(system["role"] == "other" for system in report["systems"]):
        return
    yield f"| system | {report['measure']} | difference | interval | p of all | verdict | p50 ms |"
    yield "|---|---|---|---|---|---|---|"
    for system in report["systems"]:
        change, timed = system["difference"], system["latency_ms"]
        cells = [
            f"{markdown_cell(system['name'])} ({system['role']})",
            f"{system['metrics'][report['measure']]['value']:.3f}",
            f"{change['mean']:+.3f}" if change else _NONE,
            f"{change['low']:+.3f} to {change['high']:+.3f}" if change else _NONE,
            f"{change['p_holm']:.2g}" if change else _NONE,
            system["verdict"] or _NONE,
            f"{timed['p50']:.1f}" if timed else _NONE,
        ]
        yield f"| {' | '.join(cells)} |"


def _slices(report: Report) -> Iterator[str]:
    if not report["slices"]:
        return
    yield "| slice | questions | baseline | candidate | difference | interval |"
    yield "|---|---|---|---|---|---|"
    for name, values in report["slices"].items():
        for value, n in values.items():
            label = markdown_cell(f"{name} = {value}")
            yield (
                f"| {label} | {n['questions']} | {n['baseline']:.2f} | "
                f"{n['candidate']:.2f} | {n['difference']:+.2f} | "
                f"{n['ci_low']:+.2f} to {n['ci_high']:+.2f} |"
            )


def _pairs(report: Report) -> Iterator[str]:
    if not (found := report["pairs"]):
        return
    yield f"{found['pairs']} scored pairs in {found['groups']} groups:"
    yield ""
    yield "| measure of pairs | baseline | candidate | difference | interval |"
    yield "|---|---|---|---|---|"
    for name, n in found["measures"].items():
        yield _measure(name, n)
    yield ""
    verdicts = (f"{side} {each['verdict']}" for side, each in found["adversarial"].items())
    yield f"Meaning against shared words: {', '.join(verdicts)}."


def _must_pass(report: Report) -> Iterator[str]:
    if not (scenarios := report["must_pass"]["candidate"]):
        return
    yield "| must pass | within | rank | |"
    yield "|---|---|---|---|"
    for found in scenarios:
        word = "passed" if found["passed"] else "**failed**"
        query = markdown_cell(found["query"])
        yield f"| {query} | {found['k']} | {found['rank'] or _NONE} | {word} |"


def _everything(report: Report) -> Iterator[str]:
    """The number on all questions, for those who want to see how far it is from the held-out."""
    if not (found := report["all_questions"]):
        return
    parts = ", ".join(
        f"{part} {numbers['baseline']:.2f} -> {numbers['candidate']:.2f}"
        for part, numbers in found["parts"].items()
    )
    yield (
        f"On all {found['questions']} questions, trained ones too (not judged): "
        f"{found['baseline']:.2f} -> {found['candidate']:.2f} ({parts})."
    )


def _measure(name: str, n: Report) -> str:
    """The first cells of a measure's row: both sides, and their difference."""
    return (
        f"| {name} | {n['baseline']:.3f} | {n['candidate']:.3f} | {n['difference']:+.3f} | "
        f"{n['ci_low']:+.3f} to {n['ci_high']:+.3f} |"
    )
