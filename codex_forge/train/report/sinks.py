"""The places that a training can report to, each by its own package's few calls."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from codex_forge.config import RunConfig, flatten
from codex_forge.errors import ConfigError, ForgeError, TryAgain

FOLDER = "tensorboard"
"""Of TensorBoard's files, in the artifact."""
_PROJECT = "codex-forge"
_SENT = ("name", "seed", "model", "train")
"""Of the config."""


Ending = Literal["finished", "failed", "stopped"]


class Sink(Protocol):
    """A place to report to."""

    name: str
    is_new: bool
    """Whether its run starts here; else it has what an earlier process sent."""
    errors: tuple[type[Exception], ...]
    """What it raises when it cannot take more."""

    @property
    def run_id(self) -> str | None:
        """What it calls the run; None where a run has no name."""

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of a step."""

    def close(self, ending: Ending) -> None:
        """Take no more."""


class TensorBoard:
    """Event files in a folder of the artifact."""

    name = "tensorboard"
    is_new = True
    errors: tuple[type[Exception], ...] = ()
    run_id = None

    def __init__(self, config: RunConfig, folder: Path) -> None:
        """The config goes in as a text."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / FOLDER), flush_secs=10)
        text = json.dumps(_sent(config), indent=2, ensure_ascii=False)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in text.split("\n")))

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """A scalar each."""
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def close(self, ending: Ending) -> None:
        """Write all of it."""
        self._writer.close()


class Wandb:
    """A run of Weights & Biases; `WANDB_MODE=offline` needs no network."""

    name = "wandb"

    def __init__(self, config: RunConfig, run_id: str | None) -> None:
        """Start a run, or go on with one.

        Raises:
            ConfigError: there is no key, or it is refused.
            TryAgain: the service does not answer.
        """
        import wandb

        self.errors: tuple[type[Exception], ...] = (wandb.errors.Error,)
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", _PROJECT),
                name=config.run_name,
                id=run_id,
                resume="allow" if run_id else None,
                config=_sent(config),
                settings=wandb.Settings(
                    console="off", disable_code=True, disable_git=True, silent=True
                ),
            )
        except wandb.errors.CommError as error:
            raise _does_not_answer(self.name, error) from error
        except wandb.errors.Error as error:
            raise _refuses(self.name, error, "set WANDB_API_KEY, or WANDB_MODE=offline") from error
        self.is_new, self.run_id = not self._run.resumed, str(self._run.id)
        # A resumed run repeats steps; W&B's own counter would drop them.
        self._run.define_metric("*", step_metric="step")

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """One row."""
        self._run.log({**values, "step": step})

    def close(self, ending: Ending) -> None:
        """Wait until all is sent."""
        self._run.finish(exit_code=0 if ending == "finished" else 1)


class Mlflow:
    """A run of MLflow at `MLFLOW_TRACKING_URI`: a server, or a database such as `sqlite:///f.db`."""

    name = "mlflow"

    def __init__(self, config: RunConfig, run_id: str | None) -> None:
        """Start a run, or go on with one.

        Raises:
            ConfigError: the address or the key is refused.
            TryAgain: the server does not answer.
        """
        import mlflow

        self._mlflow = mlflow
        self.errors: tuple[type[Exception], ...] = (mlflow.exceptions.MlflowException,)
        self.is_new = run_id is None
        try:
            if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & os.environ.keys():
                mlflow.set_experiment(_PROJECT)
            self.run_id = mlflow.start_run(run_id, run_name=config.run_name).info.run_id
            if self.is_new:
                mlflow.log_params(flatten(_sent(config)))
        except self.errors as error:
            if "failed with exception" in str(error):
                raise _does_not_answer(self.name, error) from error
            raise _refuses(self.name, error, "see MLFLOW_TRACKING_URI") from error

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """A metric each."""
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self, ending: Ending) -> None:
        """Say how it ended."""
        said = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
        self._mlflow.end_run(said[ending])


def _sent(config: RunConfig) -> dict[str, Any]:
    whole = config.model_dump(mode="json")
    return {name: whole[name] for name in _SENT}


def _does_not_answer(name: str, error: Exception) -> ForgeError:
    return TryAgain(f"{name} does not answer: {error}", where="train.report_to", do="run again")


def _refuses(name: str, error: Exception, do: str) -> ForgeError:
    return ConfigError(f"{name} refuses: {error}", where="train.report_to", do=do)
