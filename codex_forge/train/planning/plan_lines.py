"""A plan as lines of the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from codex_forge.train.planning.forecast import duration
from codex_forge.train.planning.plan_warnings import gib

log = logging.getLogger("codex_forge")


def show(plan: Mapping[str, Any]) -> None:
    """Say a plan, its warnings last."""
    for line in lines_of(plan):
        log.info("  %s", line)
    for warning in plan["warnings"]:
        log.warning("  warning: %s", warning)


def lines_of(plan: Mapping[str, Any]) -> list[str]:
    """Each stage, then what all of them take."""
    said = {
        "steps": f"{plan['steps']:,}",
        "time": _time(plan),
        "memory": _memory(plan["memory"]),
        "disk": _disk(plan["disk"]),
    }
    return [
        *(line for stage in plan["stages"] for line in _stage(stage)),
        *(f"{name:<6}  {text}" for name, text in said.items()),
        "nothing was trained, and nothing written",
    ]


def _stage(stage: Mapping[str, Any]) -> Iterator[str]:
    left_out = "".join(f", {count:,} {why}" for why, count in stage["left_out"].items())
    kind = "" if stage["stage"] == stage["objective"] else f" ({stage['objective']})"
    yield f"{stage['stage']}{kind}"
    yield f"  rows    {stage['rows']:,}{f'; left out{left_out[1:]}' if left_out else ''}"
    epochs = f"{stage['epochs']:g} epochs of {stage['batches']:,} batches"
    yield f"  steps   {stage['steps']:,} in {epochs}"
    if stage["padding_share"] is not None:
        yield (
            f"  tokens  {stage['tokens_an_epoch']:,} an epoch, and {stage['padding_share']:.1%} "
            f"padding; {stage['distinct_texts']:,} texts that differ"
        )
    if stage["seconds"]["about"]:
        step = stage["seconds"]["about"] / stage["steps"]
        yield f"  time    {_range(stage['seconds'])}: {duration(step)} a step"


def _time(plan: Mapping[str, Any]) -> str:
    if not plan["seconds"]["about"]:
        return "not known: nothing was measured"
    parts = sorted(plan["seconds_by_phase"].items(), key=lambda part: -part[1])
    said = ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in parts if seconds)
    return f"{_range(plan['seconds'])}: {said}"


def _range(seconds: Mapping[str, float]) -> str:
    low, about, high = (duration(seconds[key]) for key in ("low", "about", "high"))
    return f"about {about} ({low} to {high})"


def _memory(memory: Mapping[str, Any]) -> str:
    return (
        f"{gib(memory['longest_batch'])} for the largest batch ({gib(memory['probed'])} were "
        f"measured) of {gib(memory['total'])} on {memory['device']}"
    )


def _disk(disk: Mapping[str, int]) -> str:
    parts = ", ".join(f"{what} {gib(size)}" for what, size in disk.items() if what != "free")
    return f"{parts or 'next to nothing'}; {gib(disk['free'])} are free"
