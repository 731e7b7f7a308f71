"""The gradient of an embedding table is added where it belongs, on a CPU.

torch makes a gradient of the whole table for every sub-batch, zeros for each of its thousands of
words, and adds these up: a sub-batch then costs what a hundred tokens more would. Here the rows of
the words that occur are added to the one gradient, in the same order on every run. The optimizer
finds the same gradient in the same place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def install(model: nn.Module) -> None:
    """Let the embedding tables of a model that train on a CPU add their gradient by rows."""
    for module in model.modules():
        if type(module) is nn.Embedding and _is_plain(module):
            module.__class__ = RowsEmbedding


def remove(model: nn.Module) -> None:
    """Take back what `install` did; nothing where it did nothing."""
    for module in model.modules():
        if type(module) is RowsEmbedding:
            module.__class__ = nn.Embedding  # type: ignore[assignment]
            vars(module).pop("_sum", None)


def _is_plain(module: nn.Embedding) -> bool:
    return not module.sparse and not module.scale_grad_by_freq and module.max_norm is None


class RowsEmbedding(nn.Embedding):
    """`nn.Embedding`, whose backward pass adds to `weight.grad` itself."""

    _sum: torch.Tensor | None = None
    """The gradient's memory, kept from step to step: to get it new costs more than to clear it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002, the library's name
        """Rows of the table, shape (*input's, width)."""
        is_ours = self.weight.device.type == "cpu" and not torch.compiler.is_compiling()
        if not is_ours or not self.weight.requires_grad or not torch.is_grad_enabled():
            return super().forward(input)
        found: torch.Tensor = _Rows.apply(self.weight, input, self)  # type: ignore[no-untyped-call]
        return found

    def add(self, ids: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add the gradient of looked-up rows, shape (*ids', width), to that of the table."""
        weight = self.weight
        if weight.grad is None:
            if self._sum is None or (self._sum.shape, self._sum.dtype) != (
                weight.shape,
                weight.dtype,
            ):
                self._sum = torch.empty_like(weight, requires_grad=False)
            weight.grad = self._sum.zero_()
        if self.padding_idx is not None:  # the library's table gives its padding none
            gradient = gradient.masked_fill((ids == self.padding_idx)[..., None], 0)
        rows = gradient.reshape(-1, gradient.shape[-1]).to(weight.dtype)
        weight.grad.index_add_(0, ids.reshape(-1), rows)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, ids: torch.Tensor, table: RowsEmbedding
    ) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.table = table
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, None, None]:
        (ids,) = ctx.saved_tensors
        ctx.table.add(ids, gradients[0])
        return None, None, None
