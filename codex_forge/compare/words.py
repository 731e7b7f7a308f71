"""The comparison in words: the few lines on the terminal, and Markdown for a ticket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codex_forge.compare.advice import MEASURE

_LEFT_OUT = ("category", "name_in_index", "fold")
"""Slices that only the report shows."""


def headline(report: Mapping[str, Any]) -> str:
    """The few lines that a run ends with."""
    numbers = report["metrics"][MEASURE]
    percent = f"{100 * report['confidence']:g} %"
    lines = [
        "",
        f"  {_asked(report)}",
        *(_side_line(report, side, percent) for side in ("baseline", "candidate")),
        f"  {'difference':<32} {numbers['difference']:+.2f}    "
        f"({percent} interval {numbers['ci_low']:+.2f} to {numbers['ci_high']:+.2f}, "
        f"p {numbers['p_value']:.2g})",
        f"  {'win / tie / loss':<32} {numbers['win']} / {numbers['tie']} / {numbers['loss']}",
    ]
    for name, values in report["slices"].items():
        if name not in _LEFT_OUT:
            lines += [
                _slice_line(name, value, found)
                for value, found in values.items()
                if value != "trained_chunk"
            ]
    if everything := report["all_questions"]:
        lines.append(
            f"  {'all questions, trained ones too':<32} {everything['baseline']:.2f} -> "
            f"{everything['candidate']:.2f}  (not judged, {everything['questions']} questions)"
        )
    lines += [
        f"  {'tier':<32} {report['tier']} (judged at {report['tier_judged_at']:.2f})",
        f"  {'verdict':<32} {report['verdict']} (smallest detectable difference "
        f"{_smallest(report)})",
        "",
    ]
    return "\n".join(lines)


def _asked(report: Mapping[str, Any]) -> str:
    """Which questions, and why they can be trusted."""
    if report["folds"]:
        return (
            f"{report['questions']} questions, cross-fitted: each scored by the one of "
            f"{report['folds']} models that never saw it"
        )
    trust = "that training never saw"
    if report["part"] != "test":
        trust = "(training may have chosen by)"
    return f"{report['questions']} {report['part']} questions {trust}"


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
        f"(judged at {report['tier_judged_at']:.2f}), {_asked(report)}, smallest detectable "
        f"difference {_smallest(report)}.",
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
    lines += _everything(report)
    lines += ["", *(f"- {advice}" for advice in report["recommendations"]), ""]
    return "\n".join(lines)


def _everything(report: Mapping[str, Any]) -> list[str]:
    """The number on all questions, for those who want to see how far it is from the held-out."""
    if not (found := report["all_questions"]):
        return []
    parts = ", ".join(
        f"{part} {numbers['baseline']:.2f} -> {numbers['candidate']:.2f}"
        for part, numbers in found["parts"].items()
    )
    return [
        "",
        f"On all {found['questions']} questions, trained ones too (not judged): "
        f"{found['baseline']:.2f} -> {found['candidate']:.2f} ({parts}).",
    ]


def _cell(text: str) -> str:
    """Text from the data as one harmless cell of a Markdown table."""
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
