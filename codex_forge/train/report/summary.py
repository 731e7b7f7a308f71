"""What a training ends with: losses, measures, speed, time by phase and memory.

A resumed run's totals are those of the whole run: the clock and the tally go through checkpoints.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

from codex_forge.train.report.summary_lines import lines_of

log = logging.getLogger("codex_forge")

_MEBI = 2**20


class Clock:
    """Wall seconds by phase, of one thread; phases may nest: inner time is not the outer's."""

    def __init__(self) -> None:
        """Nothing has taken any time yet."""
        self._seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._mark = 0.0

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time of the block for a phase, such as `train` or `validate`."""
        self._settle()
        self._open.append(phase)
        try:
            yield
        finally:
            self._settle()
            self._open.pop()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase, until now."""
        self._settle()
        return dict(self._seconds)

    def state(self) -> dict[str, float]:
        """Seconds by phase, for a checkpoint."""
        return self.seconds

    def restore(self, state: Mapping[str, float]) -> None:
        """Put the time of the run that this one continues before that of this process."""
        for phase, seconds in state.items():
            self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds

    def _settle(self) -> None:
        now = time.monotonic()
        if self._open:
            phase = self._open[-1]
            self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._mark
        self._mark = now


@dataclass
class Tally:
    """What has gone through the model in training; validation does not count."""

    rows: int = 0
    """Rows that were trained on, each time."""
    asked: int = 0
    """Texts that these rows hold: what would be encoded row by row."""
    texts: int = 0
    """Texts that were encoded."""
    tokens: int = 0
    """Of the encoded texts, without padding."""
    padded: int = 0
    """Of the encoded texts, with padding."""

    def add(
        self, *, rows: int = 0, asked: int = 0, texts: int = 0, tokens: int = 0, padded: int = 0
    ) -> None:
        """Count more."""
        self.rows += rows
        self.asked += asked
        self.texts += texts
        self.tokens += tokens
        self.padded += padded

    def add_up(self, state: Mapping[str, int]) -> None:
        """Count what another rank has counted, as its `state` tells."""
        self.add(**state)

    @property
    def padding_share(self) -> float | None:
        """Share of the computed tokens that are padding; None when nothing was computed."""
        return round(1 - self.tokens / self.padded, 4) if self.padded else None

    @property
    def texts_saved(self) -> float | None:
        """Texts of the rows for each that was encoded: 1.5 saves a third."""
        return round(self.asked / self.texts, 3) if self.texts else None

    def state(self) -> dict[str, int]:
        """All counts, for a checkpoint or another rank."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def restore(self, state: Mapping[str, int]) -> None:
        """Start from the counts of the run that this one continues."""
        for name, count in state.items():
            setattr(self, name, count)

    def since(self, before: Mapping[str, int]) -> dict[str, int]:
        """What was counted since `before`, which is an earlier `state`."""
        return {name: count - before[name] for name, count in self.state().items()}


@dataclass(frozen=True)
class RunFacts:
    """What does not come from the stages."""

    device: str
    precision: str
    ranks: int
    trainable_parameters: int
    parameters: int
    peak_memory_mib: int
    micro_batch: Mapping[str, Any]
    """`MicroBatch.state()`."""
    resumed_from_step: int | None = None
    checkpoints: int = 0
    """Stored by this process."""


def summarise(
    stages: Sequence[Mapping[str, Any]],
    *,
    clock: Clock,
    tally: Tally,
    facts: RunFacts,
    planned: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The closing summary.

    Args:
        stages: what each stage ended with: `stage`, `objective`, `rows`, `steps`, `epochs`,
            `first_loss`, `final_loss`, `best_loss`, `seconds`, `best` (`Best.closing`, or None),
            and, for its own speed, `tally` (`Tally.since`).
        clock: seconds by phase.
        tally: of all ranks.
        facts: the rest.
        planned: `steps`, `tokens`, `padding_share`, `seconds` as they were foretold.

    Losses of the whole are those of the first and of the last stage; losses of different
    objectives cannot be compared. Speed is that of the phase `train`.
    """
    phases = {name: round(seconds, 2) for name, seconds in clock.seconds.items()}
    training = phases.get("train", 0.0)
    found = {
        "steps": sum(stage["steps"] for stage in stages),
        "epochs": round(sum(stage["epochs"] for stage in stages), 3),
        "first_loss": stages[0]["first_loss"],
        "final_loss": stages[-1]["final_loss"],
        "best_loss": stages[-1]["best_loss"],
        "dev": _dev(stages),
        "seconds": round(sum(phases.values()), 1),
        **_speed(tally, training),
        "seconds_by_phase": phases,
        "seconds_for_checkpoints": phases.get("checkpoint", 0.0),
        **asdict(facts),
        "stages": [_stage(stage) for stage in stages],
    }
    return {**found, "planned": dict(planned)} if planned else found


def _stage(stage: Mapping[str, Any]) -> dict[str, Any]:
    if "tally" not in stage:
        return dict(stage)
    return {**stage, **_speed(Tally(**stage["tally"]), stage["seconds"])}


def _speed(tally: Tally, seconds: float) -> dict[str, Any]:
    """Of real pairs and real tokens."""
    return {
        "pairs_per_second": _rate(tally.rows, seconds),
        "tokens_per_second": _rate(tally.tokens, seconds),
        "tokens": tally.tokens,
        "padding_share": tally.padding_share,
        "texts_saved": tally.texts_saved,
    }


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 1) if seconds > 0 else None


def _dev(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The last stage's best measurement, beside that of the base model."""
    measured = [stage["best"] for stage in stages if stage.get("best")]
    if not measured:
        return None
    last = measured[-1]
    return {
        "metric": last["metric"],
        "base": measured[0]["start"],
        "best": last["best"],
        "best_step": last["best_step"],
    }


def peak_memory_mib() -> int:
    """MiB: of the GPU when there is one, else the resident set of this process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated() / _MEBI)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def log_summary(summary: Mapping[str, Any]) -> None:
    """Say the summary."""
    for line in lines_of(summary):
        log.info("  %s", line)
