"""Texts are encoded as SentenceTransformer.encode would: each once, and with little padding."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    StaticEmbedding,
)
from torch import nn

from codex_forge.config.sections import ModelConfig
from codex_forge.model import encoder as encoding
from codex_forge.model.encoder import Encoder, load_base
from codex_forge.model.locate import locate
from tests.conftest import MINILM
from tests.tiny_models import some_texts, tiny_model

NEAR = 1e-6
"""1 - cosine: sums of float32 in another order."""
TEXTS = [*some_texts(24), "", "   ", *some_texts(24)[::5], "w1 w2 " * 90, "Ünknown wörds w3"]
"""Of 1 to 180 words (60 tokens are kept), with repeats; an empty one; one of spaces."""

pytestmark = pytest.mark.usefixtures("one_thread")


def least_cosine(ours: NDArray[np.float32], theirs: Any) -> float:
    expected = np.asarray(theirs, dtype=np.float64)
    assert ours.shape == expected.shape
    assert ours.dtype == np.float32
    assert np.allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-5)
    return float((ours.astype(np.float64) * expected).sum(axis=1).min())


def check(model: SentenceTransformer, batch_tokens: int = 96) -> Encoder:
    """Queries and documents have the library's vectors."""
    encoder = Encoder(model, batch_tokens)
    for ours, theirs in (
        (encoder.encode_query, model.encode_query),
        (encoder.encode_document, model.encode_document),
    ):
        assert least_cosine(ours(TEXTS), theirs(TEXTS, normalize_embeddings=True)) >= 1 - NEAR
    return encoder


def is_fast(encoder: Encoder) -> bool:
    return encoder.tally.tokens > 0


@pytest.mark.parametrize("kind", ["Bert", "MPNet", "ModernBert", "NomicBert", "T5", "Qwen3"])
@pytest.mark.parametrize("prompts", [{}, {"query": "w1 w2 w3 ", "passage": "w4 "}])
def test_vectors_are_those_of_the_library(
    kind: str, prompts: dict[str, str], tmp_path: Path
) -> None:
    model = tiny_model(kind, tmp_path)
    model.prompts = prompts
    assert is_fast(check(model))


def test_minilm_on_texts_of_all_lengths() -> None:
    config = ModelConfig(base=MINILM, device="cpu", query_prompt="which disease is this: ")
    model = load_base(locate(config).folder, config)
    words = ["fever", "cough", "rash", "of", "the", "left", "lung", "Ödem", "(ICD-10)", "spleen"]
    dice = random.Random(3)
    texts = [" ".join(dice.choices(words, k=k)) for k in (1, 3, 30, 8, 60, 2, 200, 400)]
    texts += ["", texts[2], texts[0]]
    encoder = Encoder(model)
    for ours, theirs in (
        (encoder.encode_query, model.encode_query),
        (encoder.encode_document, model.encode_document),
    ):
        assert least_cosine(ours(texts), theirs(texts, normalize_embeddings=True)) >= 1 - NEAR
    assert is_fast(encoder)


def test_a_tokenizer_may_pad_and_truncate_on_the_left(tmp_path: Path) -> None:
    model = tiny_model("Qwen3", tmp_path)
    model.tokenizer.padding_side = model.tokenizer.truncation_side = "left"
    assert is_fast(check(model))


@pytest.mark.parametrize("kind", ["Bert", "Qwen3"])
def test_a_prompt_may_be_left_out_of_the_pooling(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path)
    model.prompts = {"query": "w1 w2 w3 ", "document": "w4 "}
    with_it = Encoder(model).encode_query(["w7 w8"])
    model[1].include_prompt = False
    assert is_fast(check(model))
    without = Encoder(model).encode_query(["w7 w8"])
    assert kind == "Qwen3" or float((with_it * without).sum()) < 1 - 1e-3


def test_modules_behind_the_pooling_run_as_they_are(tmp_path: Path) -> None:
    plain = tiny_model("Bert", tmp_path)
    torch.manual_seed(1)
    model = SentenceTransformer(modules=[*plain, Dense(32, 12), Normalize()], device="cpu")
    encoder = check(model)
    assert is_fast(encoder)
    assert encoder.dimension == encoder.encode_query(["w1"]).shape[1] == 12


def test_a_model_may_cut_its_vectors_or_have_a_default_prompt(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path)
    model.truncate_dim = 8
    assert is_fast(check(model))
    model.prompts = {"clustering": "w9 w9 "}
    model.default_prompt_name = "clustering"
    assert is_fast(check(model))


def test_a_model_without_a_transformer_is_left_to_its_own_way(tmp_path: Path) -> None:
    tokenizer = tiny_model("Bert", tmp_path).tokenizer.backend_tokenizer
    torch.manual_seed(1)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)])
    texts = [text for text in TEXTS if text.strip()]
    encoder = Encoder(model)
    found = encoder.encode_document(texts)
    assert least_cosine(found, model.encode_document(texts, normalize_embeddings=True)) >= 1 - NEAR
    assert not is_fast(encoder)
    assert encoder.tally.texts == len(set(texts))


def test_a_model_that_does_more_than_its_tokenizer_is_left_to_its_own_way(tmp_path: Path) -> None:
    """Queries are cut shorter than documents: only the documents are tokenised here."""
    model = tiny_model("Bert", tmp_path)
    model[0].query_length = 7
    encoder = Encoder(model)
    asked = encoder.encode_query(TEXTS)
    assert not is_fast(encoder)
    assert least_cosine(asked, model.encode_query(TEXTS, normalize_embeddings=True)) >= 1 - NEAR
    assert is_fast(check(model))


# --- work --------------------------------------------------------------------------------------


def seen_by(model: SentenceTransformer) -> list[tuple[int, int]]:
    """Shapes (texts, tokens) of what runs through the model from now on."""
    shapes: list[tuple[int, int]] = []

    def note(_module: nn.Module, given: tuple[dict[str, torch.Tensor], ...]) -> None:
        shapes.append((given[0]["input_ids"].shape[0], given[0]["input_ids"].shape[1]))

    model.register_forward_pre_hook(note)
    return shapes


def test_each_text_runs_once_with_little_padding_within_the_limit(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path)
    texts = some_texts(300, 50)
    random.Random(1).shuffle(texts)
    shapes = seen_by(model)
    encoder = Encoder(model, batch_tokens=500)
    encoder.encode_document(texts + texts[:100])
    tally = encoder.tally
    distinct = len(set(texts))
    assert sum(rows for rows, _ in shapes) == tally.texts == distinct
    assert tally.asked == 400
    assert max(rows * tokens for rows, tokens in shapes) <= 500
    assert sum(rows * tokens for rows, tokens in shapes) == tally.padded
    assert tally.tokens <= tally.padded < 1.05 * tally.tokens


def test_a_text_longer_than_the_batch_runs_alone(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path)
    shapes = seen_by(model)
    Encoder(model, batch_tokens=20).encode_document(["w1 " * 50, "w1", "w2"])
    assert shapes == [(1, 52), (2, 3)]


def test_windows_give_the_same_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("Bert", tmp_path)
    expected = Encoder(model).encode_document(TEXTS)
    monkeypatch.setattr(encoding, "_WINDOW", 7)
    encoder = Encoder(model)
    assert least_cosine(encoder.encode_document(TEXTS), expected) >= 1 - NEAR
    assert encoder.tally.asked == len(TEXTS)
    assert encoder.tally.texts == len(set(TEXTS))


def test_what_is_prepared_in_advance_has_the_same_vectors(tmp_path: Path) -> None:
    encoder = Encoder(tiny_model("Bert", tmp_path))
    prepared = [encoder.prepare(part, "document") for part in (TEXTS[:9], TEXTS[9:], [])]
    found = [encoder.finish(part) for part in prepared]
    assert found[2].shape == (0, 32)
    expected = encoder.encode_document(TEXTS)
    assert least_cosine(np.concatenate(found[:2]), expected) >= 1 - NEAR


def test_no_texts_have_no_vectors_and_do_no_harm(tmp_path: Path) -> None:
    encoder = Encoder(tiny_model("Bert", tmp_path))
    assert encoder.encode_query([]).shape == (0, 32)
    encoder.encode_query(["w1"])
    assert is_fast(encoder)


def test_the_same_call_gives_the_same_bits(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path)
    first, second = (Encoder(model).encode_document(TEXTS) for _ in range(2))
    assert np.array_equal(first, second)


def test_less_runs_at_once_when_memory_runs_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model("Bert", tmp_path)
    texts = some_texts(200, 12)
    expected = Encoder(model).encode_document(texts)
    most = 60

    def run_out(_module: nn.Module, given: tuple[dict[str, torch.Tensor], ...]) -> None:
        if given[0]["input_ids"].numel() > most:
            raise torch.OutOfMemoryError("more than the memory holds")

    model.register_forward_pre_hook(run_out)
    encoder = Encoder(model, batch_tokens=4000)
    assert least_cosine(encoder.encode_document(texts), expected) >= 1 - NEAR
    assert encoder.batch_tokens <= 120
    assert encoder.tally.texts == len(set(texts))
    assert "memory ran out" in caplog.text
    most = 10
    with pytest.raises(torch.OutOfMemoryError):
        encoder.encode_document(["w1 " * 30])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_number_formats_give_nearly_the_same(precision: str, tmp_path: Path) -> None:
    config = ModelConfig(base=MINILM, device="cpu")
    model = load_base(locate(config).folder, config)
    texts = ["fever and a rash", "cough " * 40, "the left lung is enlarged", ""]
    whole = Encoder(model).encode_document(texts)
    rounded = Encoder(model, precision=precision).encode_document(texts)
    assert 0.999 < least_cosine(rounded, whole) < 1 - 1e-8
