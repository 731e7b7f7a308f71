"""A training run that goes on from a checkpoint takes the steps that it would have taken."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from s3fs import S3FileSystem

from codex_forge.artifact import Draft, Recipe, begin
from codex_forge.config import RunConfig, load_config
from codex_forge.model.encoder import load_base
from codex_forge.model.locate import locate
from codex_forge.storage import Store
from codex_forge.train import checkpoints
from codex_forge.train.batches import LengthGroupedBatches
from codex_forge.train.checkpoints import Keeper, keeping
from codex_forge.train.history import History
from codex_forge.train.resumable import ResumableTrainer
from codex_forge.train.trainer import make_trainer
from tests.conftest import sample_corpus
from tests.servers.fault_proxy import Fault, fault_proxy
from tests.servers.s3 import S3Server

ROWS = [
    {"anchor": f"what is {n}", "positive": f"{n} is a thing of kind {n % 7}"} for n in range(32)
]


def config_of(folder: Path, **train: Any) -> RunConfig:
    settings = {
        "batch_size": 4,
        "num_negatives": 0,
        "logging_steps": 3,
        "learning_rate": 1e-4,
        "save_steps": 2,
        "save_total_limit": 9,
        "precision": "fp32",
        **train,
    }
    return load_config(sample_corpus(folder / "corpus", 1).write(train=settings), [])


def trainer_of(config: RunConfig, scratch: Path, keeper: Keeper | None) -> ResumableTrainer:
    model = load_base(locate(config.model).folder, config.model)
    return make_trainer(
        config, model, ROWS, dev=ROWS[:8], history=History(), scratch=scratch, keeper=keeper
    )


def weights(trainer: ResumableTrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def draft_of(folder: Path) -> Draft:
    draft = begin(
        Store(str(folder / "store")), Recipe("train", "small", {}, {}), folder, force=False
    )
    assert isinstance(draft, Draft)
    return draft


# One step before the end of an epoch, at its end, after it, and at the end of all.
@pytest.mark.parametrize(
    "train, step",
    [
        ({"epochs": 1.25, "schedule": "linear"}, 4),
        ({"epochs": 1.25, "schedule": "cosine"}, 8),
        ({"epochs": 1.25, "schedule": "cosine_with_restarts"}, 10),
        ({"epochs": 2, "schedule": "constant_with_warmup", "gradient_accumulation": 2}, 2),
        ({"max_steps": 5, "schedule": "linear", "gradient_accumulation": 2}, 4),
    ],
)
def test_the_rest_of_a_run_is_the_same_bit_for_bit(
    train: dict[str, Any], step: int, tmp_path: Path
) -> None:
    config = config_of(tmp_path, **train)
    draft = draft_of(tmp_path)
    with keeping(draft.work.checkpoints(9)) as keeper:
        whole = trainer_of(config, tmp_path / "whole", keeper)
        whole.run(None)
    store = draft.work.checkpoints(9)
    found = next(c for c in store.committed() if c.step == step)
    store.fetch(found, tmp_path / "fetched")
    assert {path.suffix for path in (tmp_path / "fetched").iterdir()} == {".json", ".safetensors"}

    random.seed(1)  # whatever the generators of the new process are
    torch.manual_seed(1)
    rest = trainer_of(config, tmp_path / "rest", None)
    rest.run(tmp_path / "fetched")
    assert rest.state.global_step == whole.state.global_step
    expected, got = weights(whole), weights(rest)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert without_times(rest.history) == without_times(whole.history)


def without_times(history: History) -> list[dict[str, float]]:
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in history.entries]


def test_a_run_that_was_stopped_before_its_evaluation_makes_up_for_it(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=1)
    draft = draft_of(tmp_path)
    with keeping(draft.work.checkpoints(9)) as keeper:
        whole = trainer_of(config, tmp_path / "whole", keeper)
        whole.run(None)
    found = draft.work.checkpoints(9).latest(tmp_path / "fetched")
    assert found is not None
    assert found[0].step == whole.state.global_step == 8  # saved at its last step, then evaluated
    assert not [e for e in checkpoints.read_state(found[1])["history"] if "eval_loss" in e]
    rest = trainer_of(config, tmp_path / "rest", None)
    rest.run(found[1])
    assert rest.history.series("eval_loss") == whole.history.series("eval_loss") != []


def test_evaluation_leaves_no_trace_in_the_random_generators(tmp_path: Path) -> None:
    trainer = trainer_of(config_of(tmp_path), tmp_path, None)
    before = checkpoints.random_state()
    trainer.evaluate()
    assert checkpoints.random_state() == before


def test_the_random_generators_are_restored() -> None:
    state = checkpoints.random_state()
    drawn = [random.random(), float(np.random.rand()), float(torch.rand(1))]
    random.gauss(0, 1)
    np.random.randn()
    checkpoints.restore_random_state(state)
    assert [random.random(), float(np.random.rand()), float(torch.rand(1))] == drawn


def test_ranks_resume_in_the_order_of_their_epoch(tmp_path: Path) -> None:
    """Behind two wrappers, as on a resume with several ranks, the library finds no `set_epoch`."""
    from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler

    trainer = trainer_of(config_of(tmp_path), tmp_path, None)
    ours = trainer.get_train_dataloader().batch_sampler
    while not isinstance(ours, LengthGroupedBatches):
        ours = ours.batch_sampler
    shard = BatchSamplerShard(ours, num_processes=2, process_index=1)
    loader = SimpleNamespace(batch_sampler=SkipBatchSampler(shard, skip_batches=1))
    first = list(loader.batch_sampler)
    state = SimpleNamespace(epoch=1.5)
    trainer.pace.on_epoch_begin(trainer.args, state, trainer.control, train_dataloader=loader)
    assert ours.epoch == 1
    assert list(loader.batch_sampler) != first


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
