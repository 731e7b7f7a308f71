"""The closing summary of a training as aligned lines, numbers with their units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_COLUMNS = ("stage", "rows", "steps", "epochs", "loss first", "final", "best", "seconds", "pairs/s")


def lines_of(summary: Mapping[str, Any]) -> list[str]:
    """The summary as aligned lines, numbers with their units."""
    said = {
        "dev": _said_dev(summary["dev"]),
        "time": _said_time(summary),
        "speed": _said_speed(summary),
        "memory": f"{summary['peak_memory_mib']:,} MiB at most on {summary['device']}, "
        f"{summary['precision']}, ranks: {summary['ranks']}",
        "parameters": f"{summary['trainable_parameters']:,} trainable of {summary['parameters']:,}",
        "micro-batch": _said_micro_batch(summary["micro_batch"]),
        "resumed": _said_resumed(summary["resumed_from_step"]),
        "planned": _said_plan(summary, summary.get("planned")),
    }
    wide = max(map(len, said))
    return [*_table(summary["stages"]), *(f"{k:<{wide}}  {v}" for k, v in said.items() if v)]


def _table(stages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line a stage, in columns."""
    lines = [_COLUMNS, *(_cells(stage) for stage in stages)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        first, *others = zip(cells, widths, strict=True)
        yield "  ".join([first[0].ljust(first[1]), *(cell.rjust(w) for cell, w in others)])


def _cells(stage: Mapping[str, Any]) -> tuple[str, ...]:
    speed = stage.get("pairs_per_second")
    return (
        str(stage["stage"]),
        f"{stage['rows']:,}",
        f"{stage['steps']:,}",
        f"{stage['epochs']:.2f}",
        *(_number(stage[key]) for key in ("first_loss", "final_loss", "best_loss")),
        f"{stage['seconds']:,.1f}",
        "-" if speed is None else f"{speed:,.1f}",
    )


def _said_dev(dev: Mapping[str, Any] | None) -> str:
    if dev is None:
        return ""
    best = f"{_number(dev['best'])} at best (step {dev['best_step']})"
    return f"{dev['metric']} {best}, base model {_number(dev['base'])}"


def _said_time(summary: Mapping[str, Any]) -> str:
    parts = sorted(summary["seconds_by_phase"].items(), key=lambda part: -part[1])
    said = ", ".join(f"{name} {seconds:,.1f}" for name, seconds in parts)
    return f"{summary['seconds']:,.1f} s: {said}"


def _said_speed(summary: Mapping[str, Any]) -> str:
    if summary["pairs_per_second"] is None or summary["padding_share"] is None:
        return ""
    return (
        f"{summary['pairs_per_second']:,.1f} pairs/s, {summary['tokens_per_second']:,.0f} tokens/s "
        f"({summary['padding_share']:.1%} padding), {summary['texts_saved']:.2f} texts of the rows "
        "for each that was encoded"
    )


def _said_micro_batch(state: Mapping[str, Any]) -> str:
    cached = ", cached" if state["cached"] else ""
    steps = "".join(
        f"; out of memory: {before:,} -> {after:,}" for before, after in state["halved"]
    )
    return f"{state['tokens']:,} tokens{cached}{steps}"


def _said_resumed(step: int | None) -> str:
    return "" if step is None else f"from the checkpoint of step {step}"


def _said_plan(summary: Mapping[str, Any], planned: Mapping[str, Any] | None) -> str:
    """Plan beside fact."""
    if not planned:
        return ""
    said = f"{planned['steps']:,} steps; {summary['steps']:,} were taken"
    if (seconds := planned.get("seconds")) is not None:
        took = summary["seconds_by_phase"].get("train", 0.0)
        off = f" ({took / seconds - 1:+.0%})" if seconds else ""
        said += f"; training {seconds:,.0f} s, it took {took:,.0f} s{off}"
    return said


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
