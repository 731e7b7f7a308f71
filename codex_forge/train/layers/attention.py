"""Attention with dropout on a CPU, and in bf16.

torch's fused attention of a CPU has no dropout: with it, torch takes a path of many steps whose
masks are drawn number by number. In bf16 the fused one's backward pass is slow for short texts even
without. Here the steps are written out for these two: scores and softmax in float32, the weights
times the values in the format of the values, as the fused one does. Elsewhere, and for a model at
rest, the library's own function runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from codex_forge.train.layers.masks import can_keep, keep

_STOCK = "sdpa"
_OWN = "codex_forge_cpu"
_UNKNOWN = ("position_bias", "softcap", "cache")
_HALF = (torch.bfloat16, torch.float16)
_SHORT = 128
"""Up to so many tokens the fused attention's backward pass is the slower one in bf16."""


def install(model: nn.Module) -> None:
    """Let the models of transformers in `model` that use torch's attention use this one."""
    for transformer in _transformers(model, _STOCK):
        transformer.set_attn_implementation(_OWN)


def remove(model: nn.Module) -> None:
    """Take back what `install` did."""
    for transformer in _transformers(model, _OWN):
        transformer.set_attn_implementation(_STOCK)


def _transformers(model: nn.Module, implementation: str) -> Iterator[Any]:
    for module in model.modules():
        config = module.config if isinstance(module, PreTrainedModel) else None
        if config is not None and config._attn_implementation == implementation:
            yield module


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **given: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls: values weighted by softmax(query key' scaling), with dropout.

    Args:
        module: the attention layer that asks.
        query: shape (texts, heads, tokens, width of a head).
        key: as `query`.
        value: as `query`.
        attention_mask: bool, shape (texts, 1, tokens, tokens): what may be looked at; None = all.
        dropout: share of the weights that are zeroed.
        scaling: of the scores; None = 1 / sqrt(width).
        **given: what else the library knows, such as `is_causal`.

    Returns:
        Shape (texts, tokens, heads, width), and None for the weights.
    """
    if not _is_ours(module, query, key, attention_mask, dropout, given):
        stock: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **given
        )
        return stock
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast("cpu", enabled=False):
        scores = torch.matmul(query.float() * scaling, key.float().transpose(2, 3))
        if attention_mask is not None:
            scores += _bias(attention_mask)
        weights = torch.softmax(scores, dim=-1).to(value.dtype)
        found = _weighted(weights, value, dropout)
    return found.transpose(1, 2).contiguous(), None


def _is_ours(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    given: dict[str, Any],
) -> bool:
    """Whether this function serves a call, and is the faster one."""
    if not can_keep(query, dropout) or query.dtype not in (torch.float32, *_HALF):
        return False
    if key.shape[1] != query.shape[1]:  # several queries share a key: it would have to be repeated
        return False
    if any(given.get(name) is not None for name in _UNKNOWN):
        return False
    if mask is None:
        is_causal = given.get("is_causal")
        if getattr(module, "is_causal", True) if is_causal is None else is_causal:
            return False
    elif mask.dtype != torch.bool:
        return False
    is_slow = query.dtype in _HALF and key.shape[2] <= _SHORT and torch.is_grad_enabled()
    return dropout > 0 or is_slow


def _weighted(weights: torch.Tensor, value: torch.Tensor, dropout: float) -> torch.Tensor:
    if not dropout:
        return torch.matmul(weights, value)
    kept, scale = keep(weights.shape, dropout, weights.dtype)
    return torch.matmul(weights * kept, value).mul_(scale)


def _bias(mask: torch.Tensor) -> torch.Tensor:
    """What to add to scores; finite, so that a row of padding that sees nothing is no NaN."""
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(mask.shape).masked_fill_(~mask, lowest)


AttentionInterface.register(_OWN, attend)
AttentionMaskInterface.register(_OWN, sdpa_mask)
