"""What a run makes again of what an earlier one had done; what was promised must not be lost."""

from __future__ import annotations

from typing import Protocol

from tests.chaos.checks import Broken, Work
from tests.chaos.phases import (
    blocks_found,
    numbers_of_blocks_in,
    step_promised,
    step_resumed_from,
    steps_taken,
)
from tests.chaos.processes import Process


class Struck(Protocol):
    """A run that was sent a signal."""

    signal: str
    repeated: int | None


class Ledger:
    """Follows the runs of one campaign."""

    def __init__(self, mode: str) -> None:
        """Nothing is done yet."""
        self._mode = mode
        self._pending: Struck | None = None
        self._taken = self._promised = self._committed = 0

    def note(self, job: Process, work: Work, struck: Struck | None) -> None:
        """A run is over; `work` is what is on the store now.

        Raises:
            Broken: it did not go on from what was committed.
        """
        if self._mode == "train":
            self._note_steps(job.said, struck)
        if self._mode == "embed":
            self._note_blocks(job, work, struck)

    def _note_steps(self, said: str, struck: Struck | None) -> None:
        start = step_resumed_from(said)
        if start is None:
            return
        if start < self._promised:
            raise Broken(f"begins at step {start}; the checkpoint of {self._promised} was stored")
        if self._pending is not None:
            self._pending.repeated = max(0, self._taken - start)
        self._taken = max(start, steps_taken(said))
        self._promised = max(self._promised, step_promised(said))
        self._pending = struck

    def _note_blocks(self, job: Process, work: Work, struck: Struck | None) -> None:
        found = blocks_found(job.said)
        if found is not None and found < self._committed:
            raise Broken(f"finds {found} blocks; {self._committed} were committed")
        self._committed = len(work.blocks)
        if struck is not None and struck.signal == "SIGKILL":
            struck.repeated = len(numbers_of_blocks_in(job.temporary) - work.blocks)
