"""The library's trainer with checkpoints on the store, and an end where the scheduler wants one.

A resumed run takes the same steps as one that was never stopped: weights, optimizer, schedule, the
place in the data, the best weights so far and the random generators of every rank are restored. On
a CPU the final weights are the same bit for bit, in every stage.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainer
from torch import nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments as Arguments
from transformers.trainer import TRAINER_STATE_NAME

from codex_forge.config.train import TrainConfig
from codex_forge.errors import Preempted
from codex_forge.stopping import stop
from codex_forge.train import checkpoints, ranks
from codex_forge.train.data.batches import EpochBatches
from codex_forge.train.dev.best import Best
from codex_forge.train.encoding import Collate
from codex_forge.train.report.history import History
from codex_forge.train.report.summary import Clock
from codex_forge.train.watch import Watch

_SECONDS_IN_MINUTE = 60
_ROUNDING = 1e-6

Measure = Callable[[int, float], dict[str, Any] | None]
"""Measures the model at a step and epoch of the stage; None when a signal cut it short."""


class Pace(TrainerCallback):  # type: ignore[misc]
    """Decides, with all ranks, when to save, when to measure and when to stop."""

    def __init__(
        self, config: TrainConfig, keeper: checkpoints.Keeper | None, *, is_last: bool = True
    ) -> None:
        """`keeper` is rank 0's; a stage that is not the last ends with a checkpoint."""
        self._config, self._keeper, self.is_last = config, keeper, is_last
        self._saved = time.monotonic()
        self.measures = False
        self.stopping = False

    def on_epoch_begin(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Tell the batches their epoch; the library stops one wrapper short of them on a resume."""
        batches = given["train_dataloader"].batch_sampler
        while not hasattr(batches, "set_epoch"):
            batches = batches.batch_sampler
        batches.set_epoch(math.floor(state.epoch + _ROUNDING))

    def on_step_end(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save and measure when it is time, stop when any rank was asked to.

        A measurement would only keep the scheduler waiting; the resumed run makes up for it.
        """
        self.stopping, due = ranks.any_of(stop.requested, self._is_due(state))
        control.should_save |= due or self.stopping
        control.should_training_stop |= self.stopping
        control.should_evaluate |= self.measures and not self.stopping and self.is_place(state)
        if control.should_save:
            self._saved = time.monotonic()

    def is_place(self, state: TrainerState) -> bool:
        """Whether a stage measures the model at this step."""
        every = self._config.validation.every_steps
        if state.global_step >= state.max_steps:
            return True
        return state.global_step % every == 0 if every else math.isclose(state.epoch % 1, 0)

    def _is_due(self, state: TrainerState) -> bool:
        if self._keeper is None:
            return False
        if state.global_step >= state.max_steps and not self.is_last:
            return True
        steps = self._config.save_steps
        if steps and state.global_step % steps == 0:
            return True
        seconds = _SECONDS_IN_MINUTE * self._config.save_minutes
        waited = time.monotonic() - self._saved
        return bool(seconds) and waited >= seconds and self._keeper.is_free


class ResumableTrainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """Runs one stage; saves to and resumes from `codex_forge.train.checkpoints`."""

    def __init__(
        self,
        *,
        step: nn.Module,
        batches: EpochBatches,
        collate: Collate,
        history: History,
        pace: Pace,
        best: Best | None,
        watch: Watch,
        clock: Clock,
        keeper: checkpoints.Keeper | None,
        scratch: Path,
        offset: int,
        told: Callable[[], dict[str, Any]],
        measure: Measure | None,
        **options: Any,
    ) -> None:
        """A trainer of one stage.

        Args:
            step: what a batch's loss is computed by.
            batches: numbers of rows, a batch at a time.
            collate: what makes a batch of them.
            history: the metric history of the whole run.
            pace: when to save, measure and stop.
            best: the best weights of the stage; None where nothing is measured.
            watch: against losses that are no numbers, and memory that runs out.
            clock: seconds by phase.
            keeper: rank 0's, for checkpoints.
            scratch: where checkpoints gather.
            offset: steps of the stages before.
            told: what a checkpoint says of the run beside this stage; all ranks call it.
            measure: the dev set's measures; None without one.
            **options: of the library's trainer.
        """
        self.history, self.pace, self.best = history, pace, best
        self._batches, self._collate, self._watch, self._clock = batches, collate, watch, clock
        self._keeper, self._scratch, self._offset, self._told = keeper, scratch, offset, told
        self._measure = measure
        pace.measures = measure is not None
        self.started_at = 0
        self.measured_at: int | None = None
        """The stage's step of the last measurement."""
        self.measures: dict[str, Any] | None = None
        """What it said."""
        super().__init__(model=step.model, loss=step, callbacks=[history, pace], **options)
        self.remove_callback(PrinterCallback)  # what it prints, the history logs
        # The step casts and gathers on its own: one pass over the weights' casts for all parts of
        # a batch, and one sum of gradients. Neither autocast nor DDP around the model.
        self.accelerator.prepare_model = lambda model, **_: model

    def run(self, checkpoint: Path | None) -> None:
        """Train to the end, from the start or from a checkpoint's folder.

        Raises:
            Preempted: this rank or another was asked to stop; the checkpoint is stored.
        """
        if any(ranks.any_of(stop.requested)):
            raise Preempted(f"stopped before the first step of {self.history.stage}")
        if checkpoint is None:
            self.train()
        elif self._go_on_from(checkpoint):
            self.train(resume_from_checkpoint=str(checkpoint))
        self._watch.check()
        if self._keeper is not None and self.pace.stopping:
            self._keeper.finish()
        if self.pace.stopping:
            raise self._preempted()

    def _go_on_from(self, folder: Path) -> bool:
        """Take over a checkpoint; returns whether there are steps left to train.

        The library would take one more step after the last, and one after a measurement that ends
        the stage.
        """
        state = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME))
        told = checkpoints.read_state(folder)
        self.started_at = state.global_step
        self.measured_at, self.measures = told["measured_at"], told["measures"]
        if self._keeper is not None:
            self._keeper.committed = self._offset + state.global_step
        self._load_from_checkpoint(str(folder))
        self.state = state
        if self._is_measurement_due(state):
            self._evaluate(None, None)
        if state.global_step >= state.max_steps or (self.best and self.best.should_stop):
            return False
        self.add_callback(_LossSoFar(self, told["loss"], told["last_logged"]))
        return True

    def _is_measurement_due(self, state: TrainerState) -> bool:
        """Whether the run was stopped where it would have measured next."""
        if self._measure is None or not self.pace.is_place(state):
            return False
        return bool(state.global_step != self.measured_at)

    def _preempted(self) -> Preempted:
        # All wait here for rank 0's upload: a launcher kills the others when one has ended.
        step = ranks.from_first(self._keeper.committed if self._keeper else None)
        name = stop.name or "another rank"
        kept = "no checkpoint" if step is None else f"the checkpoint of step {step}"
        now = self._offset + self.state.global_step
        return Preempted(f"stopped by {name} at step {now}; {kept} is on the store")

    # --- what the library calls ------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Row numbers in this rank's batches; nothing for accelerate to share out."""
        numbers: Any = range(len(self._collate))
        return DataLoader(numbers, batch_sampler=self._batches, collate_fn=self._collate)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """The loss of a batch of `Collate`, over all ranks."""
        loss: torch.Tensor = self.loss(inputs)
        return loss

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Forward and backward; at the end of an optimizer step the gradients of all ranks."""

        def attempt(batch: dict[str, Any]) -> torch.Tensor:
            found: torch.Tensor = super(ResumableTrainer, self).training_step(
                model, batch, num_items_in_batch
            )
            return found

        loss = self._watch.attempt(attempt, inputs, self.optimizer)
        is_last = self.accelerator.sync_gradients
        self._watch.seen(
            loss,
            self._offset + self.state.global_step + 1,
            inputs["rows"],
            self._get_learning_rate(),
            is_last,
        )
        if is_last:
            ranks.sum_gradients(self.loss.parameters())
        return loss

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        """Clip what all parameters have, those of the loss too."""
        norm: torch.Tensor = super()._clip_grad_norm(self.loss)
        if getattr(self.accelerator, "scaler", None) is None:  # a scaler meets infinity and goes on
            self._watch.seen_gradient(norm)
        return norm

    def _evaluate(
        self, trial: Any, ignore_keys: Any, skip_scheduler: bool = False
    ) -> dict[str, float]:
        """Measure, and remember the weights if they are the best."""
        self.control.should_evaluate = False  # the end of an epoch would ask again
        step = self.state.global_step
        if self._measure is None or self.best is None or step == self.measured_at:
            return {}
        self._watch.check()
        with self._clock("validate"):
            found = self._measure(step, float(self.state.epoch or 0))
        if found is None:
            self.pace.stopping = True
            if step == self.started_at:
                raise self._preempted()  # the checkpoint that this run began with is as good
            self.control.should_save = self.control.should_training_stop = True
            return {}
        self.measured_at, self.measures = step, found
        with self._clock("save"):
            self.best.offer(self._offset + step, found, self._save_module)
        self.control.should_training_stop |= self.best.should_stop
        self.control.should_save |= self.best.should_stop and not self.pace.is_last
        return {}

    def _save_module(self, path: Path) -> None:
        checkpoints.save_module(path, self.loss)

    def _determine_best_metric(self, metrics: Any, trial: Any) -> bool:
        return False

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._watch.check()
        with self._clock("checkpoint"):
            generators, told = ranks.from_all(checkpoints.random_state()), self._told()
            if self._keeper is None:
                return
            step = self._offset + self.state.global_step
            folder = self._scratch / "checkpoints" / f"step-{step:08d}"
            optimizer = checkpoints.save_weights(folder, self.loss, self.optimizer)
            scaler = getattr(self.accelerator, "scaler", None)
            if self.best is not None:
                self.best.add_weights(folder)
            checkpoints.save_state(
                folder,
                {
                    "optimizer": optimizer,
                    "schedule": self.lr_scheduler.state_dict(),
                    "scaler": scaler.state_dict() if scaler is not None else None,
                    "loss": float(self._tr_loss),
                    "last_logged": self._globalstep_last_logged,
                    "history": self.history.entries,
                    "best": self.best.state() if self.best is not None else None,
                    "measured_at": self.measured_at,
                    "measures": self.measures,
                    **told,
                },
            )
            self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
            for rank, text in enumerate(generators):
                checkpoints.random_file(folder, rank).write_text(text, encoding="ascii")
            self._keeper.store(step, folder)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        checkpoints.load_weights(Path(checkpoint_path), self.loss)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpoints.load_optimizer(Path(checkpoint), self.optimizer)
            self.lr_scheduler.load_state_dict(checkpoints.read_state(Path(checkpoint))["schedule"])

    def _load_scaler(self, checkpoint: str | None) -> None:
        scaler = getattr(self.accelerator, "scaler", None)
        if checkpoint is not None and scaler is not None:
            scaler.load_state_dict(checkpoints.read_state(Path(checkpoint))["scaler"])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            file = checkpoints.random_file(Path(checkpoint), ranks.rank())
            checkpoints.restore_random_state(file.read_text(encoding="ascii"))


class _LossSoFar(TrainerCallback):  # type: ignore[misc]
    """The loss since the last line of the log, which the library forgets when it resumes."""

    def __init__(self, trainer: ResumableTrainer, loss: float, last_logged: int) -> None:
        self._trainer, self._loss, self._last_logged = trainer, loss, last_logged

    def on_train_begin(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Put it back."""
        self._trainer._tr_loss += self._loss
        self._trainer._globalstep_last_logged = self._last_logged
