"""Which rows share a batch: no text is in two of them, none is another's answer, and lengths agree.

In a batch the texts of the other rows are a row's negatives. A text that two rows share would be a
negative of its own query, and so would a text that is known to answer another row's query. Batches
depend on the seed and the epoch alone, an epoch always has the same number of them, and all ranks
together see what one process sees whose batch is as large as all of theirs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from itertools import cycle, islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from codex_forge.errors import InputError
from codex_forge.train.data.dealing import NO_BATCH, Dealer

if TYPE_CHECKING:
    from codex_forge.train.data.rows import Rows

log = logging.getLogger("codex_forge")

_POOL = 32
"""Batches whose rows are sorted by length together, at most ..."""
_POOLS = 4
"""... but no more than one in so many: the same rows would meet in every epoch."""
_STEP = 8
"""Batches smaller than asked for have a multiple of it: 2, 4 or 8 ranks then share them alike."""
_PAIR = 2
"""Columns before the mined negatives."""


class _Plan(NamedTuple):
    """An epoch: row numbers, where each batch begins and ends in them, and how many rows wait."""

    epoch: int
    rows: NDArray[np.int64]
    bounds: list[tuple[int, int]]
    waiting: int


class EpochBatches(torch.utils.data.Sampler[list[int]]):
    """This rank's row numbers of each batch of an epoch."""

    def __init__(
        self,
        rows: Rows,
        lengths: NDArray[np.int32],
        *,
        batch_size: int,
        seed: int,
        exclusive: bool,
        ranks: int = 1,
        rank: int = 0,
        drop_last: bool = False,
        group_by_length: bool = True,
        shared_negatives: bool = False,
    ) -> None:
        """`lengths`: tokens of each text, shape (texts,). `batch_size` is one rank's.

        With `exclusive`, rows of all ranks' batch share no text, and none has a text that is known
        to answer another's first column. Without it, rows are only shuffled and sorted by length.
        With `shared_negatives`, rows may share texts of the third column and those after it: no
        query is harmed by that, its loss only counts the text twice; and no row needs to wait
        because a text was mined for many.
        """
        self.batch_size, self.drop_last, self.epoch = batch_size, drop_last, 0
        self._texts = np.column_stack(list(rows.columns.values()))
        self._known = rows.known
        # A row is as long as its longest text: by their sum, short texts are padded more.
        self._lengths = lengths[self._texts].max(axis=1) if group_by_length else None
        self._seed, self._exclusive = seed, exclusive
        self._own = _PAIR if shared_negatives else self._texts.shape[1]
        self._ranks, self._rank = ranks, rank
        self._global = batch_size * ranks
        full, rest = divmod(len(self._texts), self._global)
        self._dealt = full + bool(rest)
        self._batches = full + (rest >= ranks and not drop_last)
        self._plan: _Plan | None = None
        self._told = False

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next; the first is 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of an epoch: the same in every epoch and on every rank.

        The last rows make a smaller batch, unless there are fewer of them than ranks.
        """
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        """Row numbers of each batch; all ranks' have the same size, and none is empty.

        Raises:
            InputError: no batch has a row for each rank, as rows share their texts.
        """
        plan = self._planned()
        if plan.waiting and not self._told and not self._rank:
            self._told = True
            said = (
                "  %d of %d rows wait for another epoch: they fit into no batch of this one "
                "(a smaller train.batch_size holds more)"
            )
            log.info(said, plan.waiting, len(self._texts))
        for start, end in plan.bounds:
            share = (end - start) // self._ranks
            start += self._rank * share
            yield plan.rows[start : start + share].tolist()

    @property
    def waiting(self) -> int:
        """Rows that are in no batch of the present epoch; others wait in the next."""
        return self._planned().waiting

    def _planned(self) -> _Plan:
        if self._plan is None or self._plan.epoch != self.epoch:
            self._plan = self._new_plan()
        return self._plan

    def _new_plan(self) -> _Plan:
        """Rows are shuffled, sorted by length in pools, dealt to batches; these are shuffled."""
        dice = np.random.default_rng([self._seed, self.epoch])
        order = dice.permutation(len(self._texts))
        batch_of = self._deal(order[self._by_length(order)])[order]
        # Rows of a batch are shuffled: sorted by length, one rank would have all the long ones.
        rows = order[np.argsort(batch_of, kind="stable")]
        ends = np.searchsorted(np.sort(batch_of), np.arange(NO_BATCH, self._dealt), side="right")
        sizes = np.diff(ends) // self._ranks * self._ranks
        usable = np.flatnonzero(sizes)[: self._batches]
        if self._batches and not len(usable):
            raise InputError(
                f"no batch has a row for each of {self._ranks} ranks: the rows share their texts",
                do="train in one process, or with more varied pairs",
            )
        mixed = dice.permutation(self._dealt)
        mixed = mixed[np.isin(mixed, usable)]
        # In place of batches too small for the ranks others come again: the number must hold.
        chosen = islice(cycle(mixed.tolist()), self._batches)
        bounds = [(int(ends[batch]), int(ends[batch] + sizes[batch])) for batch in chosen]
        return _Plan(self.epoch, rows, bounds, len(rows) - int(sizes[usable].sum()))

    def _by_length(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions in `order`, pool after pool, the rows of a pool from short to long."""
        positions = np.arange(len(order))
        if self._lengths is None:
            return positions
        pool = min(_POOL, max(1, self._dealt // _POOLS)) * self._global
        return np.lexsort((self._lengths[order], positions // pool))

    def _deal(self, order: NDArray[np.int64]) -> NDArray[np.int32]:
        """The batch of each row, or -1; the rows are taken in the order given."""
        if self._exclusive:
            return Dealer(self._texts, self._known, self._own).deal(order, self._sizes())
        batch_of = np.empty(len(order), dtype=np.int32)
        batch_of[order] = np.arange(len(order)) // self._global
        return batch_of

    def _sizes(self) -> list[int]:
        """Rows of each batch.

        Where texts are in more rows than there are batches, rows must wait. All batches are then
        smaller than asked for, lest the last ones be left with a row each.
        """
        count, full = self._dealt, self._global
        columns = self._texts.T[: self._own]
        most = min(int(np.bincount(column).clip(max=count).sum()) for column in columns)
        if not count or most == len(self._texts):
            return [full] * count
        step = math.lcm(math.gcd(full, _STEP), self._ranks)
        ends = np.arange(count + 1) * -(-most // step) // count
        sizes: list[int] = (np.diff(ends) * step).clip(step, full).tolist()
        return sizes
