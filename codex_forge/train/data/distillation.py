"""What the teachers of a distillation say: vectors of texts, and labels of rows.

Their vectors of all texts were computed before (`teachers`); here they are looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.config.train import Objective

if TYPE_CHECKING:
    import torch

_BLOCK = 4096
"""Rows in memory together."""

Halves = NDArray[np.float16]
Floats = NDArray[np.float32]


class Teacher:
    """One teacher, or several as one, whose unit vectors are looked up by number of a text.

    Vectors of equal width are averaged by weight. Of different widths they stand side by side,
    each times the square root of its weight: the cosine of two such vectors is the average of the
    teachers' cosines.
    """

    def __init__(self, vectors: Sequence[Halves], weights: Sequence[float] = ()) -> None:
        """`vectors` are what `teacher_vectors` gave; weights are equal when none are given."""
        shares = np.array(weights or [1.0] * len(vectors), dtype=np.float32)
        self._vectors, self._weights = list(vectors), shares / shares.sum()
        widths = [array.shape[1] for array in vectors]
        self._averages = len(set(widths)) == 1
        self.width = widths[0] if self._averages else sum(widths)
        """Length of a vector."""

    def look_up(self, numbers: NDArray[Any] | Sequence[int]) -> Floats:
        """Unit vectors of texts, shape (texts, width), in the order of the numbers."""
        at = np.asarray(numbers, dtype=np.int64)
        found = [_unit(vectors[at].astype(np.float32)) for vectors in self._vectors]
        if self._averages:
            return _unit(sum(w * own for w, own in zip(self._weights, found, strict=True)))
        beside = [np.sqrt(w) * own for w, own in zip(self._weights, found, strict=True)]
        return np.concatenate(beside, axis=1)

    def of(self, numbers: NDArray[Any] | Sequence[int]) -> torch.Tensor:
        """The same, as a tensor on the CPU: the labels of `distill_embedding`."""
        import torch

        return torch.from_numpy(self.look_up(numbers))


def _unit(vectors: Any) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return found


def labels_for(
    objective: Objective, teacher: Teacher, columns: Mapping[str, NDArray[np.int32]]
) -> Floats | None:
    """What the teacher says of the rows of a stage: labels of its loss.

    Args:
        objective: `distill_margin_mse`: how much nearer the positive is to the query than each
            negative, shape (rows, negatives); `distill_kl`: the cosines of the query with the
            positive and with each negative, shape (rows, 1 + negatives). Nothing for others:
            `distill_embedding` looks up the vectors of its texts.
        teacher: whose word counts.
        columns: numbers of texts: the query's, the positive's, and each negative's.
    """
    if objective not in ("distill_margin_mse", "distill_kl"):
        return None
    anchors, *others = columns.values()
    cosines = np.empty((len(anchors), len(others)), dtype=np.float32)
    for start in range(0, len(anchors), _BLOCK):
        rows = slice(start, start + _BLOCK)
        queries = teacher.look_up(anchors[rows])
        for column, numbers in enumerate(others):
            cosines[rows, column] = (queries * teacher.look_up(numbers[rows])).sum(axis=1)
    return cosines[:, :1] - cosines[:, 1:] if objective == "distill_margin_mse" else cosines
