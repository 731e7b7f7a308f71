"""What a candidate must reach for the job to succeed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from codex_forge.compare.tiers import BELOW_ALL_TIERS, NOT_JUDGED, TOO_FEW
from codex_forge.config.sections import CompareConfig
from codex_forge.errors import GateNotMet

Report = Mapping[str, Any]


def check_gate(report: Report, config: CompareConfig, where: str) -> None:
    """Fail when the gate is enforced and the candidate does not reach it.

    Raises:
        GateNotMet: names all that was not reached.
    """
    if config.gate.enforce and (failed := list(_failed(report, config))):
        raise GateNotMet(
            "; ".join(failed), where=where, do="read the recommendations in report.html"
        )


def _failed(report: Report, config: CompareConfig) -> Iterator[str]:
    gate = config.gate
    if report["tier"] != NOT_JUDGED:  # there is no rubric without questions
        order = [TOO_FEW, BELOW_ALL_TIERS, *(tier.name for tier in config.tiers)]
        if order.index(report["tier"]) < order.index(gate.min_tier):
            yield f"tier {report['tier']} is below {gate.min_tier}"
    if gate.min_measure_tier:
        yield from _measures(report, gate.min_measure_tier)
    if gate.require_improved and report["verdict"] != "improved":
        yield f"the verdict is {report['verdict']}"
    if gate.must_pass:
        for found in report["must_pass"]["candidate"]:
            if not found["passed"]:
                rank = f"at rank {found['rank']}" if found["rank"] else "not found"
                yield (
                    f"{found['query']!r} must find {' or '.join(found['expects'])} among the first "
                    f"{found['k']}, and it is {rank}"
                )


def _measures(report: Report, wanted: str) -> Iterator[str]:
    """The measures that keep the candidate from the wanted level, or from one below it."""
    levels = report["measure_tier"]["levels"] if report["measure_tier"] else []
    names = [level["name"] for level in levels]
    if wanted not in names:
        yield f"measure tier {wanted} was not judged: its measures were not taken, or on too few"
        return
    for level in levels[: names.index(wanted) + 1]:
        low = [
            f"{name} {level['values'][name]:.3f} is below {least}"
            for name, least in level["at_least"].items()
            if level["values"][name] < least
        ]
        if low:
            yield f"measure tier {level['name']} is not reached ({', '.join(low)})"
