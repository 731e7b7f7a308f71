"""The library's trainer with checkpoints on the store, and an end where the scheduler wants one.

A resumed run takes the same steps as one that was never stopped: weights, optimizer, schedule, the
place in the data and the random generators of every rank are restored, and evaluation leaves the
generators as they were. On a CPU the final weights are the same bit for bit.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformerTrainer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from codex_forge.config.sections import TrainConfig
from codex_forge.errors import Preempted
from codex_forge.stopping import stop
from codex_forge.train import checkpoints, ranks
from codex_forge.train.history import History

_SECONDS_IN_MINUTE = 60
_ROUNDING = 1e-6


class _EvaluationCut(Exception):
    """All ranks leave the evaluation together."""


class Pace(TrainerCallback):  # type: ignore[misc]
    """Decides, with all ranks, when to save and when to stop."""

    def __init__(self, config: TrainConfig, keeper: checkpoints.Keeper | None) -> None:
        """`keeper` is rank 0's."""
        self._config, self._keeper = config, keeper
        self._saved = time.monotonic()
        self.stopping = False

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Tell the batches their epoch; the library stops one wrapper short of them on a resume."""
        batches = given["train_dataloader"].batch_sampler
        while not hasattr(batches, "set_epoch"):
            batches = batches.batch_sampler
        batches.set_epoch(math.floor(state.epoch + _ROUNDING))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save when it is time, stop when any rank was asked to."""
        self.stopping, due = ranks.any_of(stop.requested, self._is_due(state))
        control.should_save |= due or self.stopping
        control.should_training_stop |= self.stopping
        if control.should_save:
            self._saved = time.monotonic()

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Leave an evaluation that a signal falls into."""
        (self.stopping,) = ranks.any_of(stop.requested)
        if self.stopping:
            raise _EvaluationCut

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """An evaluation would only keep the scheduler waiting; the resumed run makes up for it."""
        control.should_evaluate &= not self.stopping

    def _is_due(self, state: TrainerState) -> bool:
        if self._keeper is None:
            return False
        steps = self._config.save_steps
        if steps and state.global_step % steps == 0:
            return True
        seconds = _SECONDS_IN_MINUTE * self._config.save_minutes
        waited = time.monotonic() - self._saved
        return bool(seconds) and waited >= seconds and self._keeper.is_free


class ResumableTrainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """Saves to and resumes from checkpoints of `codex_forge.train.checkpoints`."""

    def __init__(
        self,
        *,
        history: History,
        pace: Pace,
        keeper: checkpoints.Keeper | None,
        scratch: Path,
        **options: Any,
    ) -> None:
        """`options` go to the library; `keeper` is rank 0's; checkpoints gather in `scratch`."""
        self.history, self.pace = history, pace
        self._keeper, self._scratch = keeper, scratch
        self.saving_seconds = 0.0
        self.started_at = 0
        super().__init__(callbacks=[history, pace], **options)

    @property
    def checkpoints_stored(self) -> int:
        """Checkpoints that this process stored."""
        return self._keeper.stored if self._keeper else 0

    def run(self, checkpoint: Path | None) -> None:
        """Train to the end, from the start or from a checkpoint's folder.

        Raises:
            Preempted: this rank or another was asked to stop; the checkpoint is stored.
        """
        if any(ranks.any_of(stop.requested)):
            raise Preempted("stopped before the first step")
        if checkpoint is None:
            self.train()
        elif self._go_on_from(checkpoint):
            self.train(resume_from_checkpoint=str(checkpoint))
        if self._keeper is not None:
            self._keeper.finish()
        if self.pace.stopping:
            # All wait here for rank 0's upload: a launcher kills the others when one has ended.
            stored = ranks.from_first(self._keeper.committed if self._keeper else None)
            raise Preempted(self._farewell(stored))

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Evaluate without a trace in the random generators; cut short by a signal."""
        before = checkpoints.random_state()
        try:
            found: dict[str, float] = super().evaluate(*arguments, **options)
        except _EvaluationCut:
            self.control.should_save = self.control.should_training_stop = True
            return {}
        finally:
            checkpoints.restore_random_state(before)
        return found

    def _go_on_from(self, folder: Path) -> bool:
        """Take over a checkpoint's history; returns whether there are steps left to train.

        The library would take one more step after the last.
        """
        told = checkpoints.read_state(folder)
        state = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME))
        self.history.go_on_from(told["history"])
        self.started_at = state.global_step
        if self._keeper is not None:
            self._keeper.committed = state.global_step
        is_over = state.global_step >= state.max_steps
        is_due = self._is_evaluation_due(state, told["history"], is_over)
        if is_over:
            self._load_from_checkpoint(str(folder))
            self.state = state
            if is_due:
                self.evaluate()
            return False
        self.args.eval_on_start = is_due
        self.add_callback(_LossSoFar(self, told["loss"], told["last_logged"]))
        return True

    def _is_evaluation_due(
        self, state: TrainerState, history: list[dict[str, float]], is_over: bool
    ) -> bool:
        """Whether the run was stopped where it would have evaluated next."""
        at_an_end = is_over or math.isclose(state.epoch % 1, 0)
        evaluated = any(e["step"] == state.global_step and "eval_loss" in e for e in history)
        return self.eval_dataset is not None and at_an_end and not evaluated

    def _farewell(self, step: int | None) -> str:
        name = stop.name or "another rank"
        kept = "no checkpoint" if step is None else f"the checkpoint of step {step}"
        return f"stopped by {name} at step {self.state.global_step}; {kept} is on the store"

    # --- what the library calls ------------------------------------------------------------------

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        started = time.monotonic()
        self.store_flos()
        generators = ranks.from_all(checkpoints.random_state())
        if self._keeper is not None:
            step = self.state.global_step
            folder = self._scratch / "checkpoints" / f"step-{step:08d}"
            optimizer = checkpoints.save_weights(folder, self._weights(), self.optimizer)
            scaler = getattr(self.accelerator, "scaler", None)
            checkpoints.save_state(
                folder,
                {
                    "optimizer": optimizer,
                    "schedule": self.lr_scheduler.state_dict(),
                    "scaler": scaler.state_dict() if scaler is not None else None,
                    "loss": float(self._tr_loss),
                    "last_logged": self._globalstep_last_logged,
                    "history": self.history.entries,
                },
            )
            self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
            for rank, text in enumerate(generators):
                checkpoints.random_file(folder, rank).write_text(text, encoding="ascii")
            self._keeper.store(step, folder)
        self.saving_seconds += time.monotonic() - started

    def _weights(self) -> torch.nn.Module:
        """The model itself, not what `torch.compile` made of it."""
        found: Any = getattr(self.model, "_orig_mod", self.model)
        return cast("torch.nn.Module", found)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        checkpoints.load_weights(Path(checkpoint_path), self._weights())

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
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._trainer._tr_loss += self._loss
        self._trainer._globalstep_last_logged = self._last_logged
