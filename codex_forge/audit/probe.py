"""What the real model keeps for its backward pass, measured (imports torch).

Autograd hands every tensor that it saves to a hook; the bytes of their distinct storages, without
the weights, are what a batch takes while training. No clock and no free memory enter, so equal runs
measure the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codex_forge.config.sections import ModelConfig

_ROWS = 2


def bytes_a_pair(folder: Path, config: ModelConfig, texts: Sequence[int]) -> int:
    """Bytes that one pair's texts keep, each text given by its length in tokens."""
    import torch

    from codex_forge.model.encoder import load_base

    model = load_base(folder, config)
    model.train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    outputs = []  # a graph that is let go of would hand its storages to the next one
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        for length in texts:
            shape = (_ROWS, length)
            features = {
                "input_ids": torch.ones(shape, dtype=torch.long, device=model.device),
                "attention_mask": torch.ones(shape, dtype=torch.long, device=model.device),
            }
            outputs.append(model(features)["sentence_embedding"])
    return sum(kept.values()) // _ROWS
