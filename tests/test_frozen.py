"""A model whose frozen layers were taken off, and get what they gave from a file, is the same."""

from __future__ import annotations

import copy
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from codex_forge.config.sections import ModelConfig
from codex_forge.errors import ConfigError, Preempted
from codex_forge.model.encoder import load_base
from codex_forge.model.locate import locate
from codex_forge.stopping import stop
from codex_forge.train.data.texts import TextTable
from codex_forge.train.encoding import Tower
from codex_forge.train.guards import MicroBatch
from codex_forge.train.layers.activations import ActivationCache
from codex_forge.train.layers.anatomy import anatomy, freeze, parameters
from codex_forge.train.layers.frozen import Frozen
from codex_forge.train.layers.probing import Features
from tests.conftest import MINILM
from tests.tiny_models import KINDS, LAYERS, some_texts, tiny_model

GIB = 2**30


pytestmark = pytest.mark.usefixtures("one_thread")


def minilm() -> SentenceTransformer:
    config = ModelConfig(base=MINILM, device="cpu")
    return load_base(locate(config).folder, config)


def table_of(model: SentenceTransformer, folder: Path, texts: list[str]) -> TextTable:
    folder.mkdir()
    table = TextTable(model, folder)
    table.add_all(texts, "document")
    return table


def cache_of(folder: Path, table: TextTable, frozen: Frozen, **options: Any) -> ActivationCache:
    settings: dict[str, Any] = {
        "dtype": torch.float32,
        "limit_gib": 1.0,
        "tokens_per_forward": 100,
        **options,
    }
    return ActivationCache(folder, table, frozen, **settings)


def padded(table: TextTable, numbers: list[int]) -> Features:
    longest = max(len(table.ids(n)) for n in numbers)
    ids = np.zeros((len(numbers), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, number in enumerate(numbers):
        own = table.ids(number)
        ids[row, : len(own)], mask[row, : len(own)] = own, 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def backward(value: Any) -> None:
    value.backward()


def taken_off(model: SentenceTransformer, layer: int) -> Any:
    stand_in: Any = anatomy(model).layers[layer]
    return stand_in.stands_for


def frozen_names(model: SentenceTransformer) -> set[str]:
    return {name for name, p in model[0].model.named_parameters() if not p.requires_grad}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what is frozen ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_and_lowest_layers_are_frozen(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path)
    found = anatomy(model)
    assert len(found.layers) == LAYERS
    freeze(model, embeddings=False, layers=2)
    top = {f"{found.name}.2.{name}" for name, _ in found.layers[2].named_parameters()}
    everything = {name for name, _ in model[0].model.named_parameters()}
    top |= {name for name in everything if name.startswith(("norm.", "final_norm.", "pooler."))}
    assert frozen_names(model) == everything - top
    trainable, total = parameters(model)
    assert 0 < trainable < total == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "kind, beside",
    [
        ("Bert", set()),
        # shared by all layers, and no embedding of tokens
        ("MPNet", set()),
        ("Electra", {"embeddings_project.weight", "embeddings_project.bias"}),
        ("Qwen3", set()),
    ],
)
def test_embeddings_alone_are_frozen(kind: str, beside: set[str], tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path)
    freeze(model, embeddings=True, layers=0)
    own = anatomy(model).embeddings()
    names = {name for name, _ in model[0].model.named_parameters() if name.startswith(f"{own}.")}
    assert names
    assert frozen_names(model) == names | beside


def test_what_all_layers_share_is_frozen_with_the_first(tmp_path: Path) -> None:
    model = tiny_model("MPNet", tmp_path)
    freeze(model, embeddings=False, layers=1)
    assert "encoder.relative_attention_bias.weight" in frozen_names(model)


def test_freezing_nothing_changes_nothing(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path)
    freeze(model, embeddings=False, layers=0)
    assert not frozen_names(model)


def test_there_are_not_as_many_layers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.freeze_layers=9: the model has 3 layers; set it"):
        freeze(tiny_model("Bert", tmp_path), embeddings=False, layers=9)


def test_something_must_be_left_to_train(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"freeze_layers=3: nothing is left to train"):
        freeze(tiny_model("Bert", tmp_path / "bert"), embeddings=False, layers=3)
    model = tiny_model("ModernBert", tmp_path / "modern")
    freeze(model, embeddings=False, layers=3)
    left = {name for name, p in model.named_parameters() if p.requires_grad}
    assert left == {"0.model.final_norm.weight"}
    with Frozen(model, 3):
        assert dict(model.named_parameters()).keys() == left


def test_an_architecture_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the layers of a AlbertModel are not found"):
        freeze(tiny_model("Albert", tmp_path / "albert"), embeddings=False, layers=1)
    model = tiny_model("T5", tmp_path / "t5")
    before = model.encode(some_texts(3))
    with pytest.raises(ConfigError, match="T5EncoderModel cannot be cut between its layers"):
        Frozen(model, 1)
    np.testing.assert_array_equal(model.encode(some_texts(3)), before)


# --- the model without them ----------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_and_gradients_are_those_of_the_whole(
    kind: str, layers: int, tmp_path: Path
) -> None:
    model = tiny_model(kind, tmp_path / "model")
    whole = copy.deepcopy(model)
    freeze(whole, embeddings=True, layers=layers)
    texts = some_texts(8)
    table = table_of(model, tmp_path / "table", texts)
    numbers = [7, 2, 5, 6]
    # The library pads a decoder's texts on the left: the whole gets the same input here.
    expected = whole(padded(table, numbers))["sentence_embedding"]
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    backward((expected * weights).sum())
    with Frozen(model, layers) as frozen:
        cache = cache_of(tmp_path / "cache", table, frozen)
        model.train()  # dropout is 0
        cache.hand(numbers)
        found = model(padded(table, numbers))["sentence_embedding"]
        backward((found * weights).sum())
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        stock = dict(whole.named_parameters())
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                is_used = "pooler" not in name
                assert (parameter.grad is not None) == is_used
                torch.testing.assert_close(parameter.grad, stock[name].grad, rtol=1e-4, atol=1e-4)
            else:
                assert parameter.grad is None
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert trained == {name for name, p in stock.items() if p.requires_grad}


@pytest.mark.parametrize("kind", ["Bert", "ModernBert", "Qwen3"])
def test_the_model_is_whole_again_and_can_be_saved(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path / "model")
    before = copy.deepcopy(model)
    texts = some_texts(5)
    with Frozen(model, 2) as frozen:
        assert len(model.state_dict()) < len(before.state_dict())
        np.testing.assert_allclose(model.encode(texts), before.encode(texts), atol=1e-5)
        assert parameters(model)[1] == parameters(before)[1]
        frozen.restore()
    assert model.state_dict().keys() == before.state_dict().keys()
    for name, value in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    model.save_pretrained(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(again.encode(texts), before.encode(texts), atol=1e-5)


@pytest.mark.parametrize("kind", ["Bert", "Electra", "Qwen3"])
def test_frozen_layers_never_have_dropout(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path / "model", dropout=True).train()
    if kind == "Electra":  # one that is neither in the embeddings nor in a layer
        project = model[0].model.embeddings_project
        model[0].model.embeddings_project = nn.Sequential(project, nn.Dropout(0.5))
    table = table_of(model, tmp_path / "table", some_texts(4))
    features = padded(table, [3, 2])
    whole = copy.deepcopy(model).eval()
    kept: list[torch.Tensor] = []
    whole[0].model.get_submodule(anatomy(whole).name)[1].register_forward_hook(
        lambda _, __, output: kept.append(output[0] if isinstance(output, tuple) else output)
    )
    whole(dict(features))
    with Frozen(model, 2) as frozen:
        assert model.training
        assert all(part.training for part in model[0].modules())
        torch.testing.assert_close(frozen.bottom(features), kept[0], rtol=0, atol=1e-5)
        assert not any(part.training for part in taken_off(model, 0).modules())
    assert all(part.training for part in model.modules())


def test_what_is_handed_in_is_used_once(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model").eval()
    table = table_of(model, tmp_path / "table", some_texts(4))
    features = padded(table, [3, 2])
    with Frozen(model, 2) as frozen, torch.no_grad():
        own = model(dict(features))["sentence_embedding"]
        frozen.hand(torch.zeros(2, features["input_ids"].shape[1], 32))
        assert not torch.allclose(model(dict(features))["sentence_embedding"], own)
        assert torch.equal(model(dict(features))["sentence_embedding"], own)


def test_the_rest_compiles_in_one_piece(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model").eval()
    table = table_of(model, tmp_path / "table", some_texts(4))
    with Frozen(model, 2) as frozen:
        cache = cache_of(tmp_path / "cache", table, frozen)
        compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
        for numbers in ([3, 2], [1, 3], [3, 2]):
            cache.hand(numbers)
            found = compiled(padded(table, numbers))["sentence_embedding"]
            cache.hand(numbers)
            expected = model(padded(table, numbers))["sentence_embedding"]
            torch.testing.assert_close(found, expected)
        in_pieces: Any = torch.compile(model, backend="eager")
        found = in_pieces(padded(table, [3, 2]))["sentence_embedding"]  # handed nothing
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("cached", [False, True])
def test_the_tower_encodes_as_with_the_whole_model(cached: bool, tmp_path: Path) -> None:
    model = tiny_model("MPNet", tmp_path / "model")
    whole = copy.deepcopy(model)
    freeze(whole, embeddings=True, layers=2)
    table = table_of(model, tmp_path / "table", some_texts(20))
    memory = MicroBatch(60, cached=cached, longest=32)
    numbers = np.array([4, 19, 0, 11, 3, 8], dtype=np.int32)
    expected = Tower(whole, table, memory)(numbers)
    backward(expected.square().sum())
    with Frozen(model, 2) as frozen:
        cache = cache_of(tmp_path / "cache", table, frozen)
        tower = Tower(model, table, memory)
        tower.cache = cache
        found = tower(numbers)
        backward(found.square().sum())
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        stock = dict(whole.named_parameters())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, stock[name].grad, rtol=1e-4, atol=1e-5)


def test_minilm_with_three_frozen_layers(tmp_path: Path) -> None:
    model = minilm()
    texts = ["What is asthma?", "Asthma is a long-term disease of the airways. " * 3, "a gene"]
    expected = model.encode(texts, normalize_embeddings=True)
    table = table_of(model, tmp_path / "table", texts)
    with Frozen(model, 3) as frozen:
        trainable, total = parameters(model)
        cache = cache_of(tmp_path / "cache", table, frozen)
        tower = Tower(model, table, MicroBatch(99, cached=False, longest=60))
        tower.cache = cache
        found = tower(np.arange(3, dtype=np.int32))
        assert sum(p.numel() for p in model.parameters()) == trainable < total / 4
    unit = torch.nn.functional.normalize(found.detach(), dim=-1).numpy()
    np.testing.assert_allclose(unit, expected, atol=1e-5)


# --- the file ------------------------------------------------------------------------------------


class Runs:
    """Counts the texts that a frozen layer is run on."""

    def __init__(self, frozen: Frozen) -> None:
        self.texts = 0
        taken_off(frozen.model, 0).register_forward_hook(self._count)

    def _count(self, _: Any, given: tuple[torch.Tensor, ...], __: Any) -> None:
        self.texts += len(given[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_text_is_computed_once_and_never_again(dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    table = table_of(model, tmp_path / "table", some_texts(12))
    probes = 2
    with Frozen(model, 2) as frozen:
        runs = Runs(frozen)
        cache = cache_of(tmp_path / "cache", table, frozen, dtype=dtype)
        assert runs.texts == 12 + probes
        hidden = cache.hidden([11, 0, 5])
        again = cache_of(tmp_path / "cache", table, frozen, dtype=dtype)
        assert torch.equal(again.hidden([11, 0, 5]), hidden)
        assert runs.texts == 12 + 2 * probes
        none = cache_of(tmp_path / "none", table, frozen, dtype=dtype, limit_gib=0)
        near = {torch.float32: 1e-5, torch.bfloat16: 0.05, torch.float16: 0.005}[dtype]
        torch.testing.assert_close(none.hidden([11, 0, 5]), hidden, rtol=near, atol=near)
        assert not (tmp_path / "none").exists()
        lengths = table.lengths[[11, 0, 5]]
        assert hidden.dtype == torch.float32
        assert torch.equal(hidden, hidden.to(dtype).float())
        assert hidden.shape == (3, lengths.max(), 32)
        for row, length in enumerate(lengths):
            assert not hidden[row, length:].any()
            assert hidden[row, :length].abs().sum(-1).all()
    [file] = (tmp_path / "cache").iterdir()
    assert file.stat().st_size == table.lengths.sum() * 32 * dtype.itemsize


def test_texts_beyond_the_limit_are_computed_each_time(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    table = table_of(model, tmp_path / "table", some_texts(12))
    longest = sorted(range(12), key=lambda n: (-table.lengths[n], n))[:4]
    limit = table.lengths[longest].sum() * 32 * 4
    with Frozen(model, 2) as frozen:
        whole = cache_of(tmp_path / "whole", table, frozen)
        cache = cache_of(tmp_path / "some", table, frozen, limit_gib=limit / GIB)
        runs = Runs(frozen)
        mixed = [*longest, *sorted(set(range(12)) - set(longest))]
        torch.testing.assert_close(cache.hidden(longest), whole.hidden(longest))
        assert runs.texts == 0
        torch.testing.assert_close(cache.hidden(mixed), whole.hidden(mixed), rtol=0, atol=1e-5)
        assert runs.texts == 8
        new = table.add("w1 w2 w3 new", "query")  # the table has grown
        assert cache.hidden([new, longest[0]]).shape == (2, table.lengths[longest[0]], 32)
        few = cache_of(tmp_path / "few", table, frozen, numbers=[1, 2, 2])
        runs.texts = 0
        few.hidden([1, 2, 3])
        assert runs.texts == 1


def test_another_model_has_another_file(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    table = table_of(model, tmp_path / "table", some_texts(5))
    folder = tmp_path / "cache"

    def count(layers: int = 2, **options: Any) -> int:
        with Frozen(model, layers) as frozen:
            cache_of(folder, table, frozen, **options)
        return len(files(folder))

    assert count() == 1
    assert count(numbers=range(4)) == 2
    assert count(layers=1) == 3
    assert count(dtype=torch.bfloat16) == 4
    with torch.no_grad():
        anatomy(model).layers[2].get_parameter("output.dense.bias").add_(1)  # is not frozen
        assert count() == 4
        anatomy(model).layers[1].get_parameter("output.dense.bias").add_(1)
        assert count() == 5


def test_files_used_longest_ago_make_room(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    table = table_of(model, tmp_path / "table", some_texts(5))
    folder = tmp_path / "cache"
    size = int(table.lengths.sum()) * 32 * 4
    with Frozen(model, 2) as frozen:
        old = cache_of(folder, table, frozen)
        [first] = folder.iterdir()
        os.utime(first, (1, 1))
        (folder / "other.bin").write_bytes(bytes(99))
    with Frozen(model, 1) as frozen:
        cache_of(folder, table, frozen, limit_gib=2 * size / GIB)
        assert len(files(folder)) == 3
        [second] = {*folder.glob("a*")} - {first}
        os.utime(second, (2, 2))
    with Frozen(model, 2) as frozen:
        cache_of(folder, table, frozen)  # used again: newest now
        cache_of(folder, table, frozen, dtype=torch.bfloat16, limit_gib=1.5 * size / GIB)
        assert first.exists()
        assert not second.exists()
        assert (folder / "other.bin").exists()
        cache_of(folder, table, frozen, numbers=[0], limit_gib=0.3 * size / GIB)
        assert not first.exists()
        assert old.hidden([1, 2]).abs().sum() > 0  # what is open stays readable


@pytest.mark.parametrize("left", ["part", "short"])
def test_a_run_that_ended_while_it_wrote_is_no_matter(left: str, tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    table = table_of(model, tmp_path / "table", some_texts(9))
    with Frozen(model, 2) as frozen:
        cache = cache_of(tmp_path / "cache", table, frozen)
        expected = cache.hidden(range(9))
        [file] = (tmp_path / "cache").iterdir()
        content = file.read_bytes()
        file.unlink()
        if left == "part":
            file.with_suffix(".part").write_bytes(b"\x11" * (len(content) + 7))
        else:
            file.write_bytes(content[:-1])
        again = cache_of(tmp_path / "cache", table, frozen)
        assert torch.equal(again.hidden(range(9)), expected)
        assert file.read_bytes() == content
        assert files(tmp_path / "cache") == [file.name]


def test_a_signal_ends_the_computation_and_the_next_run_completes_it(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path / "model")
    table = table_of(model, tmp_path / "table", some_texts(9))
    with Frozen(model, 2) as frozen:
        stop.listen()
        handle = taken_off(model, 0).register_forward_hook(
            lambda _, given, __: signal.raise_signal(signal.SIGTERM) if len(given[0]) > 3 else None
        )
        with pytest.raises(Preempted):
            cache_of(tmp_path / "cache", table, frozen)
        [part] = files(tmp_path / "cache")
        assert part.endswith(".part")
        handle.remove()
        stop.listen()
        cache_of(tmp_path / "cache", table, frozen)
        [whole] = files(tmp_path / "cache")
        assert whole.endswith(".bin")


def test_a_full_disk_keeps_nothing_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="codex_forge")
    model = tiny_model("Bert", tmp_path / "model")
    table = table_of(model, tmp_path / "table", some_texts(9))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    table.ids(0)
    with Frozen(model, 2) as frozen:
        expected = cache_of(tmp_path / "cache", table, frozen).hidden(range(9))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            cache = cache_of(tmp_path / "full", table, frozen)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        torch.testing.assert_close(cache.hidden(range(9)), expected, rtol=0, atol=1e-5)
    assert "File too large; what was to be kept there is computed each time" in caplog.text
    assert "kept for 0 of 9 texts" in caplog.text
    assert not files(tmp_path / "full")


_RANK = """
import sys, torch
from pathlib import Path
from codex_forge.train import ranks
from codex_forge.train.layers.frozen import Frozen
from tests.test_frozen import cache_of, table_of
from tests.tiny_models import some_texts, tiny_model
torch.set_num_threads(1)
folder = Path(sys.argv[1])
own = folder / f"rank-{ranks.rank()}"
model = tiny_model("Bert", own / "model")
table = table_of(model, own / "table", some_texts(15))
with ranks.together():
    with Frozen(model, 2) as frozen:
        ran = []
        original = frozen.model[0].model.encoder.layer[0].stands_for
        original.register_forward_hook(lambda _, given, __: ran.append(len(given[0])))
        cache = cache_of(folder / "cache", table, frozen)
        print(sum(ran) - 2, float(cache.hidden(range(15)).sum()))
"""


def test_ranks_share_the_work(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs = []
    for rank in range(2):
        env = {
            **os.environ,
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TQDM_DISABLE": "1",
        }
        command = [sys.executable, "-c", _RANK, str(tmp_path)]
        runs.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    said = [run.communicate(timeout=200)[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    computed = [int(words[0]) for words in said]
    assert sum(computed) == 15
    assert min(computed) > 0
    assert said[0][1] == said[1][1]
    model = tiny_model("Bert", tmp_path / "model")
    table = table_of(model, tmp_path / "table", some_texts(15))
    with Frozen(model, 2) as frozen:
        cache_of(tmp_path / "alone", table, frozen)
    [alone], [shared] = (tmp_path / "alone").iterdir(), (tmp_path / "cache").iterdir()
    assert alone.name == shared.name
    assert alone.read_bytes() == shared.read_bytes()
