"""The metric history of a training run: a line a step on the log, JSONL, and a picture."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from codex_forge.jsonl import write_jsonl

log = logging.getLogger("codex_forge")

_KEPT = ("loss", "eval_loss", "learning_rate", "grad_norm")


class History(TrainerCallback):  # type: ignore[misc]
    """Collects what the trainer logs; `entries` hold step, epoch, seconds and measures."""

    def __init__(self) -> None:
        """Start the clock."""
        self.entries: list[dict[str, float]] = []
        self._start = time.monotonic()

    def go_on_from(self, entries: list[dict[str, float]]) -> None:
        """Take over the entries of a run that this one continues, and its clock."""
        self.entries = list(entries)
        self._start -= max((entry["seconds"] for entry in entries), default=0.0)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Log the last step, whatever the interval."""
        control.should_log |= state.global_step >= state.max_steps

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Keep one entry and say it."""
        found = {key: float(logs[key]) for key in _KEPT if logs and key in logs}
        if not found:
            return
        seconds = round(time.monotonic() - self._start, 2)
        self.entries.append(
            {
                "step": state.global_step,
                "epoch": float(state.epoch or 0),
                "seconds": seconds,
                **found,
            }
        )
        said = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
        log.info("  step %d of %d: %s", state.global_step, state.max_steps, said)

    def series(self, key: str) -> list[tuple[int, float]]:
        """(step, value) of one measure."""
        return [(int(e["step"]), e[key]) for e in self.entries if key in e]


def write_history(history: History, folder: Path) -> None:
    """Write `metrics.jsonl` and `loss.svg`."""
    write_jsonl(folder / "metrics.jsonl", history.entries)
    (folder / "loss.svg").write_text(_picture(history), encoding="utf-8")


def _picture(history: History) -> str:
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for key, label in (("loss", "train loss"), ("eval_loss", "dev loss")):
        if series := history.series(key):
            axes.plot(*zip(*series, strict=True), marker="o", markersize=3, label=label)
    rate = axes.twinx()
    if series := history.series("learning_rate"):
        rate.plot(*zip(*series, strict=True), color="tab:gray", alpha=0.5, label="learning rate")
    axes.set(xlabel="optimizer step", ylabel="loss")
    rate.set_ylabel("learning rate")
    axes.legend(loc="upper right")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
