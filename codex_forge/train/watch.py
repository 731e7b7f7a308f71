"""Watches the steps of a training: a loss or a gradient that is no number ends it, a full GPU does
not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from codex_forge.errors import ConfigError
from codex_forge.train import checkpoints, ranks
from codex_forge.train.data.rows import Rows
from codex_forge.train.data.texts import TextTable
from codex_forge.train.guards import MicroBatch, check_finite, is_out_of_memory

if TYPE_CHECKING:
    from torch.optim import Optimizer

Attempt = Callable[[dict[str, Any]], torch.Tensor]


class Watch:
    """Of one stage. Losses on a GPU are looked at now and then: each look waits for the GPU."""

    def __init__(self, memory: MicroBatch, table: TextTable, rows: Rows, every: int) -> None:
        """Look at the losses every `every` steps; those on a CPU at once."""
        self._memory, self._table, self._rows, self._every = memory, table, rows, every
        self._unseen: list[tuple[str, torch.Tensor, int, list[int], float]] = []
        self._batches: list[dict[str, Any]] = []
        self._generators = ""
        """As they were before the first of these batches."""
        self._last: tuple[int, list[int], float] | None = None

    def attempt(self, run: Attempt, batch: dict[str, Any], optimizer: Optimizer) -> torch.Tensor:
        """The loss of a batch, with its gradients added; in smaller pieces when memory runs out.

        What had been added to the gradients before it ran out is lost with it: all batches of this
        optimizer step are done again, the generators as they were.

        Raises:
            ConfigError: there is no smaller piece, or other ranks wait for this one.
        """
        if not self._batches:
            self._generators = checkpoints.random_state()
        self._batches.append(dict(batch))
        try:
            return run(batch)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = error.with_traceback(None)  # it holds the tensors of the failed attempt
        if ranks.world_size() > 1:
            raise ConfigError(
                "a GPU is out of memory, and other ranks wait for it",
                where=f"rank {ranks.rank()}",
                do="set train.cached=true, or lower train.micro_batch_tokens or train.batch_size",
            )
        return self._again(run, reason, optimizer)

    def _again(self, run: Attempt, reason: BaseException, optimizer: Optimizer) -> torch.Tensor:
        batches = self._batches
        for group in optimizer.param_groups:  # accelerate's zero_grad waits for the last micro-step
            for parameter in group["params"]:
                parameter.grad = None
        self._memory.halve(reason)
        checkpoints.restore_random_state(self._generators)
        self._batches = []
        for batch in batches:
            loss = self.attempt(run, batch, optimizer)
        return loss

    def seen(
        self, loss: torch.Tensor, step: int, rows: list[int], rate: float, is_last: bool
    ) -> None:
        """Take note of a batch's loss; `is_last` of its optimizer step."""
        self._see("loss", loss, step, rows, rate)
        if is_last:
            self._batches.clear()

    def seen_gradient(self, norm: torch.Tensor) -> None:
        """Take note of the gradient's norm, at the end of the optimizer step seen last."""
        if self._last is not None:
            self._see("gradient's norm", norm, *self._last)

    def _see(self, what: str, value: torch.Tensor, step: int, rows: list[int], rate: float) -> None:
        self._last = (step, rows, rate)
        self._unseen.append((what, value, step, rows, rate))
        if value.device.type == "cpu" or step - self._unseen[0][2] >= self._every:
            self.check()

    def check(self) -> None:
        """Look at all that was not looked at.

        Raises:
            Diverged: one of them is no number.
        """
        unseen, self._unseen = self._unseen, []
        if not unseen:
            return
        finite = torch.stack([value.float() for _, value, *_ in unseen]).isfinite().tolist()
        for is_finite, (what, value, step, rows, rate) in zip(finite, unseen, strict=True):
            if not is_finite:
                check_finite(float(value), step, self._told(rows), rate, what)

    def _told(self, rows: list[int]) -> list[dict[str, str]]:
        """The texts of rows, by column."""
        return [
            {
                name: self._table.text(int(column[row]))
                for name, column in self._rows.columns.items()
            }
            for row in rows
        ]
