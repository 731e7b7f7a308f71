"""Fast dropout of a CPU is dropout; its attention is the library's; and the share of all is set."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from codex_forge.config.sections import ModelConfig
from codex_forge.model.encoder import load_base
from codex_forge.model.locate import locate
from codex_forge.train.layers import dropout
from codex_forge.train.layers.attention import attend
from codex_forge.train.layers.dropout import FastDropout
from codex_forge.train.layers.masks import keep
from tests.conftest import MINILM
from tests.tiny_models import KINDS, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


def a_batch(longest: int = 12) -> dict[str, torch.Tensor]:
    """Three texts, the first two padded."""
    drawn = torch.Generator().manual_seed(3)
    ids = torch.randint(4, 44, (3, longest), generator=drawn)
    lengths = torch.tensor([longest // 3, longest // 2, longest])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def vectors(model: SentenceTransformer, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = model(dict(batch))["sentence_embedding"]
    return found


def gradients(model: SentenceTransformer, *, bf16: bool = False) -> dict[str, torch.Tensor]:
    """Of a loss that hears every number of a vector, by name; the vectors as `vectors`."""
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        found = vectors(model, a_batch()).float()
    weights = torch.linspace(-1, 1, found.numel()).view(found.shape)
    (found * weights).sum().backward()  # type: ignore[no-untyped-call]
    own = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {**own, "vectors": found.detach()}


def assert_close(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], near: float
) -> None:
    """Every tensor is as near as this share of the expected one's largest number."""
    assert found.keys() == expected.keys()
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        scale = max(float(value.abs().max()), 1e-3 * largest)
        assert float((found[name] - value).abs().max()) <= near * scale, name


def kinds_of_dropout(model: nn.Module) -> set[type]:
    return {type(m) for m in model.modules() if isinstance(m, nn.Dropout)}


def implementation(model: SentenceTransformer) -> str:
    transformer: Any = model[0].model
    return str(transformer.config._attn_implementation)


# --- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.3, 0.001])
def test_share_of_zeros_is_p_and_the_mean_stays(p: float) -> None:
    torch.manual_seed(0)
    count = 2_000_000
    mask, scale = keep((count,), p, torch.float32)
    assert set(mask.tolist()) == {0.0, 1.0}
    zeros = 1 - float(mask.double().mean())
    assert abs(zeros - p) < 5 * (p * (1 - p) / count) ** 0.5 + 1 / 65536
    assert abs(float(mask.double().mean()) * scale - 1) < 5 * (p / (1 - p) / count) ** 0.5


def test_share_is_rounded_to_a_65536th_and_what_stays_is_scaled_by_the_rounded_one() -> None:
    _, scale = keep((4,), 0.1, torch.float32)
    assert scale == 65536 / (65536 - 6554)
    assert keep((4,), 0.25, torch.float32)[1] == 1 / 0.75


def test_each_of_the_16_bits_decides() -> None:
    torch.manual_seed(1)
    share = 1 / 4096  # of 16 shares of 65536: eight bits could not draw it
    mask, _ = keep((4_000_000,), share, torch.float32)
    assert abs(float((mask == 0).sum()) - 977) < 5 * 977**0.5


def test_neighbours_are_drawn_independently() -> None:
    torch.manual_seed(2)
    mask, _ = keep((1_000, 1_000), 0.5, torch.float32)
    centred = mask.flatten() - 0.5
    for step in (1, 2, 3, 4, 5, 8, 1_000):
        together = float((centred[:-step] * centred[step:]).mean()) / 0.25
        assert abs(together) < 5e-3, step


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 4, 5), (0, 4)])
def test_masks_have_any_shape(shape: tuple[int, ...]) -> None:
    mask, _ = keep(shape, 0.5, torch.bfloat16)
    assert mask.shape == shape
    assert mask.dtype == torch.bfloat16


# --- the module ----------------------------------------------------------------------------------


def fast(p: float) -> nn.Dropout:
    module = nn.Dropout(p)
    dropout.install(module)
    assert type(module) is FastDropout
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_masked_and_scaled_alike(dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    given = torch.randn(64, 100, dtype=dtype).requires_grad_()
    found = fast(0.25)(given)
    kept = found != 0
    assert 0.7 < float(kept.float().mean()) < 0.8
    near = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, torch.where(kept, given / 0.75, 0), rtol=near, atol=0)
    pull = torch.randn(64, 100, dtype=dtype)
    found.backward(pull)
    assert given.grad is not None
    torch.testing.assert_close(given.grad, torch.where(kept, pull / 0.75, 0), rtol=near, atol=0)
    assert torch.equal(given.grad != 0, kept & (pull != 0))


def test_the_seed_of_torch_decides_and_the_state_goes_on() -> None:
    module, given = fast(0.5), torch.ones(1_000)
    torch.manual_seed(5)
    first, second = module(given), module(given)
    torch.manual_seed(5)
    assert torch.equal(module(given), first)
    state = torch.get_rng_state()
    assert torch.equal(module(given), second)
    torch.set_rng_state(state)
    assert torch.equal(module(given), second)
    assert not torch.equal(first, second)


def test_nothing_happens_at_rest_and_at_a_share_of_0_and_all_at_1() -> None:
    given = torch.randn(10, 10)
    assert fast(0.5).eval()(given) is given
    assert torch.equal(fast(0.0)(given), given)
    assert float(fast(1.0)(given).abs().max()) == 0


def test_inside_compile_it_is_the_stock_dropout() -> None:
    torch.manual_seed(6)
    compiled = torch.compile(fast(0.5), backend="eager", fullgraph=True)
    found = compiled(torch.ones(1_000))
    torch.manual_seed(6)
    assert torch.equal(found, functional.dropout(torch.ones(1_000), 0.5))


# --- install and remove --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_install_and_remove_leave_no_trace(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path / "base", dropout=True)
    modules, names = list(model.modules()), list(model.state_dict())
    kinds, stock = kinds_of_dropout(model), implementation(model)
    dropout.install(model)
    assert kinds_of_dropout(model) == ({FastDropout} if kinds else set())
    assert list(model.state_dict()) == names
    model.save(str(tmp_path / "saved"))  # as a checkpoint would, in the middle of a run
    dropout.install(model)  # twice is once
    dropout.remove(model)
    dropout.remove(model)
    assert kinds_of_dropout(model) == kinds
    assert implementation(model) == stock
    assert all(now is before for now, before in zip(model.modules(), modules, strict=True))
    assert "codex_forge" not in (tmp_path / "saved" / "config.json").read_text()
    loaded = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert implementation(loaded) == stock


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bf16", [False, True])
def test_without_dropout_vectors_and_gradients_are_the_librarys(
    kind: str, bf16: bool, tmp_path: Path
) -> None:
    model = tiny_model(kind, tmp_path).train()
    exact = gradients(model)
    expected = gradients(model, bf16=bf16)
    dropout.install(model)
    found = gradients(model, bf16=bf16)
    if not bf16:
        assert_close(found, expected, 1e-5)
        return
    # bf16 rounds: it may be as far from float32 as the library's is, and a little more.
    for name, value in exact.items():
        own, theirs = (float((g[name] - value).norm()) for g in (found, expected))
        assert own <= 1.5 * theirs + 2e-2 * float(value.norm()) + 1e-3, name


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("kind", ["Bert", "ModernBert", "Qwen3"])
def test_a_model_at_rest_gives_the_same_vectors_bit_for_bit(
    kind: str, bf16: bool, tmp_path: Path
) -> None:
    model = tiny_model(kind, tmp_path, dropout=True).eval()

    def answer() -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            return vectors(model, a_batch())

    expected = answer()
    dropout.install(model)
    assert torch.equal(answer(), expected)


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "ModernBert"])
def test_attention_that_is_written_out_is_the_fused_one(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(kind, tmp_path, dropout=True).train()
    dropout.set_dropout(model, 0.1)
    expected = gradients(model.eval())
    dropout.install(model)
    calls: list[float] = []

    def all_stay(shape: Any, p: float, dtype: torch.dtype) -> tuple[torch.Tensor, float]:
        calls.append(p)
        return torch.ones(tuple(shape), dtype=dtype), 1.0

    # A share above 0 takes the path of dropout; a mask of ones makes its result the exact one.
    monkeypatch.setattr("codex_forge.train.layers.attention.keep", all_stay)
    monkeypatch.setattr("codex_forge.train.layers.dropout.keep", all_stay)
    assert_close(gradients(model.train()), expected, 1e-4)
    assert calls


def heads(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).requires_grad_()


def test_attention_with_dropout_is_unbiased_and_scatters_as_the_stock_one_does() -> None:
    torch.manual_seed(8)
    query, key, value = (heads(2, 3, 7, 8) for _ in range(3))
    mask = torch.ones(2, 1, 7, 7, dtype=torch.bool)
    mask[0, :, :, 5:] = False
    layer = nn.Module()
    layer.is_causal = False  # type: ignore[assignment]
    rounds = 4_000
    with torch.no_grad():
        q, k, v = (x.repeat(rounds, 1, 1, 1) for x in (query, key, value))
        masks = mask.repeat(rounds, 1, 1, 1)
        found, _ = attend(layer, q, k, v, masks, dropout=0.1)
        stock = functional.scaled_dot_product_attention(q, k, v, attn_mask=masks, dropout_p=0.1)
        stock = stock.transpose(1, 2)
        exact = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    found = found.view(rounds, 2, 7, 3, 8)
    stock = stock.reshape(rounds, 2, 7, 3, 8)
    error = found.mean(0) - exact.transpose(1, 2)
    spread = found.std(0)
    assert float((error.abs() / (spread / rounds**0.5)).max()) < 5
    assert float((spread / stock.std(0) - 1).abs().max()) < 0.08


def test_attention_without_a_mask_and_with_one_that_hides_all_gives_numbers() -> None:
    torch.manual_seed(9)
    query, key, value = (heads(2, 3, 7, 8) for _ in range(3))
    layer = nn.Module()
    layer.is_causal = False  # type: ignore[assignment]
    mask = torch.ones(2, 1, 7, 7, dtype=torch.bool)
    mask[0, :, 3] = False  # a padded place in a window of local attention
    for given in (None, mask):
        found, _ = attend(layer, query, key, value, given, dropout=0.1)
        found.sum().backward()  # type: ignore[no-untyped-call]
        assert found.shape == (2, 7, 3, 8)
        assert all(x.grad is not None and x.grad.isfinite().all() for x in (query, key, value))
        assert found.isfinite().all()


def test_causal_attention_is_left_to_the_library() -> None:
    torch.manual_seed(10)
    query, key, value = (torch.randn(2, 3, 7, 8) for _ in range(3))
    layer = nn.Module()
    layer.is_causal = True  # type: ignore[assignment]
    torch.manual_seed(11)
    found, _ = attend(layer, query, key, value, None, dropout=0.1)
    torch.manual_seed(11)
    stock = functional.scaled_dot_product_attention(
        query, key, value, dropout_p=0.1, is_causal=True
    )
    assert torch.equal(found, stock.transpose(1, 2))


# --- in a model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Bert", "MPNet", "ModernBert"])
@pytest.mark.parametrize("bf16", [False, True])
def test_checkpointing_computes_with_the_same_masks(kind: str, bf16: bool, tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path, dropout=True).train()
    dropout.set_dropout(model, 0.3)
    dropout.install(model)

    class Twice(nn.Module):
        def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            mask = batch["attention_mask"]
            run = lambda ids: vectors(model, {"input_ids": ids, "attention_mask": mask})  # noqa: E731
            found = checkpoint(run, batch["input_ids"], use_reentrant=False)
            return {"sentence_embedding": found}

    twice: Any = Twice()
    twice.named_parameters, twice.zero_grad = model.named_parameters, model.zero_grad
    torch.manual_seed(12)
    expected = gradients(model, bf16=bf16)
    torch.manual_seed(12)
    found = gradients(twice, bf16=bf16)
    torch.manual_seed(13)
    other = gradients(model, bf16=bf16)
    assert torch.equal(found["vectors"], expected["vectors"])
    assert_close(found, expected, 1e-6)
    assert not torch.equal(other["vectors"], expected["vectors"])


@pytest.mark.parametrize("bf16", [False, True])
def test_minilm_has_the_dropout_it_had(bf16: bool) -> None:
    config = ModelConfig(base=MINILM, device="cpu")
    model = load_base(locate(config).folder, config).train()
    batch = model.preprocess(["a dragon guards the gold under the hill", "who forged the crown?"])
    wide = {name: batch[name].repeat(80, 1) for name in ("input_ids", "attention_mask")}

    def cast() -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            return vectors(model, wide).float().view(80, 2, -1)

    torch.manual_seed(14)
    stock = cast()
    dropout.install(model)
    found = cast()
    exact = vectors(model.eval(), batch).detach()
    spread = stock.std(0) / 80**0.5
    apart = (found.mean(0) - stock.mean(0)).abs() / (2**0.5 * spread)
    assert float(apart.mean()) < 1.1  # of a half-normal: 0.8
    assert float(apart.max()) < 6
    assert abs(float(found.std(0).mean() / stock.std(0).mean()) - 1) < 0.03
    assert float(functional.cosine_similarity(found[0], exact).min()) < 0.999  # it does drop


# --- the share of all ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_0_makes_a_training_model_answer_as_at_rest(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path, dropout=True)
    came_with = json.dumps(model[0].model.config.to_dict(), default=str)
    dropout.set_dropout(model, 0.4)
    at_rest = vectors(model.eval(), a_batch())
    assert not torch.allclose(vectors(model.train(), a_batch()), at_rest, atol=1e-3)
    dropout.set_dropout(model, 0.0)
    torch.testing.assert_close(vectors(model, a_batch()), at_rest, rtol=1e-5, atol=1e-5)
    assert json.dumps(model[0].model.config.to_dict(), default=str) == came_with


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "ModernBert", "Qwen3"])
def test_the_share_reaches_the_attention(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(kind, tmp_path).train()
    seen: list[float] = []
    real = functional.scaled_dot_product_attention

    def watched(*given: Any, **named: Any) -> torch.Tensor:
        seen.append(named["dropout_p"])
        return real(*given, **named)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    dropout.set_dropout(model, 0.37)
    vectors(model, a_batch())
    assert set(seen) == {0.37}


def test_a_place_that_was_left_without_dropout_gets_one(tmp_path: Path) -> None:
    model = tiny_model("ModernBert", tmp_path)
    left_out = [name for name, m in model.named_modules() if type(m) is nn.Identity]
    names = [name for name in left_out if "drop" in name]
    assert names
    dropout.set_dropout(model, 0.2)
    assert {model.get_submodule(name).p for name in names} == {0.2}
    others = set(left_out) - set(names)
    assert all(type(model.get_submodule(name)) is nn.Identity for name in others)


def test_what_is_a_kind_of_its_own_is_left_as_it_is() -> None:
    class Own(nn.Dropout):
        pass

    tree = nn.Sequential(Own(0.1), nn.Dropout1d(0.1), nn.Dropout(0.1))
    twin = copy.deepcopy(tree)
    dropout.install(tree)
    assert [type(m) for m in tree] == [Own, nn.Dropout1d, FastDropout]
    dropout.set_dropout(tree, 0.5)
    assert [m.p for m in tree] == [0.5] * 3
    dropout.remove(tree)
    assert [type(m) for m in tree] == [type(m) for m in twin]
