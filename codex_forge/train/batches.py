"""Batches for in-batch negatives: no text twice, and rows of like length together.

A text that occurs twice in a batch would be a negative of its own query. Rows of like length
leave little padding; their lengths are compared within pools of shuffled rows, so that batches
still mix the data, and the batches themselves are shuffled.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import torch
from sentence_transformers.base.sampler import DefaultBatchSampler

_POOL = 32
"""Batches whose rows are sorted by length together."""


class LengthGroupedBatches(DefaultBatchSampler):  # type: ignore[misc]
    """Batch sampler for the library's trainer; deterministic in seed and epoch."""

    def __init__(self, dataset: Any, batch_size: int, drop_last: bool, **options: Any) -> None:
        """Read lengths (in characters) and text identities of all rows once."""
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, **options)
        columns = [dataset[name] for name in dataset.column_names]
        rows = list(zip(*columns, strict=True))
        self._texts = [frozenset(map(hash, row)) for row in rows]
        self._lengths = [max(map(len, row)) for row in rows]

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self._texts), int(self.batch_size))
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the row numbers of each batch of this epoch."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self._texts), generator=generator).tolist()
        size = _POOL * self.batch_size
        batches: list[list[int]] = []
        left: list[int] = []
        for start in range(0, len(order), size):
            pool = sorted(left + order[start : start + size], key=self._lengths.__getitem__)
            filled, left = self._fill(pool)
            batches.extend(filled)
        if not self.drop_last:
            mixed = torch.randperm(len(left), generator=generator).tolist()
            rest = self._remainder([left[i] for i in mixed])
            # The trainer counts on len(self); rows over that number repeat texts and wait an epoch.
            batches.extend(islice(rest, len(self) - len(batches)))
        elif batches:
            # Rows that repeat texts fill no batch. The trainer tells by the number of steps where
            # it is when it resumes, so every epoch must have as many: some batches come twice.
            batches.extend(islice(cycle(list(batches)), max(0, len(self) - len(batches))))
        for i in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[i]

    def _remainder(self, rows: list[int]) -> Iterator[list[int]]:
        """Smaller batches without repeated texts from what filled none."""
        while rows:
            batch: list[int] = []
            seen: set[int] = set()
            for row in rows:
                if len(batch) < self.batch_size and seen.isdisjoint(self._texts[row]):
                    batch.append(row)
                    seen |= self._texts[row]
            yield batch
            taken = set(batch)
            rows = [row for row in rows if row not in taken]

    def _fill(self, pool: list[int]) -> tuple[list[list[int]], list[int]]:
        """Whole batches without repeated texts, in the order of the pool; and what is left."""
        batches = []
        while len(pool) >= self.batch_size:
            batch: list[int] = []
            seen: set[int] = set()
            rest: list[int] = []
            for position, row in enumerate(pool):
                if len(batch) == self.batch_size:
                    rest.extend(pool[position:])
                    break
                if seen.isdisjoint(self._texts[row]):
                    batch.append(row)
                    seen |= self._texts[row]
                else:
                    rest.append(row)
            if len(batch) < self.batch_size:
                break
            batches.append(batch)
            pool = rest
        return batches, pool
