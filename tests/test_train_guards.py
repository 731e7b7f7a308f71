"""A loss that is no number ends a training and names the batch; full memory halves the pieces."""

from __future__ import annotations

import json
import logging
import math

import pytest
import torch

from codex_forge.errors import EXIT_CHANGE_SOMETHING
from codex_forge.train.guards import (
    Diverged,
    MicroBatch,
    OutOfMemory,
    check_finite,
    is_out_of_memory,
)


def refused_by_torch() -> BaseException:
    """What torch says when the machine has no petabyte."""
    try:
        torch.empty(2**50, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError("this machine has a petabyte of memory")


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_names_step_rate_and_rows(loss: float) -> None:
    rows = [{"anchor": f"question {i}", "positive": "a b\n" * 400} for i in range(8)]
    with pytest.raises(Diverged) as caught:
        check_finite(loss, 17, rows, 5e-5)
    said = str(caught.value)
    for part in (str(loss), "step 17", "5e-05", "8 rows", "'question 0'", "'question 2'"):
        assert part in said
    assert "question 3" not in said
    assert "train.learning_rate" in said
    assert "checkpoints of earlier steps are kept" in said
    assert "a b a b" in said
    assert len(said) < 1000
    assert caught.value.exit_code == EXIT_CHANGE_SOMETHING


def test_a_finite_loss_passes() -> None:
    for loss in (0.0, -3.0, 1e38):
        check_finite(loss, 1, [], 1e-5)


def test_memory_that_is_refused_is_told_from_other_errors() -> None:
    assert is_out_of_memory(refused_by_torch())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not is_out_of_memory(caught.value)
    assert not is_out_of_memory(ValueError("out of memory"))


def test_tokens_are_halved_down_to_the_longest_text(caplog: pytest.LogCaptureFixture) -> None:
    memory, error = MicroBatch(8192, cached=False, longest=1500), refused_by_torch()
    with caplog.at_level(logging.WARNING, "codex_forge"):
        memory.halve(error, 12)
        memory.halve(error)
        memory.halve(error)
    assert memory.tokens == 1500
    assert memory.cached
    assert memory.halved == [(8192, 4096), (4096, 2048), (2048, 1500)]
    first, second, _ = caplog.messages
    assert "out of memory at step 12: micro-batch 8192 -> 4096 tokens" in first
    assert "effective batch unchanged" in first
    assert "train.cached" in first
    assert "train.cached" not in second
    with pytest.raises(OutOfMemory, match=r"1500 tokens.*train\.batch_size") as caught:
        memory.halve(error)
    assert caught.value.exit_code == EXIT_CHANGE_SOMETHING
    assert caught.value.__cause__ is error


def test_at_the_longest_text_activations_are_forgotten_first() -> None:
    memory = MicroBatch(100, cached=False, longest=512)
    assert memory.tokens == 512
    memory.halve(refused_by_torch())
    assert (memory.tokens, memory.cached) == (512, True)
    with pytest.raises(OutOfMemory):
        memory.halve(refused_by_torch())


def test_a_resumed_run_goes_on_with_what_it_came_to() -> None:
    memory = MicroBatch(8192, cached=False, longest=64)
    memory.halve(refused_by_torch())
    resumed = MicroBatch(8192, cached=False, longest=64)
    resumed.restore(json.loads(json.dumps(memory.state())))
    assert (resumed.tokens, resumed.cached, resumed.halved) == (4096, True, [(8192, 4096)])
    assert resumed.state() == memory.state()
