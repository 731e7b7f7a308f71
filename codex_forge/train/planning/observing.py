"""Watches the time of optimizer steps, so that what is left of a training can be foretold."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from codex_forge.train.planning.forecast import Forecast
from codex_forge.train.report.summary import Tally


class Observing(TrainerCallback):  # type: ignore[misc]
    """Tells a forecast the tokens and seconds of each step; measurements and saves do not count."""

    def __init__(self, forecast: Forecast, tally: Tally) -> None:
        """`tally` counts what runs through the model."""
        self._forecast, self._tally = forecast, tally
        self._padded, self._started = 0, 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look at the clock."""
        self._padded, self._started = self._tally.padded, time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look again."""
        padded = self._tally.padded - self._padded
        self._forecast.observe(padded, time.monotonic() - self._started)
