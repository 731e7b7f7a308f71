"""The processes of one training run: who this one is, and how they agree.

Under `torchrun` or `accelerate launch` each process is a rank. Rank 0 alone writes. Decisions that
must not differ (to stop, to save) are made together, at the end of a step.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from codex_forge.errors import EXIT_TRY_AGAIN, TryAgain
from codex_forge.stopping import SIGNALS, stop

if TYPE_CHECKING:
    import torch

_PIECE = 25_000_000
"""Numbers that travel together: large enough for the network, small beside the model."""


def world_size() -> int:
    """Number of ranks, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number among them."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


@contextmanager
def together() -> Iterator[None]:
    """Join the other ranks, until the block ends; nothing to do when there are none.

    Signals are held back then: a rank that left on its own would leave the others waiting.

    Raises:
        TryAgain: another rank is gone.
    """
    if world_size() == 1:
        yield
        return
    with stop.held():
        _connect()
        try:
            yield
        except RuntimeError as error:
            if _is_lost_peer(error):
                raise TryAgain(
                    "another rank is gone", where=f"rank {rank()}", do="start all of them again"
                ) from error
            raise
        finally:
            _disconnect()


def _connect() -> None:
    """Join the other ranks.

    Tensors on the CPU travel by gloo, so that agreeing on a flag never waits for the GPU.
    """
    with _leaving_on_a_signal():
        import torch
        from torch import distributed

        if not distributed.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(backend)


@contextmanager
def _leaving_on_a_signal() -> Iterator[None]:
    """End the process when a signal comes while it waits for ranks that may never come.

    The wait is inside torch, where Python runs no signal handlers; the number of the signal comes
    through a pipe. There is nothing to save yet.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        while numbers := ours.recv(16):
            if set(numbers) & set(SIGNALS):
                os.write(2, b"error: stopped while waiting for the other ranks; run again\n")
                os._exit(EXIT_TRY_AGAIN)

    watcher = threading.Thread(target=watch, name="ranks", daemon=True)
    watcher.start()
    try:
        stop.demand()
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()
        watcher.join()
        ours.close()


def _disconnect() -> None:
    """Leave the other ranks."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def any_of(*flags: bool) -> list[bool]:
    """Which of the flags are set on any rank. All ranks must call it."""
    if world_size() == 1:
        return list(flags)
    import torch
    from torch import distributed

    found = torch.tensor([int(flag) for flag in flags], dtype=torch.int32)
    distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
    return [bool(value) for value in found.tolist()]


def from_first(value: Any) -> Any:
    """Rank 0's value, on all ranks."""
    if world_size() == 1:
        return value
    from torch import distributed

    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def from_all(value: Any) -> list[Any]:
    """The values of all ranks, in their order."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, value)
    return found


def gathered(own: torch.Tensor) -> torch.Tensor:
    """The rows of all ranks in their order, shape (ranks * rows, ...); own ones keep their graph.

    Every rank then computes the loss of the whole batch, and its gradient for its own rows: the sum
    over the ranks (`sum_gradients`) is the gradient of the whole batch, whatever the loss. Nothing
    travels in the backward pass.
    """
    if world_size() == 1:
        return own
    import torch
    from torch import distributed

    found = [torch.empty_like(own) for _ in range(world_size())]
    distributed.all_gather(found, own.detach().contiguous())
    found[rank()] = own
    return torch.cat(found)


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of all ranks, in place, in pieces of `_PIECE` numbers."""
    if world_size() == 1:
        return
    import torch
    from torch import distributed

    piece: list[torch.Tensor] = []
    waiting = [p.grad for p in parameters if p.grad is not None]
    for number, gradient in enumerate(waiting, start=1):
        piece.append(gradient)
        if sum(g.numel() for g in piece) >= _PIECE or number == len(waiting):
            flat = torch.cat([g.reshape(-1) for g in piece])
            distributed.all_reduce(flat)
            start = 0
            for own in piece:
                own.copy_(flat[start : start + own.numel()].view_as(own))
                start += own.numel()
            piece = []


def _is_lost_peer(error: RuntimeError) -> bool:
    """Whether an error of torch says that another rank has gone away."""
    text = str(error).lower()
    signs = (
        "connection closed by peer",
        "connection reset by peer",
        "connection refused",
        "timed out waiting",
    )
    return any(sign in text for sign in signs)
