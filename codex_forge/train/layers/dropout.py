"""Dropout that costs a CPU little, in every layer of a model, and its share set for all of them.

On other devices, and in what `torch.compile` makes, torch's own dropout runs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from codex_forge.train.layers import attention
from codex_forge.train.layers.masks import can_keep, keep


def install(model: nn.Module) -> None:
    """Make the dropout of a model fast, in its modules and in its attention.

    No weight is touched, and the names of all stay. Modules keep their identity, since others hold
    them; what is not `nn.Dropout` itself but a kind of its own is left as it is.
    """
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = FastDropout
    attention.install(model)


def remove(model: nn.Module) -> None:
    """Take back what `install` did; nothing where it did nothing."""
    for module in model.modules():
        if type(module) is FastDropout:
            module.__class__ = nn.Dropout  # type: ignore[assignment]
    attention.remove(model)


def set_dropout(model: nn.Module, p: float) -> None:
    """Set the share of every dropout of a model, its attention's included.

    Found by structure: dropout modules, and numbers of modules that are called a dropout. Where an
    architecture left a dropout out because its share was 0, the place it left gets one. The model's
    config stays as it is: it says what the model came with.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.modules.dropout._DropoutNd):
                child.p = p
            elif p and type(child) is nn.Identity and "drop" in name:
                setattr(parent, name, nn.Dropout(p).train(child.training))
        for name in _shares(parent):
            setattr(parent, name, p)


def _shares(module: nn.Module) -> Iterator[str]:
    """Attributes such as `attention_dropout`, which an attention hands on as a number."""
    for name, value in list(vars(module).items()):
        if "dropout" in name and isinstance(value, float | int) and not isinstance(value, bool):
            yield name


class FastDropout(nn.Dropout):
    """`nn.Dropout`, with masks of 16 random bits a number on a CPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002, the library's name
        """Zero a share `p` of the numbers while training; any shape."""
        if not self.training or self.p == 0 or not can_keep(input, self.p):
            return super().forward(input)
        kept, scale = keep(input.shape, self.p, input.dtype)
        return (input * kept).mul_(scale)
