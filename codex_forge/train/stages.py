"""The stages of a training, one after another: each has its rows, loss, optimizer and schedule.

A checkpoint says in which stage it was made; a resumed run builds the same rows, and goes on there.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformerTrainingArguments
from torch import nn

from codex_forge.config import RunConfig
from codex_forge.config.train import StageConfig
from codex_forge.errors import Preempted
from codex_forge.train import checkpoints, ranks
from codex_forge.train.checkpoints import Keeper
from codex_forge.train.data.batches import EpochBatches
from codex_forge.train.data.needs import NEEDS
from codex_forge.train.data.rows import Rows
from codex_forge.train.dev.best import Best
from codex_forge.train.dev.measuring import Measuring
from codex_forge.train.dev.validation import Measures
from codex_forge.train.encoding import Collate, Tower
from codex_forge.train.layers import dropout
from codex_forge.train.losses.objectives import make_loss
from codex_forge.train.planning.forecast import Forecast
from codex_forge.train.planning.observing import Observing
from codex_forge.train.report.history import History
from codex_forge.train.report.reporting import Reporter
from codex_forge.train.report.summary import Clock, Tally
from codex_forge.train.resumable import Pace, ResumableTrainer
from codex_forge.train.step import Step, TellingStep
from codex_forge.train.watch import Watch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from codex_forge.train.data.distillation import Teacher

log = logging.getLogger("codex_forge")

_PHASES = ("train", "validate", "save", "checkpoint")
"""What a stage spends its time on."""


@dataclass
class Course:
    """What all stages share, and how far the run is."""

    config: RunConfig
    tower: Tower
    scratch: Path
    history: History
    keeper: Keeper | None
    clock: Clock
    tally: Tally
    measuring: Measuring | None
    """None without dev data."""
    teacher: Teacher | None
    """Vectors of the teachers, for a stage that learns them."""
    reporter: Reporter | None
    batches: list[EpochBatches]
    """Of each stage."""
    forecast: Forecast
    offset: int = 0
    """Optimizer steps of the stages that are done."""
    done: list[dict[str, Any]] = field(default_factory=list)
    """What the stages that are done ended with."""
    standing: Measures | None = None
    """Of the weights that the next stage begins with, where they were just measured."""
    resumed_from: int | None = None
    """Step of the run at which it was taken up again."""
    begun: dict[str, Any] = field(default_factory=dict)
    """What was counted, and the seconds, when the stage began."""

    def state(self, stage: int) -> dict[str, Any]:
        """What a checkpoint says of the run beside its stage. All ranks must call it."""
        return {
            "stage": stage,
            "offset": self.offset,
            "done": self.done,
            "begun": ranks.from_all(self.begun),
            "memory": self.tower.memory.state(),
            "tally": ranks.from_all(self.tally.state()),
            "clock": self.clock.state(),
            "forecast": self.forecast.state(),
            "measuring": self.measuring.state() if self.measuring else None,
            "reports": self.reporter.state() if self.reporter else {},
        }

    def go_on_from(self, told: dict[str, Any]) -> int:
        """Take over what a checkpoint says; returns its stage."""
        self.offset, self.done = told["offset"], told["done"]
        self.begun = told["begun"][ranks.rank()]
        self.tower.memory.restore(told["memory"])
        self.tally.restore(told["tally"][ranks.rank()])
        self.clock.restore(told["clock"])
        self.forecast.restore(told["forecast"])
        self.history.go_on_from(told["history"])
        if self.measuring is not None:
            self.measuring.restore(told["measuring"])
        if self.reporter is not None:
            self.reporter.replay(self.history.entries)
        return int(told["stage"])

    @property
    def model(self) -> SentenceTransformer:
        """The model that trains."""
        return self.tower.model


def run_stages(course: Course, rows: Sequence[Rows], checkpoint: Path | None) -> None:
    """Train all stages, from the start or from a checkpoint's folder.

    Raises:
        Preempted: a signal came; the checkpoint of the last step is stored.
    """
    told = checkpoints.read_state(checkpoint) if checkpoint is not None else None
    first = course.go_on_from(told) if told is not None else 0
    stages = course.config.train.resolved_stages
    for number in range(first, len(stages)):
        if len(stages) > 1:
            log.info("stage %d of %d: %s", number + 1, len(stages), stages[number].title)
        _run_stage(course, number, rows[number], checkpoint if number == first else None)
    if course.keeper is not None:
        course.keeper.finish()


def _run_stage(course: Course, number: int, rows: Rows, checkpoint: Path | None) -> None:
    stage = course.config.train.resolved_stages[number]
    course.history.stage, course.history.offset = stage.title, course.offset
    if checkpoint is None:
        course.begun = {"tally": course.tally.state(), "seconds": _spent(course.clock)}
    best = _best(course, number, stage, checkpoint)
    trainer = make_trainer(course, number, rows, best)
    with course.clock("train"):
        trainer.run(checkpoint)
    if best is not None and best.ends_with_best and best.weights is not None:
        checkpoints.load_module(best.weights, trainer.loss)
    course.standing = _standing(course, trainer, best)
    if checkpoint is not None:
        course.resumed_from = course.offset + trainer.started_at
    course.done.append(
        {
            **_outcome(course.history, stage, trainer),
            "rows": len(rows),
            "left_out": rows.left_out,
            "seconds": round(_spent(course.clock) - course.begun["seconds"], 1),
            "best": best.closing(stage.title) if best is not None and ranks.rank() == 0 else None,
            "tally": _of_all_ranks(course.tally.since(course.begun["tally"])),
        }
    )
    course.offset += trainer.state.global_step


def _of_all_ranks(counted: dict[str, int]) -> dict[str, int]:
    found = Tally()
    for own in ranks.from_all(counted):
        found.add_up(own)
    return found.state()


def _spent(clock: Clock) -> float:
    """Seconds of the stages' own phases, those before a resumed part included."""
    return sum(clock.seconds.get(phase, 0.0) for phase in _PHASES)


def _standing(course: Course, trainer: ResumableTrainer, best: Best | None) -> Measures | None:
    """The last measurement, where the next stage would measure the same."""
    if best is None or trainer.measured_at != trainer.state.global_step:
        return None
    is_best = best.step == course.offset + trainer.state.global_step
    return trainer.measures if is_best or not best.ends_with_best else None


def _best(course: Course, number: int, stage: StageConfig, checkpoint: Path | None) -> Best | None:
    """The best weights of a stage that begins, or goes on from a checkpoint.

    Raises:
        Preempted: a signal came while what the stage begins with was measured.
    """
    if course.measuring is None:
        return None
    start = (
        {}
        if checkpoint is not None
        else course.standing or _start(course.measuring, course.clock, stage)
    )
    validation = course.config.train.validation
    folder = course.scratch / f"stage-{number}"
    best = Best(validation, course.measuring.metric, start, folder)
    if checkpoint is not None:
        best.go_on_from(checkpoints.read_state(checkpoint)["best"], checkpoint)
    return best


def _start(measuring: Measuring, clock: Clock, stage: StageConfig) -> Measures:
    with clock("validate"):
        found = measuring(0, 0.0)
    if found is None:
        raise Preempted(f"stopped before the first step of {stage.title}")
    return found


def make_trainer(
    course: Course, number: int, rows: Rows, best: Best | None = None
) -> ResumableTrainer:
    """The trainer of one stage."""
    config, tower = course.config, course.tower
    stage = config.train.resolved_stages[number]
    trainer = ResumableTrainer(
        step=make_step(course, number),
        args=training_arguments(course, stage),
        batches=course.batches[number],
        collate=Collate(rows, course.tally),
        history=course.history,
        pace=Pace(config.train, course.keeper, is_last=number + 1 == len(course.batches)),
        best=best,
        watch=Watch(tower.memory, tower.table, rows, config.train.logging_steps),
        clock=course.clock,
        keeper=course.keeper,
        scratch=course.scratch,
        offset=course.offset,
        told=lambda: course.state(number),
        measure=course.measuring,
    )
    trainer.add_callback(Observing(course.forecast, course.tally))
    return trainer


def make_batches(
    config: RunConfig, number: int, rows: Rows, lengths: NDArray[np.int32]
) -> EpochBatches:
    """This rank's batches of a stage; `lengths` are tokens of each text."""
    stage = config.train.resolved_stages[number]
    return EpochBatches(
        rows,
        lengths,
        batch_size=stage.batch_size,
        seed=config.seed + number,
        exclusive=NEEDS[stage.objective].exclusive,
        ranks=ranks.world_size(),
        rank=ranks.rank(),
        shared_negatives=True,
    )


def make_step(course: Course, number: int) -> nn.Module:
    """What computes the loss of a stage; weights of its own are drawn by the run's seed."""
    stage, train = course.config.train.resolved_stages[number], course.config.train
    torch.manual_seed(course.config.seed + number)
    if stage.objective == "tsdae":
        step = TellingStep(course.tower, stage.deletion)
        if train.dropout is not None:
            dropout.set_dropout(step, train.dropout)
        dropout.install(step)  # the decoder has its own
        return step
    teacher = course.teacher if stage.objective == "distill_embedding" else None
    dimension = int(course.model.get_embedding_dimension() or 0)
    loss = make_loss(
        stage,
        dimension,
        teacher_width=teacher.width if teacher else None,
        temperature=train.distillation.temperature,
    )
    return Step(course.tower, loss, teacher)


def training_arguments(course: Course, stage: StageConfig) -> SentenceTransformerTrainingArguments:
    """The library's training arguments for a stage."""
    train, device = course.config.train, course.model.device
    found = SentenceTransformerTrainingArguments(
        output_dir=str(course.scratch / "trainer"),
        num_train_epochs=stage.epochs,
        max_steps=stage.max_steps,
        per_device_train_batch_size=stage.batch_size,
        gradient_accumulation_steps=stage.gradient_accumulation,
        learning_rate=stage.learning_rate,
        lr_scheduler_type=stage.schedule,
        lr_scheduler_kwargs=_schedule(stage),
        warmup_steps=stage.warmup_ratio if stage.warmup_steps is None else stage.warmup_steps,
        weight_decay=stage.weight_decay,
        max_grad_norm=train.max_grad_norm,
        logging_steps=train.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy="no",  # measurements and checkpoints are `Pace`'s
        save_strategy="no",
        seed=course.config.seed,
        data_seed=course.config.seed,
        use_cpu=device.type == "cpu",
        average_tokens_across_devices=False,
        disable_tqdm=not sys.stderr.isatty(),
        report_to="none",
        fp16=course.tower.precision == "fp16",  # for its scaler; the tower casts
    )
    found._n_gpu = min(1, found.n_gpu)  # a process has one device; torchrun starts one for each
    return found


def _schedule(stage: StageConfig) -> dict[str, Any]:
    return {"num_cycles": stage.restarts} if stage.schedule == "cosine_with_restarts" else {}


def _outcome(history: History, stage: StageConfig, trainer: ResumableTrainer) -> dict[str, Any]:
    """What a stage ended with."""
    losses = [value for _, value in history.series("loss", stage.title)]
    return {
        "stage": stage.title,
        "objective": stage.objective,
        "steps": trainer.state.global_step,
        "epochs": round(float(trainer.state.epoch or 0), 3),
        "first_loss": losses[0] if losses else None,
        "final_loss": losses[-1] if losses else None,
        "best_loss": min(losses, default=None),
    }
