"""The gradient of an embedding table, added by rows, is the library's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from codex_forge.train.layers import words
from codex_forge.train.layers.words import RowsEmbedding
from tests.tiny_models import KINDS, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


def tables(padding: int | None = 0) -> tuple[nn.Embedding, nn.Embedding]:
    """The library's table, and the same with its gradient added by rows."""
    torch.manual_seed(1)
    stock, own = nn.Embedding(50, 6, padding_idx=padding), nn.Embedding(50, 6, padding_idx=padding)
    own.load_state_dict(stock.state_dict())
    words.install(own)
    assert type(own) is RowsEmbedding
    return stock, own


def ids(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(seed))


def pulled(table: nn.Embedding, *parts: torch.Tensor, seed: int = 3) -> torch.Tensor:
    """A loss of several lookups; its gradient differs from row to row."""
    drawn = torch.Generator().manual_seed(seed)
    found = [table(part) for part in parts]
    return sum(((f * torch.randn(f.shape, generator=drawn)).sum() for f in found), torch.zeros(()))


def grad(table: nn.Embedding) -> torch.Tensor:
    assert table.weight.grad is not None
    return table.weight.grad


def backward(loss: torch.Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("padding", [None, 0, 7])
def test_gradient_of_several_lookups_is_the_librarys(padding: int | None) -> None:
    stock, own = tables(padding)
    parts = ids(4, 9), ids(3, 2, seed=5), ids(1, 30, seed=6)
    assert torch.equal(own(parts[0]), stock(parts[0]))
    for table in (stock, own):
        backward(pulled(table, *parts))
    torch.testing.assert_close(grad(own), grad(stock), rtol=1e-5, atol=1e-6)
    assert padding is None or float(grad(own)[padding].abs().max()) == 0


def test_gradients_add_up_until_they_are_cleared() -> None:
    stock, own = tables()
    for table in (stock, own):
        backward(pulled(table, ids(5, 5)))
        backward(pulled(table, ids(5, 5, seed=9), seed=10))
    torch.testing.assert_close(grad(own), grad(stock), rtol=1e-5, atol=1e-6)
    for to_none in (True, False):
        for table in (stock, own):
            table.zero_grad(set_to_none=to_none)
            backward(pulled(table, ids(2, 2, seed=11), seed=12))
        torch.testing.assert_close(grad(own), grad(stock), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("looked_up_first", [True, False])
def test_a_table_that_is_also_a_head_gets_both_gradients(looked_up_first: bool) -> None:
    stock, own = tables()
    given = torch.randn(3, 6, generator=torch.Generator().manual_seed(4))
    for table in (stock, own):
        losses = [pulled(table, ids(4, 4)), (given @ table.weight.T).square().sum()]
        for loss in losses if looked_up_first else losses[::-1]:
            backward(loss)
        backward(pulled(table, ids(4, 4)) + (given @ table.weight.T).square().sum())
    torch.testing.assert_close(grad(own), grad(stock), rtol=1e-5, atol=1e-5)


def test_checkpointing_adds_a_gradient_once() -> None:
    stock, own = tables()
    backward(pulled(stock, ids(4, 4)))
    mixed = checkpoint(lambda part: pulled(own, part), ids(4, 4), use_reentrant=False)
    backward(mixed)
    torch.testing.assert_close(grad(own), grad(stock), rtol=1e-5, atol=1e-6)


def test_a_frozen_table_and_one_at_rest_get_no_gradient() -> None:
    _, own = tables()
    own.weight.requires_grad_(False)
    assert not own(ids(2, 2)).requires_grad
    own.weight.requires_grad_(True)
    with torch.no_grad():
        assert not own(ids(2, 2)).requires_grad
    assert own(ids(2, 2)).requires_grad


def test_tables_with_rules_of_their_own_are_left_as_they_are() -> None:
    kinds = nn.ModuleList(
        [
            nn.Embedding(5, 2, sparse=True),
            nn.Embedding(5, 2, max_norm=1.0),
            nn.Embedding(5, 2, scale_grad_by_freq=True),
        ]
    )
    words.install(kinds)
    assert all(type(kind) is nn.Embedding for kind in kinds)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_takes_the_same_steps(kind: str, bf16: bool, tmp_path: Path) -> None:
    model = tiny_model(kind, tmp_path)
    names, start = list(model.state_dict()), {k: v.clone() for k, v in model.state_dict().items()}

    def weights_after_three_steps() -> dict[str, torch.Tensor]:
        model.load_state_dict(start)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-3)
        for number in range(3):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                parts = []
                for width in (5, 8):
                    mask = (torch.arange(width) < torch.tensor([[width], [width - 2]])).long()
                    features = {"input_ids": ids(2, width, seed=number).clamp(4, 43) * mask}
                    found = model({**features, "attention_mask": mask})["sentence_embedding"]
                    parts.append(found.float())
            backward((torch.cat(parts) * torch.linspace(-1, 1, 32)).sum())
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return {k: v.clone() for k, v in model.state_dict().items()}

    expected = weights_after_three_steps()
    words.install(model)
    assert any(type(m) is RowsEmbedding for m in model.modules())
    assert list(model.state_dict()) == names
    found = weights_after_three_steps()
    words.remove(model)
    assert not any(type(m) is RowsEmbedding for m in model.modules())
    for name, value in expected.items():
        assert float((found[name] - value).abs().max()) < 1e-5, name
        if name.endswith(
            ("word_embeddings.weight", "tok_embeddings.weight", "embed_tokens.weight")
        ):
            assert not torch.equal(value, start[name])


def test_the_memory_of_the_gradient_is_kept_and_cleared() -> None:
    stock, own = tables()
    places = set()
    for seed in (1, 2, 3):
        for table in (stock, own):
            table.zero_grad()
            backward(pulled(table, ids(3, 3, seed=seed)))
        torch.testing.assert_close(grad(own), grad(stock), rtol=1e-5, atol=1e-6)
        places.add(grad(own).data_ptr())
    assert len(places) == 1
