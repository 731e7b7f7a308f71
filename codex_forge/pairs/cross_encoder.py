"""A cross-encoder's word on mined negatives: what it scores like the positive is no negative.

A cross-encoder reads query and chunk together and is the more exact judge (Nogueira and Cho, 2019);
as a filter of mined negatives it is the denoising of RocketQA (Qu et al., 2021).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.config import RunConfig

Row = dict[str, Any]
_BATCH = 64

_OF_A_NEGATIVE = (
    "negatives",
    "negative_ids",
    "negative_sources",
    "negative_similarities",
    "negative_hardness",
)


class CrossEncoderGuard:
    """Drops negatives that score too near to their positive."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        """`folder` holds the cross-encoder."""
        from codex_forge.model.reranker import Reranker

        self._margin = config.pairs.negatives.cross_encoder_margin
        self._reranker = Reranker(folder, config.model, _BATCH)
        self._stopped = 0

    def passed(self, rows: Sequence[Row], most: int) -> Iterator[Row]:
        """The rows with at most `most` of those negatives that pass."""
        texts = [
            (row["query"], text) for row in rows for text in (row["positive"], *row["negatives"])
        ]
        scores = self._reranker.scores(texts)
        start = 0
        for row in rows:
            end = start + 1 + len(row["negatives"])
            yield self._cut(row, scores[start:end], most)
            start = end

    def taken(self) -> int:
        """How many negatives were stopped since this was last asked."""
        stopped, self._stopped = self._stopped, 0
        return stopped

    def _cut(self, row: Row, scores: NDArray[np.float32], most: int) -> Row:
        bound = (1.0 - self._margin) * float(scores[0])
        fine = [i for i, score in enumerate(scores[1:]) if float(score) <= bound]
        self._stopped += len(row["negatives"]) - len(fine)
        return {**row, **{key: [row[key][i] for i in fine[:most]] for key in _OF_A_NEGATIVE}}
