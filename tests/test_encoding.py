"""A batch is encoded as the library would encode it, with little padding and each text once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from codex_forge.config.sections import ModelConfig
from codex_forge.model.encoder import load_base
from codex_forge.model.locate import locate
from codex_forge.train.data.rows import Known, Rows
from codex_forge.train.data.texts import DOCUMENT, QUERY, TextTable
from codex_forge.train.encoding import Collate, Tower
from codex_forge.train.guards import MicroBatch
from codex_forge.train.report.summary import Tally
from tests.conftest import MINILM
from tests.tiny_models import some_texts, tiny_model

NEAR = 1e-6
"""Sums of float32 in another order, of numbers of unit vectors."""


pytestmark = pytest.mark.usefixtures("one_thread")


def tower_of(model: SentenceTransformer, folder: Path, **options: Any) -> Tower:
    """A tower over an empty table; `options`: tokens, cached, tally."""
    folder.mkdir(exist_ok=True)
    table = TextTable(model, folder)
    memory = MicroBatch(options.pop("tokens", 512), cached=options.pop("cached", False), longest=1)
    return Tower(model, table, memory, **options)


def unit(vectors: torch.Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = torch.nn.functional.normalize(vectors, dim=-1).numpy()
    return found


def at_rest(tower: Tower, numbers: NDArray[np.int32]) -> torch.Tensor:
    tower.model.eval()
    with torch.no_grad():
        return tower(numbers)


# --- vectors -----------------------------------------------------------------------------------


def test_vectors_are_those_of_the_library(tmp_path: Path) -> None:
    """The real MiniLM, texts of 3 to 256 tokens in any order, a prompt for one of the roles."""
    config = ModelConfig(base=MINILM, device="cpu", query_prompt="which disease is this: ")
    model = load_base(locate(config).folder, config)
    words = ["fever", "cough", "rash", "of", "the", "left", "lung", "and", "enlarged", "spleen"]
    dice = np.random.default_rng(3)
    sizes = [*dice.integers(1, 60, 14).tolist(), 1, 200, 400]
    texts = [" ".join(dice.choice(words, size)) for size in sizes]
    tower = tower_of(model, tmp_path / "texts")
    numbers = {role: tower.table.add_all(texts, role) for role in (QUERY, DOCUMENT)}
    both = np.concatenate([numbers[QUERY], numbers[DOCUMENT]])
    shuffled = dice.permutation(both).astype(np.int32)
    found = dict(zip(shuffled.tolist(), unit(at_rest(tower, shuffled)), strict=True))
    encoded = {QUERY: model.encode_query, DOCUMENT: model.encode_document}
    for role, own in numbers.items():
        expected = encoded[role](texts, normalize_embeddings=True)
        got = np.stack([found[number] for number in own.tolist()])
        assert float(np.abs(got - expected).max()) < NEAR


@pytest.mark.parametrize("kind", ["Bert", "MPNet", "ModernBert", "T5", "Qwen3"])
def test_every_kind_of_model_is_encoded_as_the_library_does(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path / "model")
    texts = some_texts(20)
    tower = tower_of(model, tmp_path / "texts", tokens=64)
    numbers = tower.table.add_all(texts, DOCUMENT)
    expected = model.encode(texts, normalize_embeddings=True)
    assert float(np.abs(unit(at_rest(tower, numbers)) - expected).max()) < NEAR


@pytest.mark.parametrize("kind", ["Bert", "Qwen3"])
def test_a_prompt_that_is_left_out_of_the_pooling_is(kind: str, tmp_path: Path) -> None:
    """Queries with a prompt beside documents without, and of different prompts' lengths."""
    model = tiny_model(kind, tmp_path / "model")
    model[1].include_prompt = False
    model.prompts = {"query": "w1 w2 w3 ", "document": "w4 "}
    texts = some_texts(10)
    tower = tower_of(model, tmp_path / "texts")
    queries = tower.table.add_all(texts, QUERY)
    documents = tower.table.add_all(texts, DOCUMENT)
    mixed = np.stack([queries, documents], axis=1).reshape(-1)
    found = unit(at_rest(tower, mixed))
    asked, told = (encode(texts, normalize_embeddings=True) for encode in both_ways(model))
    assert float(np.abs(found[0::2] - asked).max()) < NEAR
    assert float(np.abs(found[1::2] - told).max()) < NEAR
    model[1].include_prompt = True
    whole, _ = (encode(texts, normalize_embeddings=True) for encode in both_ways(model))
    assert kind == "Qwen3" or float(np.abs(whole - asked).max()) > 1e-3, "it makes no difference"


def both_ways(model: SentenceTransformer) -> tuple[Any, Any]:
    return model.encode_query, model.encode_document


def test_texts_by_their_ids_have_the_same_vectors(tmp_path: Path) -> None:
    tower = tower_of(tiny_model("Bert", tmp_path / "model"), tmp_path / "texts", tokens=50)
    numbers = tower.table.add_all(some_texts(12), DOCUMENT)
    dice = np.random.default_rng(1)
    shuffled = dice.permutation(numbers)
    ids = [tower.table.ids(int(number)) for number in shuffled]
    expected = at_rest(tower, shuffled)
    with torch.no_grad():
        found = tower.of_ids(ids)
    assert float((found - expected).abs().max()) < NEAR * float(expected.abs().max())


# --- sub-batches -------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[Tower, Tally, NDArray[np.int32]]:
    """400 texts of 3 to 60 tokens, most of them short."""
    tally = Tally()
    tower = tower_of(
        tiny_model("Bert", tmp_path / "model"), tmp_path / "texts", tokens=1500, tally=tally
    )
    dice = np.random.default_rng(5)
    texts = [
        " ".join(f"w{w}" for w in dice.integers(0, 40, 1 + int(58 * dice.random() ** 2)))
        for _ in range(400)
    ]
    return tower, tally, np.unique(tower.table.add_all(texts, DOCUMENT))


def test_little_is_computed_for_padding(mixed: tuple[Tower, Tally, NDArray[np.int32]]) -> None:
    tower, tally, numbers = mixed
    at_rest(tower, numbers)
    lengths = tower.table.lengths[numbers]
    assert (tally.texts, tally.tokens) == (len(numbers), int(lengths.sum()))
    as_they_come = 1 - lengths.sum() / (lengths.max() * len(lengths))
    assert as_they_come > 0.5
    assert tally.padding_share is not None
    assert tally.padding_share < 0.15


def test_what_runs_together_is_bounded_and_holds_each_text_once(
    mixed: tuple[Tower, Tally, NDArray[np.int32]],
) -> None:
    tower, _, numbers = mixed
    longest_first = numbers[np.argsort(-tower.table.lengths[numbers], kind="stable")]
    for tokens in (60, 200, 1500, 10**6):
        tower.memory.tokens = tokens
        parts = list(tower.cut(longest_first))
        sizes = [int(tower.table.lengths[part].max()) * len(part) for part in parts]
        assert max(sizes) <= tokens
        assert np.concatenate(parts).tolist() == longest_first.tolist()
        assert len(parts) > 1


def test_validation_is_not_counted(mixed: tuple[Tower, Tally, NDArray[np.int32]]) -> None:
    tower, tally, numbers = mixed
    tower.model.eval()
    with torch.no_grad():
        tower(numbers, counted=False)
    assert tally == Tally()


# --- gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [False, True])
def test_forgotten_activations_give_the_same_gradients(dropout: bool, tmp_path: Path) -> None:
    """GradCache: with dropout too, whose masks are drawn again as they were."""
    model = tiny_model("Bert", tmp_path / "model", dropout=dropout)
    tower = tower_of(model, tmp_path / "texts", tokens=64)
    numbers = tower.table.add_all(some_texts(24), DOCUMENT)
    found = {}
    for cached in (False, True):
        tower.memory.cached = cached
        torch.manual_seed(5)
        model.train()
        vectors = torch.nn.functional.normalize(tower(numbers), dim=-1)
        loss = torch.logsumexp(20 * vectors @ vectors.T, dim=1).mean()
        model.zero_grad()
        torch.autograd.backward(loss)
        grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found[cached] = (float(loss.detach()), float(torch.rand(1)), grads)
    assert found[True][:2] == found[False][:2]
    plain, again = found[False][2], found[True][2]
    assert plain.keys() == again.keys()
    assert max(float(g.abs().max()) for g in plain.values()) > 1e-3
    assert [name for name in plain if not torch.equal(plain[name], again[name])] == []


# --- batches -----------------------------------------------------------------------------------


def rows_of(labels: NDArray[np.float32] | None = None) -> Rows:
    columns = {
        "anchor": np.array([0, 1, 2, 0], dtype=np.int32),
        "positive": np.array([5, 6, 5, 7], dtype=np.int32),
        "negative_1": np.array([6, 7, 8, 8], dtype=np.int32),
    }
    known = Known(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32))
    return Rows("multiple_negatives_ranking", columns, labels, known, {})


def test_a_text_is_in_a_batch_once_wherever_its_rows_have_it() -> None:
    tally = Tally()
    batch = Collate(rows_of(np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)), tally)([3, 0])
    (texts,) = batch["texts"]
    assert texts.tolist() == [0, 5, 6, 7, 8]
    columns = [batch["texts"][run][places].tolist() for run, places in batch["columns"]]
    assert columns == [[0, 0], [7, 5], [8, 6]]
    assert batch["rows"] == [3, 0]
    assert batch["label"].tolist() == pytest.approx([0.4, 0.1])
    assert (tally.rows, tally.asked) == (2, 6)


def test_columns_apart_are_encoded_each_on_their_own() -> None:
    batch = Collate(replace(rows_of(), objective="simcse"))([0, 1])
    assert [run.tolist() for run in batch["texts"]] == [[0, 1], [5, 6], [6, 7]]
    columns = [batch["texts"][run][places].tolist() for run, places in batch["columns"]]
    assert columns == [[0, 1], [5, 6], [6, 7]]
    assert "label" not in batch
