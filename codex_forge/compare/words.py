"""The comparison in words: the few lines on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_LEFT_OUT = ("category", "name_in_index", "fold")
"""Slices that only the report shows."""
_PAIR_MEASURES = ("spearman", "roc_auc", "f1")
"""Of scored pairs; the others are in the report."""

Report = Mapping[str, Any]


def headline(report: Report) -> str:
    """The few lines that a run ends with."""
    lines = ["", f"  {asked(report)}"]
    if report["questions"]:
        lines += _questions(report)
    if report["pairs"]:
        lines += _pairs(report)
    lines += [*_systems(report), *_levels(report)]
    lines.append(
        f"  {'verdict':<32} {report['verdict']} (smallest detectable difference {smallest(report)})"
    )
    return "\n".join([*lines, ""])


def asked(report: Report) -> str:
    """What was judged on, and why it can be trusted."""
    if not report["questions"]:
        pairs = report["pairs"]
        return f"{pairs['pairs']} scored {report['part']} pairs in {pairs['groups']} groups"
    if report["folds"]:
        return (
            f"{report['questions']} questions, cross-fitted: each scored by the one of "
            f"{report['folds']} models that never saw it"
        )
    trust = "that training never saw"
    if report["part"] != "test":
        trust = "(training may have chosen by)"
    return f"{report['questions']} {report['part']} questions {trust}"


def smallest(report: Report) -> str:
    """The smallest detectable difference; unknown when nothing changed."""
    found = report["smallest_detectable"]
    return "unknown" if found is None else f"{found:.{2 if report['questions'] else 3}f}"


def _questions(report: Report) -> Iterator[str]:
    numbers = report["metrics"][report["measure"]]
    percent = f"{100 * report['confidence']:g} %"
    yield from (_side_line(report, side, percent) for side in ("baseline", "candidate"))
    yield (
        f"  {'difference':<32} {numbers['difference']:+.2f}    "
        f"({percent} interval {numbers['ci_low']:+.2f} to {numbers['ci_high']:+.2f}, "
        f"p {numbers['p_value']:.2g})"
    )
    yield f"  {'win / tie / loss':<32} {numbers['win']} / {numbers['tie']} / {numbers['loss']}"
    for name, values in report["slices"].items():
        if name not in _LEFT_OUT:
            for value, found in values.items():
                if value != "trained_chunk":
                    yield _slice_line(name, value, found)
    if everything := report["all_questions"]:
        yield (
            f"  {'all questions, trained ones too':<32} {everything['baseline']:.2f} -> "
            f"{everything['candidate']:.2f}  (not judged, {everything['questions']} questions)"
        )


def _pairs(report: Report) -> Iterator[str]:
    """The measures of scored pairs, the judged one with its p-value."""
    found = report["pairs"]
    told = dict.fromkeys((found["measure"], *_PAIR_MEASURES))
    for name in (name for name in told if name in found["measures"]):
        n = found["measures"][name]
        p_value = "" if n["p_value"] is None else f", p {n['p_value']:.2g}"
        yield (
            f"  {f'{name} of scored pairs':<32} {n['baseline']:.3f} -> {n['candidate']:.3f}  "
            f"({n['ci_low']:+.3f} to {n['ci_high']:+.3f}{p_value})"
        )
    verdict = found["adversarial"]["candidate"]["verdict"]
    yield f"  {'meaning against shared words':<32} {verdict}"


def _systems(report: Report) -> Iterator[str]:
    """One line a system, when there are more than two."""
    if not any(system["role"] == "other" for system in report["systems"]):
        return
    digits = 2 if report["questions"] else 3
    for system in report["systems"]:
        value = system["metrics"][report["measure"]]["value"]
        line = f"  {system['name']:<32} {value:.{digits}f}"
        if change := system["difference"]:
            line += (
                f"    ({change['mean']:+.{digits}f}, {change['low']:+.{digits}f} to "
                f"{change['high']:+.{digits}f}, {system['verdict']})"
            )
        yield line


def _levels(report: Report) -> Iterator[str]:
    if report["tier_judged_at"] is not None:
        yield f"  {'tier':<32} {report['tier']} (judged at {report['tier_judged_at']:.2f})"
    if level := report["measure_tier"]:
        yield f"  {'measure tier':<32} {level['name'] or 'none reached'}"
    scenarios = report["must_pass"]["candidate"]
    if scenarios:
        passed = sum(found["passed"] for found in scenarios)
        yield f"  {'must pass':<32} {passed} of {len(scenarios)}"


def _side_line(report: Report, side: str, percent: str) -> str:
    numbers = report["metrics"][report["measure"]]
    return (
        f"  {side:<9} {report[side]['name']:<22} {numbers[side]:.2f}/5   "
        f"({percent} interval {numbers[f'{side}_low']:.2f} to {numbers[f'{side}_high']:.2f})"
    )


def _slice_line(name: str, value: str, found: Mapping[str, Any]) -> str:
    return (
        f"  {f'{name} = {value}':<32} {found['baseline']:.2f} -> {found['candidate']:.2f}  "
        f"({found['ci_low']:+.2f} to {found['ci_high']:+.2f}, {found['questions']} questions)"
    )
