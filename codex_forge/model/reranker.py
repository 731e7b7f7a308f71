"""Load a cross-encoder and score pairs of query and chunk with it (imports torch)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.config.sections import ModelConfig
from codex_forge.model.encoder import loading


class Reranker:
    """A cross-encoder that gives scores in (0, 1); loaded when it is first asked."""

    def __init__(self, folder: Path, config: ModelConfig, batch_size: int) -> None:
        """`folder` holds the cross-encoder; device and trust come from the run's model."""
        self._folder, self._config, self._batch_size = folder, config, batch_size
        self._model: Any = None

    def scores(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """The sigmoid of what the model says of each (query, chunk), shape (pairs,)."""
        if not pairs:
            return np.zeros(0, dtype=np.float32)
        from torch import nn

        found = self._load().predict(
            list(pairs),
            batch_size=self._batch_size,
            show_progress_bar=False,
            activation_fn=nn.Sigmoid(),
            convert_to_numpy=True,
        )
        return np.asarray(found, dtype=np.float32).reshape(len(pairs))

    def _load(self) -> Any:
        if self._model is None:
            from sentence_transformers import CrossEncoder

            with loading(self._folder):
                self._model = CrossEncoder(
                    str(self._folder),
                    device=None if self._config.device == "auto" else self._config.device,
                    trust_remote_code=self._config.trust_remote_code,
                    local_files_only=True,
                    model_kwargs={"use_safetensors": True},
                )
        return self._model
