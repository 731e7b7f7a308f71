"""What a training will put through the model, counted from its batches; and how long that takes.

Steps, texts and tokens are exact for the first epoch, whose batches are those of the training;
later epochs mix them anew. Time is foretold from the first steps, which are measured.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.config.train import StageConfig
from codex_forge.train.data.rows import Rows

log = logging.getLogger("codex_forge")

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_EXACT_BELOW = 10

Collated = Callable[[list[int]], Mapping[str, Any]]
"""Row numbers -> `texts`: numbers of texts, an array for each run of the model."""
Cut = Callable[[NDArray[Any]], Iterator[NDArray[Any]]]
"""Numbers of texts, the longest first -> those that run through the model together."""


@dataclass(frozen=True)
class StageWork:
    """What one rank does in a stage; the arrays are of an epoch's batches, shape (batches,)."""

    stage: StageConfig
    rows: int
    left_out: Mapping[str, int]
    distinct: int
    """Texts that differ."""
    asked: NDArray[np.int64]
    """Texts that the rows of a batch hold."""
    texts: NDArray[np.int64]
    """Of them, those that are encoded."""
    tokens: NDArray[np.int64]
    """Of the encoded texts, without padding."""
    padded: NDArray[np.int64]
    """Of the encoded texts, with padding."""

    @property
    def steps_an_epoch(self) -> int:
        """Optimizer steps."""
        return -(-len(self.padded) // self.stage.gradient_accumulation)

    @property
    def steps(self) -> int:
        """Optimizer steps, as the library counts them."""
        if not len(self.padded):
            return 0
        if self.stage.max_steps > 0:
            return self.stage.max_steps
        return math.ceil(self.stage.epochs * self.steps_an_epoch)

    @property
    def epochs(self) -> float:
        """Passes over the batches."""
        return self.steps / self.steps_an_epoch if self.steps else 0.0

    def total(self, of: NDArray[np.int64]) -> int:
        """What one of the arrays comes to over the whole stage."""
        return round(float(of.sum()) * self.epochs)


def count_work(
    stage: StageConfig,
    rows: Rows,
    batches: Iterable[list[int]],
    collated: Collated,
    cut: Cut,
    lengths: NDArray[np.int32],
) -> StageWork:
    """Count the batches of a stage's first epoch; `lengths` are tokens, shape (texts,)."""
    columns = len(rows.columns)
    found = []
    for numbers in batches:
        texts = tokens = padded = 0
        for own in collated(numbers)["texts"]:
            ordered = np.asarray(own)[np.argsort(-lengths[own], kind="stable")]
            texts += len(ordered)
            tokens += int(lengths[ordered].sum())
            padded += sum(len(part) * int(lengths[part[0]]) for part in cut(ordered))
        found.append((columns * len(numbers), texts, tokens, padded))
    counts = np.array(found, dtype=np.int64).reshape(len(found), 4).T
    distinct = len(np.unique(np.concatenate(list(rows.columns.values()))))
    return StageWork(stage, len(rows), rows.left_out, distinct, *counts)


def planned_of(works: Sequence[StageWork]) -> dict[str, Any]:
    """`steps`, `tokens`, `padding_share` and `texts_saved`, for the summary."""
    asked, texts, tokens, padded = (
        sum(work.total(getattr(work, name)) for work in works)
        for name in ("asked", "texts", "tokens", "padded")
    )
    return {
        "steps": sum(work.steps for work in works),
        "tokens": tokens,
        "padding_share": round(1 - tokens / padded, 4) if padded else None,
        "texts_saved": round(asked / texts, 3) if texts else None,
    }


class Forecast:
    """Foretells, from the first steps, how long all of them take; says it once."""

    def __init__(self, steps: int, padded: int, *, first: int = 5) -> None:
        """`padded`: tokens, with padding, of all `steps`; `first` steps after one are measured."""
        self._steps, self._padded, self._first = steps, padded, first
        self._done_steps, self._done_padded = 0, 0
        self._measured: list[tuple[int, float]] = []
        self.seconds: float | None = None
        """Of all steps, as foretold first; None as long as too few were measured."""

    def observe(self, padded: int, seconds: float) -> None:
        """Take note of a step: every one, or those to go are not known."""
        self._done_steps += 1
        self._done_padded += padded
        if len(self._measured) > self._first:
            return
        self._measured.append((padded, seconds))
        if len(self._measured) > self._first:
            self._tell()

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "steps": self._done_steps,
            "padded": self._done_padded,
            "seconds": self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; what was foretold first stays, what is to go is told anew."""
        self._done_steps, self._done_padded = state["steps"], state["padded"]
        self.seconds = state["seconds"]

    def _tell(self) -> None:
        counted = self._measured[1:]  # the first is slow: memory is taken, kernels are chosen
        pace = sum(s for _, s in counted) / max(1, sum(padded for padded, _ in counted))
        if self.seconds is None:
            self.seconds = round(pace * self._padded, 1)
        steps = self._steps - self._done_steps
        if steps > 0:
            to_go = pace * max(0, self._padded - self._done_padded)
            said = "  about %s of training to go: %s steps of %s"
            log.info(said, duration(to_go), f"{steps:,}", duration(to_go / steps))


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them: `1.9 s`, `4 min`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < _EXACT_BELOW:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2g} s"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        hours, minutes = divmod(round(seconds / _MINUTE), 60)
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / _HOUR), 24)
    return f"{days} d {hours} h"
