"""The metric history of a training run: a line a step on the log, and JSONL; pictures beside it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from codex_forge.jsonl import write_jsonl
from codex_forge.train.dev.metric import Metric
from codex_forge.train.dev.validation import COUNTS
from codex_forge.train.report import curves
from codex_forge.train.report.reporting import Reporter

log = logging.getLogger("codex_forge")

Entry = dict[str, Any]
"""`stage`, `step` (over all stages), `epoch` (of the stage), `seconds`, and measures: numbers."""

_KEPT = ("loss", "learning_rate", "grad_norm")


class History(TrainerCallback):  # type: ignore[misc]
    """Collects what the trainer logs and what is measured on dev data, over all stages."""

    def __init__(self, reporter: Reporter | None = None) -> None:
        """Start the clock; entries go to the `reporter` too."""
        self._reporter = reporter
        self.entries: list[Entry] = []
        self.stage = ""
        """Name of the stage that trains."""
        self.offset = 0
        """Optimizer steps of the stages before it."""
        self.metric: Metric | None = None
        """What chooses the best weights; the picture shows it first."""
        self._start = time.monotonic()

    def go_on_from(self, entries: list[Entry]) -> None:
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
        """Keep one entry and say it; what is not finite is said, but JSON has no word for it."""
        found = {key: float(logs[key]) for key in _KEPT if logs and key in logs}
        if not found:
            return
        self._add(state.global_step, float(state.epoch or 0), found)
        said = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
        last = self.offset + state.max_steps
        stage = f" ({self.stage})" if self.stage else ""
        log.info("  step %d of %d%s: %s", self.offset + state.global_step, last, stage, said)

    def measured(self, step: int, measures: Mapping[str, Any], *, epoch: float = 0.0) -> None:
        """Keep what was measured on dev data: `dev_ndcg@10`, `dev_<domain>_recall@5` and so on.

        `step` is counted in the stage, as the trainer counts it; 0 is before its first step.
        """
        self._add(step, epoch, dict(_flat(measures)))

    def series(self, key: str, stage: str | None = None) -> list[tuple[int, float]]:
        """(step, value) of one measure, of all stages or of one."""
        return [
            (int(entry["step"]), entry[key])
            for entry in self.entries
            if key in entry and stage in (None, entry["stage"])
        ]

    def _add(self, step: int, epoch: float, values: dict[str, float]) -> None:
        self.entries.append(
            {
                "stage": self.stage,
                "step": self.offset + step,
                "epoch": epoch,
                "seconds": round(time.monotonic() - self._start, 2),
                **{key: value for key, value in values.items() if math.isfinite(value)},
            }
        )
        if self._reporter is not None:
            self._reporter.entry(self.offset + step, self.entries[-1])


def _flat(measures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The measures that have a value, under keys of their own."""
    for name, value in measures.items():
        if isinstance(value, float):
            yield f"dev_{name}", value
    for domain, own in measures["by_domain"].items():
        for name, value in own.items():
            if name not in COUNTS and value is not None:
                yield f"dev_{domain}_{name}", value


def write_history(history: History, folder: Path) -> None:
    """Write `metrics.jsonl`, `loss.svg` and, where domains were measured, `dev.svg`."""
    write_jsonl(folder / "metrics.jsonl", history.entries)
    picture = curves.training(history.entries, history.metric)
    (folder / "loss.svg").write_text(picture, encoding="utf-8")
    if by_domain := curves.domains(history.entries):
        (folder / "dev.svg").write_text(by_domain, encoding="utf-8")
