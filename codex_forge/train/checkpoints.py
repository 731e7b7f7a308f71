"""All that a training run needs to go on as if nothing had happened, without a pickle.

model.safetensors       every weight and buffer
optimizer.safetensors   its tensors, by parameter number and name
best.safetensors        the weights of the stage's best measurement, once there is one
state.json              schedule, parameter groups, loss so far, metric history, place in the stages
trainer_state.json      step, epoch
rng-00000.json          the random generators of each rank
"""

from __future__ import annotations

import base64
import json
import logging
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, load_model, save_file, save_model

from codex_forge.artifact import Checkpoints, Uploads
from codex_forge.errors import StorageDown
from codex_forge.jsonl import read_json, write_json

if TYPE_CHECKING:
    from torch.optim import Optimizer

log = logging.getLogger("codex_forge")

_MODEL, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"


class Keeper:
    """Stores the checkpoints of a run in the background, one after another."""

    def __init__(self, checkpoints: Checkpoints, uploads: Uploads) -> None:
        """Use `keeping`; rank 0 has one."""
        self._checkpoints, self._uploads = checkpoints, uploads
        self.committed: int | None = None
        """Step of the last checkpoint that is on the store."""
        self.stored = 0
        self._newest = 0
        self._is_down = False

    @property
    def is_free(self) -> bool:
        """Whether the next checkpoint would not have to wait."""
        return self._uploads.is_free

    def store(self, step: int, folder: Path) -> None:
        """Upload a checkpoint's folder and remove it; a storage that is down stops no training.

        While it is down only the newest checkpoint is tried: older ones would each wait in vain.

        Raises:
            TryAgain: another process has taken this run over.
        """
        self._newest = step
        self._uploads.submit(lambda: self._store(step, folder))

    def finish(self) -> None:
        """Wait until all is stored.

        Raises:
            TryAgain: another process has taken this run over.
        """
        self._uploads.finish()

    def _store(self, step: int, folder: Path) -> None:
        try:
            if self._is_down and step < self._newest:
                log.warning("  the checkpoint of step %d is passed over for a newer one", step)
                return
            self._checkpoints.save(step, folder)
        except StorageDown as down:
            self._is_down = True
            log.warning("  the checkpoint of step %d is not stored: %s", step, down)
        else:
            self._is_down = False
            self.committed = step
            self.stored += 1
            log.info("  checkpoint of step %d is on the store", step)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def keeping(checkpoints: Checkpoints) -> Iterator[Keeper]:
    """A keeper of these checkpoints, which at the end waits for what it was given."""
    with Uploads() as uploads:
        yield Keeper(checkpoints, uploads)


def save_weights(folder: Path, model: torch.nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Write the tensors of model and optimizer; returns the rest of the optimizer's state."""
    folder.mkdir(parents=True, exist_ok=True)
    save_module(folder / _MODEL, model)
    found = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {}
    for parameter, state in found["state"].items():
        for name, value in state.items():
            key = f"{parameter}.{name}"
            if isinstance(value, torch.Tensor):
                tensors[key] = value.detach().cpu().contiguous()
            else:
                numbers[key] = value
    save_file(tensors, str(folder / _OPTIMIZER))
    return {"numbers": numbers, "param_groups": found["param_groups"]}


def save_module(path: Path, module: torch.nn.Module) -> None:
    """Write every weight and buffer of a module."""
    save_model(module, str(path))


def load_module(path: Path, module: torch.nn.Module) -> None:
    """Read what `save_module` wrote into the module."""
    load_model(module, str(path))


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write what is no tensor."""
    write_json(folder / _STATE, state)


def read_state(folder: Path) -> dict[str, Any]:
    """Read what `save_state` wrote."""
    return read_json(folder / _STATE)


def load_weights(folder: Path, model: torch.nn.Module) -> None:
    """Put the weights of a checkpoint into the model."""
    load_module(folder / _MODEL, model)


def load_optimizer(folder: Path, optimizer: Optimizer) -> None:
    """Put the optimizer's state of a checkpoint into the optimizer."""
    told = read_state(folder)["optimizer"]
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**load_file(str(folder / _OPTIMIZER)), **told["numbers"]}.items():
        parameter, _, name = key.partition(".")
        state.setdefault(int(parameter), {})[name] = value
    groups = [
        {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}
        for group in told["param_groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def random_state() -> str:
    """The state of all random generators of this process, as JSON."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return json.dumps(
        {
            "python": random.getstate(),
            "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, cached],
            "torch": _text(torch.random.get_rng_state()),
            "cuda": _text(torch.cuda.get_rng_state()) if torch.cuda.is_available() else None,
        }
    )


def restore_random_state(text: str) -> None:
    """Set all random generators of this process to what `random_state` told."""
    found = json.loads(text)
    version, internal, gauss = found["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = found["numpy"]
    state = (name, np.array(keys, dtype=np.uint32), position, has_gauss, cached)
    np.random.set_state(state)
    torch.random.set_rng_state(_tensor(found["torch"]))
    if found["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(_tensor(found["cuda"]))


def random_file(folder: Path, rank: int) -> Path:
    """Where a rank's random state is."""
    return folder / f"rng-{rank:05d}.json"


def _text(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _tensor(text: str) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype=np.uint8).copy())
