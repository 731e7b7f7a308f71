"""Measurements on the dev set while a model trains: encoded by rank 0, heard by all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from codex_forge.config.train import TrainConfig
from codex_forge.stopping import stop
from codex_forge.train import ranks
from codex_forge.train.checkpoints import random_state, restore_random_state
from codex_forge.train.data.texts import DOCUMENT, QUERY
from codex_forge.train.dev.dev_log import log_measures
from codex_forge.train.dev.dev_set import DevSet
from codex_forge.train.dev.metric import Metric
from codex_forge.train.dev.validation import Measures, documents_of, measure, queries_of
from codex_forge.train.encoding import Tower
from codex_forge.train.guards import is_out_of_memory
from codex_forge.train.report.history import History

_BLOCK = 256
"""Texts that are encoded between two looks for a signal."""


class _Cut(Exception):
    """A signal came in the middle of a measurement."""


class Measuring:
    """Measures the model as it is; knows the base model's measures."""

    def __init__(
        self, dev: DevSet, metric: Metric, tower: Tower, history: History, train: TrainConfig
    ) -> None:
        """The texts of the dev set go into the tower's table, which must not be in use yet.

        The dev loss has the scale and the batch size, of all ranks, of `train` itself, in all
        stages.
        """
        self._scale, self._batch_size = train.scale, train.batch_size * ranks.world_size()
        self.metric, self._dev, self._tower, self._history = metric, dev, tower, history
        self.base: Measures | None = None
        """Before the first step of the run."""
        tower.table.add_all([*queries_of(dev)], QUERY)
        tower.table.add_all([*documents_of(dev)], DOCUMENT)

    def __call__(self, step: int, epoch: float) -> Measures | None:
        """Measures of the weights as they are now; None when a signal cut the measurement short.

        Leaves no trace in the random generators. `step` is counted in the stage.
        """
        measures = self.now()
        if measures is None:
            return None
        self._history.measured(step, measures, epoch=epoch)
        log_measures(self._history.offset + step, measures, self.metric, self.base)
        self.base = self.base or measures
        return measures

    def now(self) -> Measures | None:
        """The same, without a word in the history."""
        before = random_state()
        found = None
        if ranks.rank() == 0:
            self._tower.model.eval()
            try:
                with torch.no_grad():
                    found = measure(
                        self._dev, self._encode, scale=self._scale, batch_size=self._batch_size
                    )
            except _Cut:
                found = None
        restore_random_state(before)
        measures: Measures | None = ranks.from_first(found)
        return measures

    def state(self) -> dict[str, Any]:
        """What a checkpoint tells of it."""
        return {"base": self.base}

    def restore(self, told: dict[str, Any]) -> None:
        """Take over what a checkpoint told."""
        self.base = told["base"]

    def _encode(self, texts: Sequence[str], role: str) -> NDArray[np.float32]:
        numbers = self._tower.table.add_all(texts, role)
        order = np.argsort(self._tower.table.lengths[numbers], kind="stable")
        found: NDArray[np.float32] | None = None
        for start in range(0, len(order), _BLOCK):
            if stop.requested:
                raise _Cut
            part = order[start : start + _BLOCK]
            vectors = functional.normalize(self._vectors(numbers[part]), dim=-1)
            if found is None:
                found = np.empty((len(texts), vectors.shape[1]), dtype=np.float32)
            found[part] = vectors.cpu().numpy()
        return found if found is not None else np.zeros((0, 0), dtype=np.float32)

    def _vectors(self, numbers: NDArray[np.int32]) -> torch.Tensor:
        """Of distinct texts; in smaller pieces when memory runs out."""
        while True:
            try:
                return self._tower(numbers, counted=False)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = error.with_traceback(None)  # it holds the tensors of the failed attempt
            self._tower.memory.halve(reason)
