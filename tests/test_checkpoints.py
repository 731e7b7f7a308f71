"""A training run that goes on from a checkpoint takes the steps that it would have taken."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import SkipBatchSampler
from s3fs import S3FileSystem
from safetensors.torch import load_file

from codex_forge.artifact import Draft, Recipe, begin
from codex_forge.errors import Preempted
from codex_forge.model.lasting import CACHE_VARIABLE
from codex_forge.storage import Store
from codex_forge.train import checkpoints
from codex_forge.train.checkpoints import keeping, read_state
from codex_forge.train.data.batches import EpochBatches
from codex_forge.train.ready import Ready, getting_ready
from codex_forge.train.stages import make_trainer
from tests.servers.fault_proxy import Fault, fault_proxy
from tests.servers.s3 import S3Server
from tests.trainings import (
    AtStep,
    Run,
    School,
    assert_same,
    contents,
    removed,
    run,
)

STAGES = [
    {"name": "texts", "objective": "simcse", "max_pairs": 8, "num_negatives": 0, "epochs": 1.0},
    {"name": "easy", "schedule": "cosine", "epochs": 1.0},
    {"name": "hard", "objective": "triplet", "max_steps": 3, "gradient_accumulation": 2},
]


pytestmark = pytest.mark.usefixtures("one_thread")


def resumed_as_if_never_stopped(small: School, train: dict[str, Any], steps: list[int]) -> Run:
    """A run is taken up again from these steps; what it stores from there on is the same, too."""
    config = small.config(**train)
    whole = run(small, config)
    last = max(whole.checkpoints)
    assert sorted(whole.checkpoints) == list(range(1, last + 1))
    for step in steps:
        again = run(small, config, whole.checkpoints[step])
        assert again.resumed_from == step
        assert sorted(again.checkpoints) == list(range(step + 1, last + 1))
        assert_same(whole, again)
        for later, folder in again.checkpoints.items():
            there, here = contents(whole.checkpoints[later]), contents(folder)
            assert there.keys() == here.keys()
            assert [name for name in there if there[name] != here[name]] == [], later
    return whole


# In the middle of an epoch, at its end, after it, and at the end of all.
@pytest.mark.parametrize(
    "train, steps",
    [
        ({"epochs": 1.5, "schedule": "linear"}, [1, 3, 4, 5, 6]),
        ({"epochs": 1.5, "schedule": "cosine"}, [4]),
        ({"epochs": 1.5, "schedule": "cosine_with_restarts", "restarts": 2}, [3]),
        ({"epochs": 2, "schedule": "constant_with_warmup", "gradient_accumulation": 3}, [1, 2, 3]),
        ({"max_steps": 5, "gradient_accumulation": 2, "dropout": 0.3}, [2, 3]),
        ({"max_steps": 4, "cached": True, "micro_batch_tokens": 64}, [2]),
        ({"max_steps": 4, "lora": {"rank": 2, "dropout": 0.2}, "learning_rate": 1e-2}, [1, 3]),
        ({"max_steps": 4, "matryoshka_dims": [8, 24], "freeze_embeddings": True}, [2]),
        ({"max_steps": 3, "precision": "bf16", "freeze_layers": 1, "lora": {"rank": 2}}, [1]),
    ],
    ids=[
        "linear",
        "cosine",
        "restarts",
        "accumulated",
        "max_steps",
        "cached",
        "lora",
        "cut",
        "bf16",
    ],
)
def test_the_rest_of_a_run_is_the_same_bit_for_bit(
    small: School, train: dict[str, Any], steps: list[int]
) -> None:
    whole = resumed_as_if_never_stopped(small, train, steps)
    assert whole.history[-1]["dev_ndcg@10"] > 0


@pytest.mark.parametrize(
    "objective, more",
    [
        ("simcse", {"texts": "both"}),
        ("tsdae", {"texts": "queries"}),
        ("tsdae", {"cached": True, "gradient_accumulation": 2}),
        ("distill_embedding", {"texts": "both"}),
        ("distill_kl", {}),
    ],
    ids=["simcse", "tsdae", "tsdae-cached", "distill_embedding", "distill_kl"],
)
def test_objectives_with_a_state_of_their_own_go_on_too(
    small: School, objective: str, more: dict[str, Any]
) -> None:
    teacher = {"distillation": {"teachers": [str(small.base)]}}
    train = {"objective": objective, "max_steps": 4, **more}
    if objective.startswith("distill"):
        train |= teacher
    whole = resumed_as_if_never_stopped(small, train, [1, 3])
    if objective == "tsdae":  # what the model does not have: the decoder's
        first, last = (weights(whole.checkpoints[step]) for step in (1, 4))
        own = [name for name in first if "cross" in name or ".head." in name]
        assert own
        assert all(not torch.equal(first[name], last[name]) for name in own if "bias" not in name)


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(str(checkpoint / "model.safetensors"))
    return found


@pytest.mark.parametrize("cache", ["gone", "kept", "none"])
def test_frozen_layers_go_on_with_their_cache_and_without(
    small: School, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run has a new scratch folder: without one that is kept, its cache is made again."""
    train: dict[str, Any] = {"max_steps": 4, "freeze_layers": 1, "dropout": 0.1}
    if cache == "none":
        train["frozen_cache_gib"] = 0
    if cache == "kept":
        folder = small.room()
        monkeypatch.setenv(CACHE_VARIABLE, str(folder))
        first = resumed_as_if_never_stopped(small, train, [2])
        removed(folder)
        assert_same(first, run(small, small.config(**train), first.checkpoints[3]))
        assert list(folder.iterdir())
        return
    resumed_as_if_never_stopped(small, train, [1, 2])


def test_a_stage_that_ends_early_ends_at_the_same_step(small: School) -> None:
    """The learning rate is far too high: the model soon forgets all that it knew."""
    train = {
        "max_steps": 12,
        "learning_rate": 0.05,
        "schedule": "constant_with_warmup",
        "warmup_ratio": 0.0,
        "logging_steps": 1,
        "validation": {"every_steps": 1, "patience": 2, "max_chunks": 24},
    }
    config = small.config(**train)
    whole = run(small, config)
    last = max(whole.checkpoints)
    assert whole.done[0]["steps"] == last < 12
    assert whole.done[0]["best"]["stopped_early"]
    assert whole.done[0]["best"]["best_step"] == last - 2
    for step in range(1, last + 1):
        assert_same(whole, run(small, config, whole.checkpoints[step]))
    part = Run()
    with pytest.raises(Preempted):  # before the measurement that would have ended it
        run(small, config, stopped_at=AtStep(last), into=part)
    assert read_state(part.checkpoints[last])["measured_at"] == last - 1
    assert_same(whole, run(small, config, part.checkpoints[last]))


def test_three_stages_go_on_from_any_of_their_steps(small: School) -> None:
    whole = resumed_as_if_never_stopped(small, {"stages": STAGES}, [1, 5, 6, 9, 11, 12])
    assert [stage["steps"] for stage in whole.done] == [5, 4, 3]
    assert {read_state(folder)["stage"] for folder in whole.checkpoints.values()} == {0, 1, 2}
    assert sum(stage["tally"]["rows"] for stage in whole.done) == whole.tally["rows"]
    logged = [entry["step"] for entry in whole.history if "loss" in entry]
    assert logged == [1, 3, 5, 6, 8, 9, 10, 12]  # at the first of each, every third, and the last


def test_stages_that_begin_with_what_was_measured_just_now_go_on_too(small: School) -> None:
    """With `keep: last` no stage measures again what the one before ended with."""
    stages = [{"name": "one", "max_steps": 2}, {"name": "two", "max_steps": 2}]
    train = {"stages": stages, "validation": {"keep": "last", "max_chunks": 24}}
    whole = resumed_as_if_never_stopped(small, train, [1, 2, 3])
    measured = [(e["stage"], e["step"]) for e in whole.history if "dev_ndcg@10" in e]
    assert measured == [("one", 0), ("one", 2), ("two", 4)]


# --- stopped by a signal -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "stages, key, step",
    [([], "loss", 1), ([], "loss", 4), ([], "dev", 4), ([], "loss", 6), (STAGES, "loss", 5)],
    ids=["between", "before-measuring", "after-measuring", "at-the-end", "stage's-end"],
)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(
    small: School, stages: list[Any], key: str, step: int
) -> None:
    """A signal in the middle of a step that measures afterwards cuts the measurement short."""
    config = small.config(epochs=1.5, stages=stages, logging_steps=1, save_steps=0)
    whole = run(small, config)
    stopper = AtStep(step, signal.SIGUSR1, key)
    told = r"stopped by SIGUSR1 at step (\d+); the checkpoint of step \1 is on the store"
    part = Run()
    with pytest.raises(Preempted, match=told):
        run(small, config, stopped_at=stopper, into=part)
    (folder,) = part.checkpoints.values()
    assert part.history != whole.history
    assert_same(whole, run(small, config, folder))


def signal_at_first_measurement(ready: Ready, stage: str = "") -> None:
    """While the first text is encoded that is not trained on."""

    def send(model: torch.nn.Module, *_: Any) -> None:
        if not model.training and stage in ("", ready.course.history.stage):
            os.kill(os.getpid(), signal.SIGTERM)

    ready.model.register_forward_hook(send)


def test_a_measurement_that_is_made_up_for_may_be_cut_short_too(small: School) -> None:
    config = small.config(epochs=1.5, logging_steps=1, save_steps=0)
    whole, first, second = run(small, config), Run(), Run()
    with pytest.raises(Preempted, match="at step 4; the checkpoint of step 4"):
        run(small, config, stopped_at=AtStep(4), into=first)
    with pytest.raises(Preempted, match="at step 4; the checkpoint of step 4"):
        run(small, config, first.checkpoints[4], before=signal_at_first_measurement, into=second)
    assert not second.checkpoints  # what is there is as good
    assert_same(whole, run(small, config, first.checkpoints[4]))


def test_a_run_may_be_stopped_while_the_base_model_is_measured(small: School) -> None:
    part = Run()
    with pytest.raises(Preempted, match="stopped before the first step of"):
        run(small, small.config(), before=signal_at_first_measurement, into=part)
    assert not part.checkpoints
    assert not part.history


@pytest.mark.parametrize("patience", [0, 1])
def test_a_run_may_be_stopped_between_two_stages(small: School, patience: int) -> None:
    """Whatever the interval, a stage that is done is not done again."""
    stages = [{"name": "one", "max_steps": 3, "learning_rate": 0.05}, {"name": "two"}]
    validation = {"every_steps": 1, "patience": patience, "max_chunks": 24}
    config = small.config(max_steps=2, stages=stages, validation=validation, save_steps=0)
    whole, part = run(small, config), Run()
    steps = whole.done[0]["steps"]
    with pytest.raises(Preempted, match="stopped before the first step of two"):
        run(small, config, before=partial(signal_at_first_measurement, stage="two"), into=part)
    assert list(part.checkpoints) == [steps]
    assert (steps < 3) == (patience > 0)
    assert_same(whole, run(small, config, part.checkpoints[steps]))


# --- the parts ---------------------------------------------------------------------------------


@pytest.fixture
def ready(small: School) -> Iterator[Ready]:
    with getting_ready(small.config(), small.pairs, small.base, small.room()) as found:
        yield found


def test_a_measurement_leaves_no_trace_in_the_random_generators(ready: Ready) -> None:
    measuring = ready.course.measuring
    assert measuring is not None
    before = checkpoints.random_state()
    assert measuring(0, 0.0)
    assert checkpoints.random_state() == before


def test_the_random_generators_are_restored() -> None:
    state = checkpoints.random_state()
    drawn = [random.random(), float(np.random.rand()), float(torch.rand(1))]
    random.gauss(0, 1)
    np.random.randn()
    checkpoints.restore_random_state(state)
    assert [random.random(), float(np.random.rand()), float(torch.rand(1))] == drawn


def test_a_resumed_run_takes_the_batches_of_its_epoch(ready: Ready) -> None:
    """Behind a wrapper, as on a resume, the library finds no `set_epoch`."""
    trainer = make_trainer(ready.course, 0, ready.rows[0])
    ours = trainer.get_train_dataloader().batch_sampler
    assert isinstance(ours, EpochBatches)
    loader = SimpleNamespace(batch_sampler=SkipBatchSampler(ours, skip_batches=1))
    first = list(loader.batch_sampler)
    state = SimpleNamespace(epoch=1.5)
    trainer.pace.on_epoch_begin(trainer.args, state, trainer.control, train_dataloader=loader)
    assert ours.epoch == 1
    assert list(loader.batch_sampler) != first


def test_a_checkpoint_is_weights_and_json(small: School) -> None:
    whole = run(small, small.config(max_steps=1))
    names = {path.name for path in whole.checkpoints[1].iterdir()}
    assert names == {
        "best.safetensors",
        "model.safetensors",
        "optimizer.safetensors",
        "rng-00000.json",
        "state.json",
        "trainer_state.json",
    }


def test_while_the_storage_is_down_only_the_newest_checkpoint_waits_for_it(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_proxy(s3.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        S3FileSystem.clear_instance_cache()
        store = Store(bucket, patience=1.0)
        draft = begin(store, Recipe("train", "small", {}, {}), tmp_path, force=False)
        assert isinstance(draft, Draft)
        proxy.inject(Fault("status", status=503), method="PUT", path="step-00000002")
        with keeping(draft.work.checkpoints(9)) as keeper:
            for step in (2, 4, 6):
                (tmp_path / str(step)).mkdir()
                (tmp_path / str(step) / "weights").write_text(str(step))
                keeper.store(step, tmp_path / str(step))
            keeper.finish()
        assert (keeper.committed, keeper.stored) == (6, 1)
        assert [found.step for found in draft.work.checkpoints(9).committed()] == [6]
        assert not [step for step in (2, 4, 6) if (tmp_path / str(step)).exists()]
        draft.lease.release(0)
        S3FileSystem.clear_instance_cache()
