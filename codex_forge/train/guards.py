"""What a training does when a loss is no number, or memory runs out.

A loss that is NaN or infinite ends the run: every weight after it would be worthless. Memory that
runs out does not: less runs through the model together, and the optimizer sees the same batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from codex_forge.errors import ConfigError

log = logging.getLogger("codex_forge")

_SHOWN_ROWS = 3
_SHOWN_LETTERS = 80
_SIGNS = (
    "out of memory",  # "CUDA out of memory", "HIP out of memory", "MPS backend out of memory"
    "defaultcpuallocator: can't allocate memory",
    "defaultcpuallocator: not enough memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


class Diverged(ConfigError):
    """A loss is NaN or infinite."""


class OutOfMemory(ConfigError):
    """Memory runs out with the least that can run through the model together."""


def check_finite(
    value: float,
    step: int,
    rows: Sequence[Mapping[str, object]],
    learning_rate: float,
    what: str = "loss",
) -> None:
    """Refuse a loss that is NaN or infinite.

    Args:
        value: the loss of a batch, or what else `what` names.
        step: the optimizer step, from 1.
        rows: of the batch, by column; its first are shown.
        learning_rate: of this step.
        what: the value is.

    Raises:
        Diverged: names step, learning rate and rows, and what to try.
    """
    if math.isfinite(value):
        return
    first = "\n".join(f"  {_shown(row)}" for row in rows[:_SHOWN_ROWS])
    raise Diverged(
        f"the {what} is {value} at step {step}, at a learning rate of {learning_rate:.3g}, "
        f"in a batch of {len(rows)} rows; its first:\n{first}\n",
        where="train",
        do="lower train.learning_rate, set train.precision=fp32 if it is fp16, or look at these "
        "rows; checkpoints of earlier steps are kept",
    )


def _shown(row: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in row.items())


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    cut = text if len(text) <= _SHOWN_LETTERS else f"{text[: _SHOWN_LETTERS - 3]}..."
    return repr(cut) if isinstance(value, str) else cut


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of a GPU or of the machine, was refused to torch."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower() if isinstance(error, RuntimeError) else ""
    return any(sign in said for sign in _SIGNS)


class MicroBatch:
    """Tokens that may run through the model together, padding included; less when memory runs out.

    The rows of an optimizer step stay the same: only the pieces in which they are computed change.
    """

    def __init__(self, tokens: int, *, cached: bool, longest: int) -> None:
        """Start with `tokens` a piece, never fewer than the `longest` text has.

        `cached`: activations are forgotten and computed again, so that memory holds one piece.
        """
        self.tokens, self.cached = max(tokens, longest), cached
        self.halved: list[tuple[int, int]] = []
        """Tokens before and after, each time memory ran out."""
        self._longest = longest

    def halve(self, error: BaseException, step: int | None = None) -> None:
        """Half the tokens, and forget activations from here on.

        Args:
            error: what torch said.
            step: the optimizer step, for the log.

        Raises:
            OutOfMemory: the pieces are as small as they can be.
        """
        before, after = self.tokens, max(self._longest, self.tokens // 2)
        if self.cached and after == before:
            raise OutOfMemory(
                f"out of memory with {before} tokens together, as many as the longest text has",
                where="train",
                do="lower train.batch_size or model.max_seq_length",
            ) from error
        self.tokens, was_cached, self.cached = after, self.cached, True
        self.halved.append((before, after))
        log.warning(
            "  out of memory%s: micro-batch %d -> %d tokens%s, effective batch unchanged",
            "" if step is None else f" at step {step}",
            before,
            after,
            "" if was_cached else ", activations computed again (train.cached)",
        )
        _give_back()

    def state(self) -> dict[str, Any]:
        """For checkpoints and the summary."""
        return {
            "tokens": self.tokens,
            "cached": self.cached,
            "halved": [list(each) for each in self.halved],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with what the run that this one continues had come to."""
        self.tokens, self.cached = max(state["tokens"], self._longest), state["cached"]
        self.halved = [(before, after) for before, after in state["halved"]]


def _give_back() -> None:
    """Let the GPU have what torch holds in pieces of sizes that are not asked for any more."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
