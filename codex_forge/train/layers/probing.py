"""Small forward passes that tell how a model is made, and passes that end half way up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Features = dict[str, Any]
"""What a model is called with: `input_ids`, `attention_mask`, and what else it asks for."""

_TEXT = "what the layers of this model are made of"


def probe(model: SentenceTransformer) -> Features:
    """Token ids and mask of two short texts, one of them padded, each of shape (2, tokens)."""
    found: torch.Tensor = model.preprocess([_TEXT])["input_ids"].reshape(1, -1)
    ids = found.repeat(2, 1).to(model.device)
    mask = torch.ones_like(ids)
    mask[1, -1] = 0
    return {"input_ids": ids, "attention_mask": mask}


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """Without dropout, inside the block."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def run_until(model: SentenceTransformer, layer: nn.Module, features: Features) -> torch.Tensor:
    """What a layer gives, shape (texts, tokens, width); what comes after it is not run.

    The architecture's own code runs, and is left where the layer is done.
    """

    def leave(_: nn.Module, __: Any, output: Any) -> NoReturn:
        raise _Reached(output[0] if isinstance(output, tuple) else output)

    with layer.register_forward_hook(leave):
        return _left(model, features)


def run_up_to(model: SentenceTransformer, layer: nn.Module, features: Features) -> torch.Tensor:
    """What a layer is given, shape (texts, tokens, width); it is not run, nor what comes after."""

    def leave(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> NoReturn:
        raise _Reached(given[0] if given else named["hidden_states"])

    with layer.register_forward_pre_hook(leave, with_kwargs=True):
        return _left(model, features)


def leaves(value: torch.Tensor) -> Iterator[nn.Parameter]:
    """The parameters that a tensor was computed from: the ends of the graph of its gradient."""
    waiting, seen = [value.grad_fn], {None, value.grad_fn}
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        if hasattr(node, "variable"):
            yield cast("nn.Parameter", node.variable)
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        waiting += new


class _Reached(Exception):
    """A forward pass has come to where it is to be left."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def _left(model: SentenceTransformer, features: Features) -> torch.Tensor:
    try:
        model[0](dict(features))
    except _Reached as reached:
        return reached.hidden
    raise RuntimeError("the layer was not run")
