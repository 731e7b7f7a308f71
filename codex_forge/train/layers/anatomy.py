"""The stack of layers of any transformer, found by its structure, and what of it is frozen.

What the output of the lowest layers depends on is read off the graph that autograd makes of one
small forward pass: whatever an architecture calls its parts and wherever it keeps them, freezing
layers freezes all that stands under them (in MPNet also the position bias that all layers share).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from codex_forge.errors import ConfigError
from codex_forge.train.layers.probing import at_rest, leaves, probe, run_until, run_up_to

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Anatomy:
    """Where a SentenceTransformer keeps its layers."""

    transformer: nn.Module
    """The library's module that runs them (BertModel, Qwen3Model ...)."""
    name: str
    """Path of the stack in the transformer, such as `encoder.layer`."""
    layers: nn.ModuleList
    """The stack, the lowest first."""

    def embeddings(self) -> str:
        """Name of the transformer's child that holds the token embeddings.

        Raises:
            ConfigError: the architecture does not tell.
        """
        get = getattr(self.transformer, "get_input_embeddings", None)
        try:
            tokens = get() if get is not None else None
        except NotImplementedError:
            tokens = None
        for name, child in self.transformer.named_children():
            if any(module is tokens for module in child.modules()):
                return name
        raise _unknown(self.transformer, "train.freeze_layers")


def anatomy(model: SentenceTransformer, key: str = "train.freeze_layers") -> Anatomy:
    """The stack of a model: the list of like modules that is as long as its config says.

    Args:
        model: its first module runs a transformer.
        key: the config key that an error speaks of.

    Raises:
        ConfigError: there is no such stack.
    """
    transformer = getattr(model[0], "model", None)
    if not isinstance(transformer, nn.Module):
        raise _unknown(model[0], key)
    config: Any = getattr(transformer, "config", None)
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()
    depth = getattr(config, "num_hidden_layers", None)
    stacks = [
        (name, module)
        for name, module in transformer.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth and _alike(module)
    ]
    if not stacks:
        raise _unknown(transformer, key)
    return Anatomy(transformer, *max(stacks, key=lambda stack: _size(stack[1].parameters())))


def freeze(model: SentenceTransformer, *, embeddings: bool, layers: int) -> dict[str, nn.Parameter]:
    """Leave the embeddings, or the lowest layers and all that stands under them, as they are.

    Args:
        model: its parameters lose `requires_grad`.
        embeddings: freeze what the first layer's input depends on; implied by `layers`.
        layers: how many layers, counted from the bottom.

    Returns:
        What does not train any more, by its name in the transformer.

    Raises:
        ConfigError: there are not as many layers, nothing is left to train, or the architecture
            is not understood.
    """
    if not embeddings and not layers:
        return {}
    key = f"train.freeze_layers={layers}" if layers else "train.freeze_embeddings"
    found = anatomy(model, key)
    if layers > len(found.layers):
        most = len(found.layers)
        raise ConfigError(f"the model has {most} layers", where=key, do=f"set it to {most} or less")
    frozen = _under(model, found, layers)
    for parameter in frozen.values():
        parameter.requires_grad_(False)
    with at_rest(model), torch.enable_grad():
        if not model(probe(model))["sentence_embedding"].requires_grad:
            raise ConfigError("nothing is left to train", where=key, do="freeze fewer layers")
    return frozen


def parameters(model: nn.Module) -> tuple[int, int]:
    """How many numbers of a model train, and how many it has; layers taken off it included."""
    taken = [getattr(module, "stands_for", None) for module in model.modules()]
    off = [p for module in taken if module is not None for p in module.parameters()]
    own = list(model.parameters())
    return _size(p for p in own if p.requires_grad), _size([*own, *off])


def _under(model: SentenceTransformer, found: Anatomy, layers: int) -> dict[str, nn.Parameter]:
    """The embeddings, the lowest layers, and all that these depend on."""
    parts = [found.transformer.get_submodule(found.embeddings()), *found.layers[:layers]]
    under = {id(parameter) for part in parts for parameter in part.parameters()}
    still = [p for p in model.parameters() if p.is_floating_point() and not p.requires_grad]
    for parameter in still:
        parameter.requires_grad_(True)
    with at_rest(model), torch.enable_grad():
        if layers:
            reached = run_until(model, found.layers[layers - 1], probe(model))
        else:
            reached = run_up_to(model, found.layers[0], probe(model))
    under |= {id(parameter) for parameter in leaves(reached)}
    for parameter in still:
        parameter.requires_grad_(False)
    return {name: p for name, p in found.transformer.named_parameters() if id(p) in under}


def _alike(stack: nn.ModuleList) -> bool:
    return len({type(getattr(layer, "stands_for", layer)) for layer in stack}) == 1


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _unknown(module: nn.Module, key: str) -> ConfigError:
    return ConfigError(
        f"the layers of a {type(module).__name__} are not found",
        where=key,
        do="train this model without train.freeze_embeddings, train.freeze_layers and train.lora",
    )
