"""A base model of a few megabytes, cut out of MiniLM: it loads, trains and uploads in no time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from codex_forge.config.sections import ModelConfig
from codex_forge.model.locate import locate
from tests.conftest import MINILM

_HIDDEN, _HEADS, _BETWEEN = 48, 4, 96


def cut_out_model(folder: Path, layers: int = 1) -> Path:
    """Write MiniLM's first layers, with their first few numbers, as a model of its own."""
    source = locate(ModelConfig(base=MINILM)).folder
    shutil.copytree(source, folder)
    full = json.loads((folder / "config.json").read_text())
    sizes = {full["hidden_size"]: _HIDDEN, full["intermediate_size"]: _BETWEEN}
    kept = {
        name: tensor[tuple(slice(sizes.get(length, length)) for length in tensor.shape)].copy()
        for name, tensor in load_file(str(source / "model.safetensors")).items()
        if ".layer." not in name or int(name.split(".layer.")[1].split(".")[0]) < layers
    }
    (folder / "model.safetensors").unlink()  # it may be a link
    save_file(kept, str(folder / "model.safetensors"), {"format": "pt"})
    _change(
        folder / "config.json",
        hidden_size=_HIDDEN,
        intermediate_size=_BETWEEN,
        num_attention_heads=_HEADS,
        num_hidden_layers=layers,
    )
    _change(folder / "1_Pooling" / "config.json", word_embedding_dimension=_HIDDEN)
    return folder


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}, indent=1))
