"""Low-rank adapters (Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021).

Beside a linear layer W stands B A, scaled by alpha / rank; only A and B train. B starts at zero, so
that training starts from the base model. Before the model is saved the product is added to W:
nothing is left of the adapters, and any SentenceTransformer loads the folder.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from codex_forge.config.train import LoraConfig
from codex_forge.errors import ConfigError, ForgeError
from codex_forge.train.layers.anatomy import Anatomy, anatomy
from codex_forge.train.layers.probing import at_rest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger("codex_forge")

NEAR = 1e-5
"""The most that a number of a unit vector may change when adapters are merged."""
_ATTENTION = ("attention", "attn")


def adapt(model: SentenceTransformer, config: LoraConfig, *, freeze_layers: int, seed: int) -> None:
    """Put adapters on the layers above the frozen ones; nothing else trains from here on.

    Args:
        model: whole, or with frozen layers taken off.
        config: rank, scale, and which linear layers; those of the attention when it names none.
        freeze_layers: layers at the bottom that get no adapters.
        seed: of the adapters' first weights.

    Raises:
        ConfigError: no linear layer has such a name, or the layers are not found.
    """
    from peft import LoraConfig as Settings
    from peft import inject_adapter_in_model

    found = anatomy(model, "train.lora")
    settings = Settings(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=_targets(found, config.targets, freeze_layers),
    )
    model.requires_grad_(False)
    generator = torch.default_generator  # of the CPU, where adapters get their weights
    before = generator.get_state()
    generator.manual_seed(seed)
    inject_adapter_in_model(settings, cast("Any", found.transformer))
    generator.set_state(before)


def merge(model: SentenceTransformer, texts: Sequence[str]) -> None:
    """Add the adapters to the weights they stand beside, and take them off.

    Args:
        model: what `adapt` made of it; whole, or with frozen layers taken off.
        texts: the model must give the same vectors of them afterwards.

    Raises:
        ForgeError: it does not.
    """
    before = _vectors(model, texts)
    transformer = anatomy(model, "train.lora").transformer
    for name, adapter in list(_adapters(transformer)):
        adapter.merge()
        parent, _, own = name.rpartition(".")
        setattr(transformer.get_submodule(parent), own, adapter.get_base_layer())
    vars(transformer).pop("peft_config", None)
    apart = float(np.abs(_vectors(model, texts) - before).max())
    if not apart <= NEAR:
        raise ForgeError(
            f"the model with merged adapters gives other vectors, {apart:.1e} apart",
            where="train.lora",
            do="train with a lower learning rate or train.lora.alpha",
        )
    log.info("adapters are merged; vectors of %d texts are at most %.1e apart", len(texts), apart)


def _targets(found: Anatomy, names: Sequence[str], freeze_layers: int) -> list[str]:
    """Paths of the linear layers that get an adapter."""
    linear = [
        (f"{found.name}.{number}.{name}", name)
        for number, layer in enumerate(found.layers)
        for name, module in layer.named_modules()
        if number >= freeze_layers and isinstance(module, nn.Linear)
    ]
    there = sorted({name for _, name in linear})
    for wanted in names:
        if not any(_is_named(name, [wanted]) for name in there):
            raise _no_target(f"no linear layer is called {wanted!r}", there)
    chosen = [path for path, name in linear if _is_named(name, names)]
    if not chosen:
        raise _no_target("no linear layer of an attention is found", there)
    return chosen


def _no_target(what: str, there: list[str]) -> ConfigError:
    do = f"name some of these: {', '.join(there)}" if there else "freeze fewer layers"
    return ConfigError(what, where="train.lora.targets", do=do)


def _is_named(name: str, names: Sequence[str]) -> bool:
    """Whether a path in a layer ends in one of the names, or, without names, is attention's."""
    if not names:
        return any(word in name.lower() for word in _ATTENTION)
    return any(f".{name}".endswith(f".{wanted}") for wanted in names)


def _adapters(transformer: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for name, module in transformer.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def _vectors(model: SentenceTransformer, texts: Sequence[str]) -> NDArray[np.float32]:
    with at_rest(model), _exactly():
        found = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(found, dtype=np.float32)


@contextmanager
def _exactly() -> Iterator[None]:
    """Products of float32 in float32, also where a GPU was allowed to be quick about them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
