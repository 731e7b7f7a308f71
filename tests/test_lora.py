"""Adapters train beside the weights, and leave a plain model that gives the vectors they gave."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from codex_forge.config.sections import ModelConfig
from codex_forge.config.train import LoraConfig
from codex_forge.errors import ConfigError, ForgeError
from codex_forge.model.encoder import load_base
from codex_forge.model.locate import locate
from codex_forge.train.checkpoints import load_module, save_module
from codex_forge.train.layers.anatomy import anatomy, parameters
from codex_forge.train.layers.frozen import Frozen
from codex_forge.train.layers.lora import adapt, merge
from tests.conftest import MINILM
from tests.tiny_models import KINDS, LAYERS, some_texts, tiny_model

SMALL = LoraConfig(rank=4, alpha=8)
TEXTS = some_texts(6)


pytestmark = pytest.mark.usefixtures("one_thread")


def trained(model: SentenceTransformer, steps: int = 3) -> None:
    """A few steps that change the vectors."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    model.train()
    for _ in range(steps):
        features = model.preprocess(TEXTS)
        loss: Any = model(features)["sentence_embedding"].square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def adapters(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if "lora_" in name}


def adapted(model: SentenceTransformer) -> set[str]:
    """Paths of the layers that have an adapter."""
    return {name.partition(".lora_")[0].removeprefix("0.model.") for name in adapters(model)}


def unit(model: SentenceTransformer) -> Any:
    return model.encode(TEXTS, normalize_embeddings=True)


ATTENTION = {
    "Bert": {f"attention.self.{n}" for n in ("query", "key", "value")} | {"attention.output.dense"},
    "MPNet": {f"attention.attn.{name}" for name in "qkvo"},
    "DistilBert": {f"attention.{name}_lin" for name in ("q", "k", "v", "out")},
    "ModernBert": {"attn.Wqkv", "attn.Wo"},
    "NomicBert": {f"self_attn.{name}_proj" for name in "qkvo"},
    "Qwen3": {f"self_attn.{name}_proj" for name in "qkvo"},
}


@pytest.mark.parametrize("kind", ATTENTION)
def test_adapters_stand_beside_the_attention_above_the_frozen_layers(
    kind: str, tmp_path: Path
) -> None:
    model = tiny_model(kind, tmp_path)
    before = unit(model)
    name = anatomy(model).name
    adapt(model, SMALL, freeze_layers=1, seed=1)
    assert adapted(model) == {f"{name}.{n}.{own}" for n in (1, 2) for own in ATTENTION[kind]}
    training = {name for name, p in model.named_parameters() if p.requires_grad}
    assert training == set(adapters(model))
    np.testing.assert_array_equal(unit(model), before)  # they start as nothing


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_is_plain_and_gives_the_same_vectors(
    kind: str, is_cut: bool, tmp_path: Path
) -> None:
    model = tiny_model(kind, tmp_path / "model")
    names, base = set(model.state_dict()), unit(model)
    with Frozen(model, 1) if is_cut else nullcontext():
        adapt(model, SMALL, freeze_layers=int(is_cut), seed=1)
        trained(model)
        vectors = unit(model)
        assert np.abs(vectors - base).max() > 1e-3
        if is_cut:
            merge(model, TEXTS)
    if not is_cut:
        merge(model, TEXTS)
    assert set(model.state_dict()) == names
    assert not hasattr(model[0].model, "peft_config")
    np.testing.assert_allclose(unit(model), vectors, atol=1e-5)


_WITHOUT_PEFT = """
import sys
sys.modules["peft"] = None
import numpy as np
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
np.save(sys.argv[2], model.encode(sys.argv[3:], normalize_embeddings=True))
"""


def test_the_saved_folder_is_loaded_without_peft(tmp_path: Path) -> None:
    config = ModelConfig(base=MINILM, device="cpu")
    model = load_base(locate(config).folder, config)
    adapt(model, LoraConfig(rank=8, alpha=16), freeze_layers=4, seed=1)
    trainable, total = parameters(model)
    assert trainable == 2 * 4 * 2 * 8 * 384  # layers, linear layers, A and B, rank, width
    assert total > 20_000_000
    trained(model, steps=2)
    vectors = unit(model)
    merge(model, TEXTS)
    folder, file = tmp_path / "saved", tmp_path / "vectors.npy"
    model.save_pretrained(str(folder))
    assert not list(folder.glob("*adapter*"))
    command = [sys.executable, "-c", _WITHOUT_PEFT, str(folder), str(file), *TEXTS]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(file), vectors, atol=1e-5)


def test_first_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    found = []
    for seed, noise in ((1, 5), (1, 6), (2, 5)):
        model = tiny_model("Bert", tmp_path)
        torch.manual_seed(noise)
        expected = torch.rand(3)
        torch.manual_seed(noise)
        adapt(model, SMALL, freeze_layers=0, seed=seed)
        assert torch.equal(torch.rand(3), expected)  # and leave no trace in the generator
        found.append(adapters(model))
    one, same, other = found
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_of_adapters_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.safetensors"
    model = tiny_model("MPNet", tmp_path / "model")
    with Frozen(model, 2):
        adapt(model, SMALL, freeze_layers=2, seed=1)
        trained(model)
        save_module(file, model)
        vectors = unit(model)
    again = tiny_model("MPNet", tmp_path / "model")
    with Frozen(again, 2):
        adapt(again, SMALL, freeze_layers=2, seed=9)
        load_module(file, again)
        np.testing.assert_array_equal(unit(again), vectors)
    merge(again, TEXTS)
    np.testing.assert_allclose(unit(again), vectors, atol=1e-5)


def test_config_names_the_layers(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path)
    targets = LoraConfig(rank=2, alpha=2, dropout=0.5, targets=("query", "intermediate.dense"))
    adapt(model, targets, freeze_layers=2, seed=1)
    own = {f"encoder.layer.2.{name}" for name in ("attention.self.query", "intermediate.dense")}
    assert adapted(model) == own
    dropouts = [m.p for n, m in model.named_modules() if n.endswith("lora_dropout.default")]
    assert dropouts == [0.5, 0.5]


@pytest.mark.parametrize(
    "targets, freeze, message",
    [
        (("query", "nothing"), 0, "no linear layer is called 'nothing'; name some of these: atte"),
        (("uery",), 0, "no linear layer is called 'uery'; name some of these: attention.output.d"),
        ((), LAYERS, "no linear layer of an attention is found; freeze fewer layers"),
    ],
)
def test_there_is_no_such_layer(
    targets: tuple[str, ...], freeze: int, message: str, tmp_path: Path
) -> None:
    model = tiny_model("Bert", tmp_path)
    with pytest.raises(ConfigError, match=f"train.lora.targets: {message}"):
        adapt(model, LoraConfig(targets=targets), freeze_layers=freeze, seed=1)


def test_a_merge_that_changes_vectors_is_an_error(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path)
    adapt(model, SMALL, freeze_layers=0, seed=1)
    adapter = anatomy(model).layers[2].get_submodule("attention.self.query")
    adapter.register_forward_hook(lambda _, __, output: output * 1.1)  # goes with the adapter
    with pytest.raises(ForgeError, match=r"the model with merged adapters gives other vectors"):
        merge(model, TEXTS)
