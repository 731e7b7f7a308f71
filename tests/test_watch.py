"""A full GPU does not end a training, nor change what it learns; a loss that is no number does."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch.optim.optimizer import register_optimizer_step_post_hook

from codex_forge.artifact import Checkpoints
from codex_forge.model.encoder import load_base
from codex_forge.storage import Store
from codex_forge.train import ready as ready_module
from codex_forge.train.guards import Diverged, OutOfMemory
from codex_forge.train.ready import Ready
from tests.conftest import Knock
from tests.made_pairs import opened
from tests.trainings import (
    SMALL,
    Run,
    School,
    gradients_apart,
    largest_difference,
    metadata,
    run,
)

NEAR = 1e-6
"""Of weights: gradients are summed over other pieces, and a step moves a weight by 2e-5."""
NEAR_GRADIENTS = 1e-5
"""Of the largest gradient."""
SHORT = "model.max_seq_length=64"
"""Most chunks are as long, and run together."""
PLAIN: dict[str, Any] = {
    "max_steps": 3,
    "dropout": 0.0,
    "micro_batch_tokens": 280,
    "learning_rate": 2e-5,
    "warmup_steps": 0,
    "logging_steps": 1,
}


pytestmark = pytest.mark.usefixtures("one_thread")


class SmallGpu:
    """A device without memory for more than `tokens` at once, padding included.

    Written by hand: no machine of the tests has a GPU that is full when they like it to be.
    """

    def __init__(self, tokens: int, *, spared: int = 0, in_backward: bool = False) -> None:
        """The first `spared` training passes find room; else it runs out in either direction."""
        self.tokens, self.spared, self.in_backward = tokens, spared, in_backward
        self.refused = 0

    def into(self, ready: Ready) -> None:
        self.under(ready.model)

    def under(self, model: SentenceTransformer) -> SentenceTransformer:
        model.register_forward_hook(self._after, with_kwargs=False)
        return model

    def _after(self, model: torch.nn.Module, given: Any, output: dict[str, Any]) -> None:
        if model.training and self.spared > 0:
            self.spared -= 1
            return
        if given[0]["input_ids"].numel() <= self.tokens:
            return
        if not self.in_backward:
            self._refuse()
        if output["sentence_embedding"].requires_grad:
            output["sentence_embedding"].register_hook(lambda _: self._refuse())

    def _refuse(self) -> None:
        self.refused += 1
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


# --- out of memory -----------------------------------------------------------------------------


@pytest.mark.parametrize("in_backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(
    "more",
    [{}, {"gradient_accumulation": 2}, {"freeze_layers": 1}, {"objective": "triplet"}],
    ids=["plain", "accumulated", "frozen", "triplet"],
)
def test_a_full_gpu_changes_nothing_that_is_learned(
    small: School, more: dict[str, Any], in_backward: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = small.config(SHORT, **PLAIN, **more)
    roomy = run(small, config)
    gpu = SmallGpu(70, in_backward=in_backward)
    with caplog.at_level(logging.WARNING, logger="codex_forge"):
        tight = run(small, config, before=gpu.into)
    assert gpu.refused >= 2
    assert tight.memory["tokens"] == 70
    assert tight.memory["cached"]
    assert tight.memory["halved"][0] == [280, 140]
    assert "micro-batch 280 -> 140 tokens" in caplog.text
    assert "effective batch unchanged" in caplog.text
    assert largest_difference(roomy.weights, tight.weights) < NEAR
    assert gradients_apart(roomy, tight) < NEAR_GRADIENTS
    assert roomy.memory["halved"] == []


@pytest.mark.parametrize("objective", ["multiple_negatives_ranking", "tsdae"])
@pytest.mark.parametrize("in_backward", [False, True], ids=["forward", "backward"])
def test_it_may_be_full_in_the_middle_of_an_optimizer_step(
    small: School, objective: str, in_backward: bool
) -> None:
    """Gradients of the micro-steps before are neither lost nor counted twice, in any of them."""
    train = {**PLAIN, "objective": objective, "gradient_accumulation": 3, "max_steps": 1}
    train |= {"deletion": 0.1}
    config = small.config(SHORT, **train)
    passes: list[int] = []
    roomy = run(small, config, before=lambda ready: counting(ready, passes))
    refused, differ = 0, []
    for spared in np.linspace(0, sum(passes) - 2, 5).astype(int).tolist():
        gpu = SmallGpu(70, spared=spared, in_backward=in_backward)
        tight = run(small, config, before=gpu.into)
        refused += gpu.refused > 0  # the last passes may be small
        differ.append(gradients_apart(roomy, tight))
    assert refused >= 3
    assert max(differ) < NEAR_GRADIENTS


def counting(ready: Ready, passes: list[int]) -> None:
    def count(model: torch.nn.Module, *_: Any) -> None:
        passes.append(int(model.training))

    ready.model.register_forward_hook(count)


def test_where_even_the_longest_text_has_no_room_the_config_must_change(small: School) -> None:
    gpu = SmallGpu(8)
    with pytest.raises(OutOfMemory, match="as many as the longest text has; lower") as raised:
        run(small, small.config(SHORT, **PLAIN), before=gpu.into)
    assert raised.value.exit_code == 2


def test_another_error_is_no_lack_of_memory(small: School) -> None:
    def broken(ready: Ready) -> None:
        def fail(*_: Any) -> None:
            raise RuntimeError("an assertion in a kernel")

        ready.model.register_forward_hook(fail)

    with pytest.raises(RuntimeError, match="an assertion in a kernel"):
        run(small, small.config(SHORT, **PLAIN), before=broken)


def test_a_resumed_run_goes_on_with_what_had_room(small: School) -> None:
    config = small.config(SHORT, **PLAIN)
    whole = run(small, config, before=SmallGpu(70).into)
    gpu = SmallGpu(70)
    again = run(small, config, whole.checkpoints[1], before=gpu.into)
    assert gpu.refused == 0
    assert again.memory == whole.memory
    assert largest_difference(whole.weights, again.weights) == 0


# --- through the door --------------------------------------------------------------------------


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Put something under the model that the door loads: `on(gpu)`."""

    def put(device: Any) -> None:
        monkeypatch.setattr(
            ready_module, "load_base", lambda *given: device.under(load_base(*given))
        )

    return put


@pytest.fixture
def store(small: School, tmp_path: Path) -> Store:
    """A store that has the pairs and their audit."""
    shutil.copytree(small.folder / "corpus" / "store", tmp_path / "store")
    return Store(str(tmp_path / "store"))


def door(store: Store, small: School, **train: Any) -> tuple[str, ...]:
    """What the door of `train` is told."""
    told = json.dumps({**SMALL, "save_steps": 0, **train})
    return (str(small.config_file), f"store={store.root}", SHORT, f"train={told}")


def test_the_artifact_says_what_was_halved(
    small: School, store: Store, knock: Knock, on: Callable[[Any], None], tmp_path: Path
) -> None:
    on(SmallGpu(70))
    assert knock("train", *door(store, small, **PLAIN)) == 0
    made = opened(store.root, tmp_path, kind="train")
    halved = made.manifest.summary["micro_batch"]
    assert halved["halved"][0] == [280, 140]
    assert halved == metadata(made)["micro_batch"]
    assert "out of memory: micro-batch 280 -> 140" in made.path("training.log").read_text()


def test_the_door_says_what_to_lower(
    small: School,
    store: Store,
    knock: Knock,
    on: Callable[[Any], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    on(SmallGpu(8))
    assert knock("train", *door(store, small, **PLAIN)) == 2
    said = capsys.readouterr().err
    assert "lower train.batch_size or model.max_seq_length" in said
    assert "Traceback" not in said


class Poison:
    """Spoils the vectors of an optimizer step or training pass, or their gradient: the `at`-th."""

    def __init__(self, at: int, *, gradient: bool = False, in_passes: bool = False) -> None:
        self.at, self.gradient, self.in_passes = at, gradient, in_passes
        self._handle = register_optimizer_step_post_hook(self._count)

    def into(self, ready: Ready) -> None:
        self.under(ready.model)

    def under(self, model: SentenceTransformer) -> SentenceTransformer:
        model.register_forward_hook(self._after)
        return model

    def remove(self) -> None:
        self._handle.remove()

    def _count(self, *_: Any) -> None:
        self.at -= not self.in_passes

    def _after(self, model: torch.nn.Module, _: Any, output: dict[str, Any]) -> None:
        if not model.training:
            return
        self.at -= self.in_passes
        if self.at == (0 if self.in_passes else 1):
            vectors = output["sentence_embedding"]
            if self.gradient:
                vectors.register_hook(lambda gradient: gradient * float("nan"))
            else:
                vectors.data.fill_(float("nan"))


@pytest.fixture
def poison() -> Iterator[Callable[..., Poison]]:
    made: list[Poison] = []

    def make(*given: Any, **named: Any) -> Poison:
        made.append(Poison(*given, **named))
        return made[-1]

    yield make
    for each in made:
        each.remove()


@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient"])
def test_a_loss_that_is_no_number_ends_the_run_and_earlier_checkpoints_stay(
    small: School,
    store: Store,
    knock: Knock,
    on: Callable[[Any], None],
    capsys: pytest.CaptureFixture[str],
    gradient: bool,
    poison: Callable[..., Poison],
) -> None:
    spoilt = poison(3, gradient=gradient)
    on(spoilt)
    train = {"max_steps": 6, "learning_rate": 0.003, "save_steps": 1, "save_total_limit": 9}
    arguments = door(store, small, **train, warmup_steps=0)
    assert knock("train", *arguments) == 2
    said = capsys.readouterr().err
    what = "gradient's norm" if gradient else "loss"
    assert f"the {what} is nan at step 3, at a learning rate of 0.002" in said
    assert "in a batch of 4 rows" in said
    assert "anchor '" in said
    assert "lower train.learning_rate" in said
    assert "Traceback" not in said
    folders = {path.rpartition("/step-")[0] for path in store.list("train") if "/step-" in path}
    (folder,) = {found.rpartition("/step-")[0] or found for found in folders}
    kept = [each.step for each in Checkpoints(store, folder, None, 9).committed()]
    assert kept in ([2, 1], [1])  # a job that fails waits for no upload that has not begun
    spoilt.remove()
    on(poison(99))
    assert knock("train", *arguments) == 0
    assert f"going on from a checkpoint: step-{kept[0]:08d}" in capsys.readouterr().err


def test_a_loss_in_the_middle_of_an_optimizer_step_is_looked_at_too(
    small: School, poison: Callable[..., Poison]
) -> None:
    config = small.config(SHORT, **{**PLAIN, "gradient_accumulation": 3})
    found = Run()
    with pytest.raises(Diverged, match="the loss is nan at step 1"):
        run(small, config, before=poison(2, in_passes=True).into, into=found)
    assert not found.checkpoints
