"""A plan counts what a training would do, from its own batches, and measures a few steps of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import Trainer, TrainingArguments

from codex_forge.config.train import StageConfig, ValidationConfig
from codex_forge.train.data.batches import EpochBatches
from codex_forge.train.data.rows import Known, Rows
from codex_forge.train.encoding import Collate
from codex_forge.train.guards import MicroBatch
from codex_forge.train.planning.forecast import (
    Forecast,
    StageWork,
    count_work,
    duration,
    planned_of,
)
from codex_forge.train.planning.gauge import Gauge, memory_of
from codex_forge.train.planning.plan import Setting, plan, spread
from codex_forge.train.planning.plan_lines import show

MIB = 2**20
BUDGET = 64
"""Tokens that run together."""


def rows_of(count: int, texts: int, left_out: dict[str, int] | None = None) -> Rows:
    """`count` rows of a query and one of `texts` chunks."""
    columns = {
        "anchor": np.arange(count, dtype=np.int32) + texts,
        "positive": (np.arange(count) % texts).astype(np.int32),
    }
    known = Known(np.zeros(1, np.int64), np.zeros(0, np.int32))
    return Rows("multiple_negatives_ranking", columns, None, known, left_out or {})


def cut(chosen: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Four texts at a time."""
    yield from (chosen[i : i + 4] for i in range(0, len(chosen), 4))


LENGTHS = np.random.default_rng(3).integers(3, 40, 400).astype(np.int32)


def batches_of(rows: Rows, stage: StageConfig) -> EpochBatches:
    return EpochBatches(rows, LENGTHS, batch_size=stage.batch_size, seed=1, exclusive=True)


def work_of(stage: StageConfig, rows: Rows) -> StageWork:
    return count_work(stage, rows, batches_of(rows, stage), Collate(rows), cut, LENGTHS)


def test_tokens_and_padding_are_those_of_the_batches() -> None:
    stage, rows = StageConfig(batch_size=16, epochs=2.5), rows_of(100, 60)
    work = work_of(stage, rows)
    tokens, padded, texts = [], [], []
    for batch in batches_of(rows, stage):
        numbers = {int(column[row]) for column in rows.columns.values() for row in batch}
        lengths = sorted((int(LENGTHS[number]) for number in numbers), reverse=True)
        parts = [lengths[i : i + 4] for i in range(0, len(lengths), 4)]
        texts.append(len(numbers))
        tokens.append(sum(lengths))
        padded.append(sum(max(part) * len(part) for part in parts))
    assert work.tokens.tolist() == tokens
    assert work.padded.tolist() == padded
    assert work.texts.tolist() == texts
    assert work.asked.sum() == 200
    assert (work.rows, work.distinct) == (100, 160)
    assert (work.steps, work.epochs) == (18, 18 / 7)
    assert planned_of([work, work]) == {
        "steps": 36,
        "tokens": 2 * round(sum(tokens) * 18 / 7),
        "padding_share": pytest.approx(1 - sum(tokens) / sum(padded), abs=1e-4),
        "texts_saved": pytest.approx(200 / sum(texts), abs=1e-3),
    }


@pytest.mark.parametrize("batches", [1, 5, 8])
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize(("epochs", "most"), [(1.0, -1), (2.5, -1), (0.1, -1), (1.0, 4)])
def test_steps_are_counted_as_the_library_does(
    tmp_path: Path, batches: int, accumulation: int, epochs: float, most: int
) -> None:
    arguments = TrainingArguments(
        str(tmp_path),
        num_train_epochs=epochs,
        max_steps=most,
        gradient_accumulation_steps=accumulation,
        per_device_train_batch_size=1,
        use_cpu=True,
        report_to="none",
    )
    trainer = Trainer(torch.nn.Linear(1, 1), arguments, train_dataset=list(range(batches)))
    values = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())
    stage = StageConfig(epochs=epochs, max_steps=most, gradient_accumulation=accumulation)
    ones = np.ones(batches, dtype=np.int64)
    assert StageWork(stage, batches, {}, 1, ones, ones, ones, ones).steps == values[-1]


class Memory:
    """A device whose memory is known."""

    def __init__(self, base: int, peak: int) -> None:
        self.base, self.peak = base, peak


def setting(**others: Any) -> Setting:
    found = Setting(
        device="cpu",
        memory=1000 * MIB,
        trainable=MIB,
        micro_batch=MicroBatch(4096, cached=False, longest=64),
        validation=ValidationConfig(),
        dev_tokens=1000,
        seconds={"tokenize": 2.0},
        disk={"checkpoints": 30 * MIB},
        disk_free=500 * MIB,
    )
    return replace(found, **others)


STAGE = StageConfig(name="first", batch_size=16, epochs=3)
ROWS = rows_of(160, 80)


def planned(
    pace: float = 1e-3, taken: Memory | None = None, **others: Any
) -> tuple[dict[str, Any], list[int]]:
    """A plan whose steps take `pace` seconds a token; and the tokens of what was probed."""
    work = work_of(STAGE, ROWS)
    of_rows = {tuple(rows): int(work.padded[i]) for i, rows in enumerate(batches_of(ROWS, STAGE))}
    probed: list[int] = []

    def probe(number: int, rows: list[int]) -> float:
        assert number == 0
        probed.append(of_rows[tuple(rows)])
        slow = 9.0 if len(probed) == 1 else 0.0  # the first step warms up
        return slow + pace * probed[-1]

    batches = [batches_of(ROWS, STAGE)]
    memory = taken or Memory(100 * MIB, 200 * MIB)
    return plan([work], batches, probe, memory, setting(**others)), probed


def test_time_follows_from_the_probed_steps() -> None:
    found, probed = planned(once={"frozen": 600.0})
    work = work_of(STAGE, ROWS)
    assert probed == sorted(probed)
    assert len(probed) == 4
    assert json.loads(json.dumps(found)) == found
    phases = found["seconds_by_phase"]
    assert phases["train"] == pytest.approx(1e-3 * 3 * work.padded.sum(), abs=0.06)
    assert found["stages"][0]["measurements"] == 4
    assert phases["validate"] == pytest.approx(4 * 1000 * 1e-3 / 3, abs=0.06)
    assert phases["frozen"] == pytest.approx(0.2, abs=0.06)
    assert phases["tokenize"] == 2.0
    assert found["seconds"]["low"] < found["seconds"]["about"] < found["seconds"]["high"]
    assert found["seconds"]["about"] == pytest.approx(sum(phases.values()), abs=0.2)
    assert found["warnings"] == []


def test_measurements_come_by_steps_when_asked() -> None:
    every = planned(validation=ValidationConfig(every_steps=4))[0]
    assert every["steps"] == 30
    assert every["stages"][0]["measurements"] == 9
    assert planned(dev_tokens=0)[0]["stages"][0]["measurements"] == 0


def test_memory_grows_to_the_largest_batch() -> None:
    found, probed = planned(taken=Memory(100 * MIB, 212 * MIB))
    largest = int(work_of(STAGE, ROWS).padded.max())
    grown = 112 + 100 * largest / max(probed)
    assert found["memory"]["longest_batch"] == pytest.approx(grown * MIB, rel=1e-6)
    cached = MicroBatch(64, cached=True, longest=64)
    found, _ = planned(taken=Memory(100 * MIB, 212 * MIB), micro_batch=cached)
    assert found["memory"]["longest_batch"] == 212 * MIB


def test_what_will_not_fit_is_said() -> None:
    found, _ = planned(memory=200 * MIB, disk_free=10 * MIB)
    about_memory, about_disk = found["warnings"]
    assert "cpu has 200 MiB; set train.cached=true" in about_memory
    assert "10 MiB free, and 30 MiB are needed (checkpoints 30 MiB)" in about_disk


def test_a_probe_that_runs_out_of_memory_is_a_warning() -> None:
    def probe(number: int, rows: list[int]) -> float:
        return float(torch.empty(2**50, dtype=torch.uint8).sum())

    work = work_of(STAGE, ROWS)
    found = plan([work], [batches_of(ROWS, STAGE)], probe, Memory(1, 2), setting())
    assert not found["memory"]["fits"]
    (warning,) = found["warnings"]
    assert "ran out of memory" in warning

    def other(number: int, rows: list[int]) -> float:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        plan([work], [batches_of(ROWS, STAGE)], other, Memory(1, 2), setting())


def test_halved_pieces_a_stage_without_steps_and_lost_pairs_are_said() -> None:
    empty = rows_of(0, 10, {"too few negatives": 50, "other phases": 1000})
    work = count_work(STAGE, empty, [], Collate(empty), cut, LENGTHS)
    halved = MicroBatch(4096, cached=False, longest=64)
    halved.halve(MemoryError())
    found = plan([work], [[]], lambda *_: 1.0, Memory(1, 2), setting(micro_batch=halved))
    assert found["steps"] == 0
    no_step, lost, pieces = found["warnings"]
    assert "has no step: its 0 rows fill no batch of 16" in no_step
    assert "50 too few negatives" in lost
    assert "other phases" not in lost
    assert "train.micro_batch_tokens=2048" in pieces


def test_a_plan_is_told_in_lines(caplog: pytest.LogCaptureFixture) -> None:
    found, _ = planned(memory=200 * MIB)
    with caplog.at_level(logging.INFO, "codex_forge"):
        show(found)
    said = "\n".join(caplog.messages)
    for part in (
        "first (multiple_negatives_ranking)",
        "rows    160",
        "steps   30 in 3 epochs of 10 batches",
        "240 texts that differ",
        "train ",
        "validate ",
        "MiB for the largest batch (200 MiB were measured) of 200 MiB on cpu",
        "checkpoints 30 MiB; 500 MiB are free",
        "nothing was trained, and nothing written",
        "warning: the largest batch needs about",
    ):
        assert part in said
    empty, _ = planned(pace=0.0)
    caplog.clear()
    with caplog.at_level(logging.INFO, "codex_forge"):
        show(empty)


def test_few_batches_are_probed_from_short_to_long() -> None:
    assert spread([]) == []
    assert spread([5]) == [0, 0, 0, 0]
    assert spread([30, 10, 20]) == [1, 1, 2, 0]
    assert spread(list(range(100))) == [10, 30, 60, 90]


def test_the_gauge_sees_what_is_taken_and_given_back() -> None:
    before = Gauge(torch.device("cpu"))
    large = [np.ones(200 * MIB, dtype=np.uint8)]
    assert before.peak - before.base > 150 * MIB
    large.clear()
    assert before.peak - before.base > 150 * MIB
    assert before.base < memory_of(torch.device("cpu")) < 2**50


def test_a_forecast_is_told_once_and_leaves_the_first_step_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    forecast = Forecast(steps=110, padded=110_000, first=3)
    with caplog.at_level(logging.INFO, "codex_forge"):
        forecast.observe(1000, 60.0)
        for _ in range(2):
            forecast.observe(1000, 2.0)
        assert forecast.state()["seconds"] is None
        forecast.observe(1000, 2.0)
        for _ in range(20):
            forecast.observe(1000, 50.0)
    assert forecast.seconds == 220.0
    assert caplog.messages == ["  about 4 min of training to go: 106 steps of 2.0 s"]


def test_a_resumed_forecast_keeps_what_was_foretold(caplog: pytest.LogCaptureFixture) -> None:
    before = Forecast(steps=100, padded=100_000, first=2)
    for _ in range(50):
        before.observe(1000, 1.0)
    after = Forecast(steps=100, padded=100_000, first=2)
    after.restore(json.loads(json.dumps(before.state())))
    caplog.clear()  # what the first one said, where the log was open already
    with caplog.at_level(logging.INFO, "codex_forge"):
        for _ in range(3):
            after.observe(1000, 4.0)
    assert after.seconds == 100.0
    assert caplog.messages == ["  about 3 min of training to go: 47 steps of 4.0 s"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0312, "0.031 s"), (1.94, "1.9 s"), (45.4, "45 s"), (240, "4 min"),
        (7800, "2 h 10 min"), (4 * 3600 - 1, "4 h 0 min"), (277_200, "3 d 5 h"),
    ],
)  # fmt: skip
def test_durations_are_told_in_a_unit_that_suits(seconds: float, said: str) -> None:
    assert duration(seconds) == said
