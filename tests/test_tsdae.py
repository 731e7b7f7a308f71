"""TSDAE: what is damaged, and a decoder that shares the encoder's weights and learns with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_model, save_model
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import DenoisingAutoEncoderLoss
from sentence_transformers.sentence_transformer.modules import Dense
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoTokenizer

from codex_forge.config.sections import ModelConfig
from codex_forge.config.train import LoraConfig
from codex_forge.errors import ConfigError
from codex_forge.model.locate import locate
from codex_forge.train.data.damage import Damage
from codex_forge.train.guards import MicroBatch
from codex_forge.train.layers import lora
from codex_forge.train.layers.frozen import Frozen
from codex_forge.train.losses.objectives import Given
from codex_forge.train.losses.tsdae import TsdaeLoss
from tests.conftest import MINILM
from tests.tiny_models import some_texts, tiny_model

TEXTS = some_texts(8, 12)
WIDTH = 32


pytestmark = pytest.mark.usefixtures("one_thread")


def memory(tokens: int = 4096, *, cached: bool = False) -> MicroBatch:
    return MicroBatch(tokens, cached=cached, longest=1)


def loss_of(model: SentenceTransformer, **settings: Any) -> TsdaeLoss:
    torch.manual_seed(5)
    return TsdaeLoss(model, memory(**settings))


def whole(model: SentenceTransformer, texts: list[str] = TEXTS) -> tuple[Tensor, Tensor]:
    features = model.preprocess(texts)
    return features["input_ids"], features["attention_mask"]


def gradients(loss: Tensor, module: nn.Module) -> dict[str, Tensor]:
    module.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "XLMRoberta", "Electra"])
def test_the_decoder_is_the_encoder_and_both_learn(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path / "model")
    loss = loss_of(model)
    encoder = {id(p): name for name, p in model.named_parameters()}
    fresh = [name for name, p in loss.named_parameters() if id(p) not in encoder]
    assert fresh
    assert all("cross" in name or ".encoder." not in name for name in fresh)
    assert loss.head.weight is model.transformers_model.get_input_embeddings().weight

    both = nn.ModuleDict({"model": model, "loss": loss})
    ids, mask = whole(model)
    damage = Damage(model.tokenizer, 0.6)
    torch.manual_seed(1)
    damaged = [damage(row[seen.bool()].numpy()) for row, seen in zip(ids, mask, strict=True)]
    source = model.tokenizer.pad({"input_ids": [d.tolist() for d in damaged]}, return_tensors="pt")
    optimizer = torch.optim.AdamW(both.parameters(), lr=1e-3)
    seen_losses = []
    for _ in range(25):
        optimizer.zero_grad()
        found = loss(model(dict(source))["sentence_embedding"], ids, mask)
        found.backward()
        optimizer.step()
        seen_losses.append(float(found.detach()))
    assert seen_losses[-1] < 0.8 * seen_losses[0], seen_losses
    vectors = model(dict(source))["sentence_embedding"].detach()
    own, other = (loss(v, ids, mask).detach() for v in (vectors, vectors.roll(1, 0)))
    assert float(own) < float(other)


def test_the_loss_is_the_librarys_on_the_same_weights(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    loss = loss_of(model, tokens=20)
    library = DenoisingAutoEncoderLoss(model)
    ours = dict(loss.decoder.named_parameters())
    with torch.no_grad():
        for name, parameter in library.decoder.named_parameters():
            parameter.copy_(ours.get(name, parameter))
        library.decoder.cls.predictions.bias.copy_(loss.head.bias)
    ids, mask = whole(model)
    vectors = torch.randn(len(TEXTS), WIDTH)
    library.encoder = Given(WIDTH)
    unit = functional.normalize(vectors, dim=1) * math.sqrt(WIDTH)
    source = {"sentence_embedding": unit, "attention_mask": mask}
    wanted = float(library([source, {"input_ids": ids}], None).detach())
    assert float(loss(vectors, ids, mask).detach()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("cached", [False, True])
def test_pieces_and_padding_change_nothing(cached: bool, tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    ids, mask = whole(model)
    vectors = torch.randn(len(TEXTS), WIDTH)
    loss = loss_of(model)
    wanted = loss(vectors, ids, mask)
    known = gradients(wanted, loss)
    left = [row[keep.bool()] for row, keep in zip(ids, mask, strict=True)]
    longest = 3 + max(map(len, left))
    ids = torch.stack([functional.pad(row, (longest - len(row), 0)) for row in left])
    mask = torch.stack([functional.pad(row * 0 + 1, (longest - len(row), 0)) for row in left])

    small = loss_of(model, tokens=16, cached=cached)
    found = small(vectors, ids, mask)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    again = gradients(found, small)
    assert again.keys() == known.keys()
    for name, gradient in known.items():
        assert float((again[name] - gradient).abs().max()) < 1e-5, name


def test_shares_of_ranks_add_up_to_the_mean(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    loss = loss_of(model)
    ids, mask = whole(model)
    vectors = torch.randn(len(TEXTS), WIDTH)
    tokens = loss.told(mask)
    assert tokens == sum(len(model.tokenizer(text)["input_ids"]) - 1 for text in TEXTS)
    parts = [slice(0, 3), slice(3, None)]
    shares = [loss(vectors[at], ids[at], mask[at], tokens) for at in parts]
    assert float(sum(shares).detach()) == pytest.approx(
        float(loss(vectors, ids, mask).detach()), rel=1e-5
    )


def test_vectors_of_another_width_are_bridged(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    model.append(Dense(WIDTH, 12))
    loss = loss_of(model)
    ids, mask = whole(model)
    vectors = torch.randn(len(TEXTS), 12, requires_grad=True)
    loss(vectors, ids, mask).backward()
    assert vectors.grad is not None
    assert float(vectors.grad.abs().max()) > 0


@pytest.mark.parametrize("kind", ["MPNet", "DistilBert", "ModernBert", "Qwen2"])
def test_an_architecture_without_a_decoder_is_refused(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path / "model")
    with pytest.raises(ConfigError, match=f"there is no decoder for a {kind}Model.*simcse"):
        loss_of(model)


def test_frozen_layers_and_adapters_are_shared_as_they_are(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    weights = dict(model.transformers_model.named_parameters())
    frozen = Frozen(model, 1)
    lora.adapt(model, LoraConfig(rank=2), freeze_layers=1, seed=0)
    loss = loss_of(model)
    for name, parameter in loss.decoder.base_model.named_parameters():
        if "cross" not in name:
            assert parameter is weights[name], name
            assert not parameter.requires_grad
    ids, mask = whole(model)
    loss(model(model.preprocess(TEXTS))["sentence_embedding"], ids, mask).backward()
    frozen.restore()
    trained = [n for n, p in model.named_parameters() if p.grad is not None]
    assert trained
    assert all("lora_" in name for name in trained)


def test_a_checkpoint_brings_both_back(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    both = nn.ModuleDict({"model": model, "loss": loss_of(model)})
    save_model(both, str(tmp_path / "both.safetensors"))
    before = {name: value.clone() for name, value in both.state_dict().items()}
    with torch.no_grad():
        for parameter in both.parameters():
            parameter.mul_(0.5)
    load_model(both, str(tmp_path / "both.safetensors"))
    for name, value in both.state_dict().items():
        assert torch.equal(value, before[name]), name


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """MiniLM's: pieces that go on a word begin with ##."""
    return AutoTokenizer.from_pretrained(locate(ModelConfig(base=MINILM)).folder)


def test_about_the_share_goes_and_special_tokens_stay(tokenizer: Any) -> None:
    ids = tokenizer("the old miller of the village " * 70, truncation=False)["input_ids"]
    damage = Damage(tokenizer, 0.6)
    left = damage(ids, torch.Generator().manual_seed(0))
    assert left[0] == ids[0] == tokenizer.cls_token_id
    assert left[-1] == ids[-1] == tokenizer.sep_token_id
    assert 0.33 < (len(left) - 2) / (len(ids) - 2) < 0.47
    assert len(damage(ids, torch.Generator().manual_seed(0))) == len(left)
    kept = iter(ids)
    assert all(any(token == other for other in kept) for token in left)  # in their order


def test_pieces_of_a_word_go_together(tokenizer: Any) -> None:
    words = ["tidecalling", "knotbinding", "wapentake", "xylocaine"]
    pieces = {tuple(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in words}
    assert min(map(len, pieces)) > 1
    ids = tokenizer(" ".join(words))["input_ids"]
    seen = set()
    for seed in range(40):
        left = Damage(tokenizer, 0.5)(ids, torch.Generator().manual_seed(seed)).tolist()
        text = tokenizer.decode(left, skip_special_tokens=True)
        assert set(text.split()) <= set(words), text
        seen.add(text)
    assert len(seen) > 8


@pytest.mark.parametrize(("first", "rest"), [("▁deep", "er"), ("Ġdeep", "er")])
def test_words_begin_where_the_vocabulary_says(first: str, rest: str) -> None:
    class Tokenizer:
        all_special_ids, unk_token_id = [0], None

        def get_vocab(self) -> dict[str, int]:
            return {"<s>": 0, first: 1, rest: 2}

    ids = [0, *[1, 2, 2] * 20]
    left = Damage(Tokenizer(), 0.5)(ids, torch.Generator().manual_seed(2)).tolist()
    assert left == [0, *[1, 2, 2] * (len(left) // 3)]
    assert 1 < len(left) < len(ids)
    only = Damage(Tokenizer(), 1.0)([0, 2, 1, 2, 0], torch.Generator().manual_seed(2)).tolist()
    assert only in ([0, 2, 0], [0, 1, 2, 0])  # a text may begin inside a word


def test_a_word_is_left_and_a_prompt_is_whole(tokenizer: Any) -> None:
    damage = Damage(tokenizer, 1.0)
    ids = tokenizer("search document : one two three")["input_ids"]
    left = damage(ids, kept=4).tolist()
    assert left[:4] == ids[:4]
    assert len(left) == 4 + 1 + 1
    assert left[4] in ids[4:-1]
    nothing = tokenizer("")["input_ids"]
    assert damage(nothing).tolist() == nothing
    assert Damage(tokenizer, 0.0)(ids).tolist() == ids


def test_an_unknown_word_is_a_word(tokenizer: Any) -> None:
    unknown = [tokenizer.cls_token_id, *[tokenizer.unk_token_id] * 50, tokenizer.sep_token_id]
    assert len(Damage(tokenizer, 0.5)(unknown)) < 45


def test_torchs_generator_decides(tokenizer: Any) -> None:
    ids = np.array(tokenizer("one two three four five six seven eight")["input_ids"], np.int32)
    damage = Damage(tokenizer, 0.5)
    state = torch.random.get_rng_state()
    first = [damage(ids).tolist() for _ in range(5)]
    torch.random.set_rng_state(state)
    assert [damage(ids).tolist() for _ in range(5)] == first
    assert any(left != first[0] for left in first)
