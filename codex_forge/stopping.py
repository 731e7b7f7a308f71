"""The scheduler's wish to stop: SIGTERM and SIGUSR1 as one flag and one exception.

Most work is simply left where it is: the signal raises `Preempted` in the main thread. Work that
must not be torn (an optimizer step, the commit of an artifact) runs inside `stop.held()` and asks
`stop.requested` where it can stop. A second signal, or the same one twice, changes nothing.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from codex_forge.errors import Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_AGAIN_SECONDS = 0.02


class Stop:
    """Whether this process was asked to stop; there is one, `stop`: signals are the process's."""

    def __init__(self) -> None:
        """Nothing is asked yet, and no handler is set."""
        self.name = ""
        """Of the first signal."""
        self._at: float | None = None
        self._held = 0
        self._over = False

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self._at is not None

    @property
    def seconds_ago(self) -> float:
        """Seconds since the first signal; 0 when none came."""
        return time.monotonic() - self._at if self._at is not None else 0.0

    def listen(self) -> None:
        """Start to listen in the main thread, from a clean slate."""
        self.name, self._at, self._held, self._over = "", None, 0, False
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGALRM, self._on_alarm)
        if sys.unraisablehook != self._on_unraisable:
            self._hook_before = sys.unraisablehook
            sys.unraisablehook = self._on_unraisable

    def done(self) -> None:
        """The exception has arrived where it ends the job: from here on signals are ignored."""
        self._over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def check(self) -> None:
        """Raise `Preempted` when a signal came and nothing holds it back."""
        if not self._held:
            self.demand()

    def demand(self) -> None:
        """Raise `Preempted` when a signal came, held back or not: the work is in a safe place."""
        if self.requested and not self._over:
            raise Preempted(f"stopped by {self.name}")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold signals back; whoever holds asks `requested`, or goes on to the end."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            return
        self._at = time.monotonic()
        self.name = signal.Signals(number).name
        self.check()

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        self.check()

    def _on_unraisable(self, unraisable: Any) -> None:
        """An exception cannot leave a finalizer: Python drops it there, so it is raised again."""
        if isinstance(unraisable.exc_value, Preempted):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        else:
            self._hook_before(unraisable)


stop = Stop()
"""This process's."""
