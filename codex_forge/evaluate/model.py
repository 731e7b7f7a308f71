"""The model that is evaluated, loaded when it is first asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from codex_forge.evaluate.given import Given
from codex_forge.job import Job
from codex_forge.model.in_use import ModelInUse, load_encoder, model_of

if TYPE_CHECKING:
    from codex_forge.model.in_use import EncoderInUse


class Model:
    """The model that made the vectors, or the one that scored pairs judge alone."""

    def __init__(self, job: Job, found: Given, alone: ModelInUse | None) -> None:
        """Without an embed artifact and without `alone` there is none to ask for.

        Raises:
            InputError: another model than is there now made the vectors.
        """
        self._config = job.config
        self._used = alone
        if found.embedded is not None:
            self._used = model_of(found.embedded, job.config, job.open)

    @property
    def name(self) -> str:
        """What reports call it; empty for BM25."""
        return self._used.identity.name if self._used else ""

    @cached_property
    def encoder(self) -> EncoderInUse:
        """The loaded model."""
        if self._used is None:
            raise ValueError("BM25 has no model")
        return load_encoder(self._used, self._config)
