"""The best weights of a stage, by one measure on dev data; and when to give up waiting for better.

The weights that a stage begins with are what it is compared with, never its best: a stage does not
end as if it had not been. Of equal measurements the earlier is the best.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codex_forge.config.train import ValidationConfig
from codex_forge.train.dev.metric import Metric

log = logging.getLogger("codex_forge")

WEIGHTS = "best.safetensors"

Save = Callable[[Path], None]
"""Writes the weights as they are now into a file."""


class Best:
    """Remembers the best measurement of a stage, and keeps its weights in a file."""

    def __init__(
        self,
        validation: ValidationConfig,
        metric: Metric,
        start: Mapping[str, Any],
        folder: Path | None,
    ) -> None:
        """A new stage.

        Args:
            validation: `keep` and `patience` count.
            metric: what is compared.
            start: measures of the weights that the stage begins with.
            folder: where the file of weights goes; None on a rank that writes none.
        """
        self.metric = metric
        self.start = _value(start, metric)
        self.step: int | None = None
        """Of the best measurement; None before the first that has a value."""
        self.value: float | None = None
        self._patience, self._keeps = validation.patience, validation.keep == "best"
        self._folder = folder if self._keeps else None
        self._last, self._stale = -1, 0

    @property
    def ends_with_best(self) -> bool:
        """Whether the stage is to end with the best weights and not the last; on every rank."""
        return self._keeps and self.step is not None

    @property
    def weights(self) -> Path | None:
        """The file of the best weights; None when none are kept."""
        if self._folder is None or self.step is None:
            return None
        return self._folder / WEIGHTS

    @property
    def should_stop(self) -> bool:
        """Whether `patience` measurements have come without a gain."""
        return 0 < self._patience <= self._stale

    def offer(self, step: int, measures: Mapping[str, Any], save: Save) -> bool:
        """Compare a measurement; returns whether it is the best, whose weights are then saved.

        A step that was offered before (a resumed run measures it again) changes nothing.
        """
        if step <= self._last:
            return False
        self._last = step
        value = _value(measures, self.metric)
        if not self.metric.gains(value, self.value):
            self._stale += 1
            return False
        self.step, self.value, self._stale = step, value, 0
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            save(self._folder / f"{WEIGHTS}.new")
            os.replace(self._folder / f"{WEIGHTS}.new", self._folder / WEIGHTS)
        return True

    def state(self) -> dict[str, Any]:
        """What a checkpoint must tell, for JSON; see `add_weights` for the rest."""
        return {
            "step": self.step,
            "value": self.value,
            "start": self.start,
            "last": self._last,
            "stale": self._stale,
        }

    def add_weights(self, checkpoint: Path) -> None:
        """Put the best weights into a checkpoint's folder (a link, where the disk allows it)."""
        if self.weights is None:
            return
        there = checkpoint / WEIGHTS
        there.unlink(missing_ok=True)
        try:
            os.link(self.weights, there)  # a later best is another file: see `offer`
        except OSError:
            shutil.copyfile(self.weights, there)

    def go_on_from(self, state: Mapping[str, Any], checkpoint: Path) -> None:
        """Take over what `state` told and `add_weights` put into the checkpoint's folder."""
        self.step, self.value, self.start = state["step"], state["value"], state["start"]
        self._last, self._stale = state["last"], state["stale"]
        if self.weights is not None:
            self.weights.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkpoint / WEIGHTS, self.weights)

    def closing(self, stage: str) -> dict[str, Any]:
        """What the summary says of the stage; warns when it made nothing better."""
        name = self.metric.name
        if self.step is None:
            log.warning("  %s: no measurement of %s has a value", stage, name)
        elif not self.metric.gains(self.value, self.start):
            log.warning(
                "  %s: nothing beat what the stage began with: %s %s at best (step %d), %s before",
                stage,
                name,
                _said(self.value),
                self.step,
                _said(self.start),
            )
        return {
            "metric": name,
            "start": self.start,
            "best": self.value,
            "best_step": self.step,
            "stopped_early": self.should_stop,
        }


def _value(measures: Mapping[str, Any], metric: Metric) -> float | None:
    found = measures.get(metric.name)
    return None if found is None else float(found)


def _said(value: float | None) -> str:
    return "no value" if value is None else f"{value:.4f}"
