"""What a training will take, without doing it: steps, tokens, time, memory, disk (`--plan`).

Steps and tokens are counted from the batches. A few real steps are measured, on batches from short
to long; what is made of them is thrown away, and no artifact is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch

from codex_forge.config.train import ValidationConfig
from codex_forge.train.guards import MicroBatch, is_out_of_memory
from codex_forge.train.planning.forecast import StageWork, planned_of
from codex_forge.train.planning.plan_warnings import warnings_of

Probe = Callable[[int, list[int]], float]
"""Takes one real step of a stage (by its number, from 0) on a batch of rows; returns seconds."""

_SHARES = (0.1, 0.3, 0.6, 0.9)
"""Of a stage's batches, by their tokens: these are probed. The first is not counted."""
_FORWARD = 1 / 3
"""Of a training step's time; the backward pass takes twice as long."""
_BYTES_A_TRAINED = 12
"""Gradient and the two moments of AdamW, in 32 bits."""
_MARGIN = 0.1
"""Two runs of the same steps differ by so much."""


class Taken(Protocol):
    """Bytes of memory (`gauge.Gauge`)."""

    base: int

    @property
    def peak(self) -> int:
        """The most since the beginning."""


@dataclass(frozen=True)
class Setting:
    """Where the training would run, and what comes to it beside its steps."""

    device: str
    memory: int
    """Bytes that the device has."""
    trainable: int
    """Parameters that are trained."""
    micro_batch: MicroBatch
    validation: ValidationConfig
    dev_tokens: int = 0
    """With padding, of one measurement on dev data; 0 = nothing is measured."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By phase: what making this plan has done as the training will (`tokenize`)."""
    once: Mapping[str, float] = field(default_factory=dict)
    """Tokens that run forward once, by phase (`frozen`, `teacher`); those of a larger model count
    for more."""
    disk: Mapping[str, int] = field(default_factory=dict)
    """Bytes, by what they are for."""
    disk_free: int = 0


def plan(
    works: Sequence[StageWork],
    batches: Sequence[Iterable[list[int]]],
    probe: Probe,
    taken: Taken,
    setting: Setting,
) -> dict[str, Any]:
    """What the training will take.

    Args:
        works: what each stage does, as counted.
        batches: the batches of each stage's first epoch, as row numbers; read again for the probe.
        probe: takes a step.
        taken: memory, measured from before the probe on.
        setting: the rest.
    """
    paces = _paces(works, batches, probe)
    stages = [
        _stage(number, work, pace, setting)
        for number, (work, pace) in enumerate(zip(works, paces, strict=True))
    ]
    ends = {key: _seconds(stages, paces, setting, key) for key in ("low", "about", "high")}
    found = {
        **planned_of(works),
        "stages": stages,
        "seconds": {key: round(sum(phases.values()), 1) for key, phases in ends.items()},
        "seconds_by_phase": {phase: round(s, 1) for phase, s in ends["about"].items()},
        "memory": _memory(works, paces, taken, setting),
        "disk": {**setting.disk, "free": setting.disk_free},
    }
    return {**found, "warnings": warnings_of(works, found)}


def spread(padded: Sequence[int] | np.ndarray[Any, Any]) -> list[int]:
    """The numbers of the batches to probe, from short to long; at most four."""
    order = np.argsort(np.asarray(padded), kind="stable")
    return [int(order[int(share * len(order))]) for share in _SHARES] if len(order) else []


@dataclass(frozen=True)
class _Pace:
    """What the probe of a stage told; `seconds` are of a token."""

    low: float = 0.0
    about: float = 0.0
    high: float = 0.0
    longest: int = 0
    """Tokens of the largest batch that was probed."""
    fits: bool = True


def _paces(
    works: Sequence[StageWork], batches: Sequence[Iterable[list[int]]], probe: Probe
) -> list[_Pace]:
    found = []
    for number, (work, own) in enumerate(zip(works, batches, strict=True)):
        chosen = spread(work.padded)
        numbers = _picked(own, set(chosen))
        try:
            taken = [(int(work.padded[i]), probe(number, numbers[i])) for i in chosen]
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            found.append(_Pace(fits=False))
        else:
            found.append(_pace(taken))
    return found


def _picked(batches: Iterable[list[int]], wanted: set[int]) -> dict[int, list[int]]:
    last = max(wanted, default=-1) + 1
    return {i: numbers for i, numbers in enumerate(islice(batches, last)) if i in wanted}


def _pace(taken: Sequence[tuple[int, float]]) -> _Pace:
    """From (tokens, seconds) of the probed steps; the first has warmed up what it needs."""
    if not taken:
        return _Pace()
    counted = taken[1:] or taken
    each = [seconds / max(1, tokens) for tokens, seconds in counted]
    about = sum(s for _, s in counted) / max(1, sum(tokens for tokens, _ in counted))
    low, high = min(*each, about), max(*each, about)
    longest = max(tokens for tokens, _ in taken)
    return _Pace(low * (1 - _MARGIN), about, high * (1 + _MARGIN), longest)


def _stage(number: int, work: StageWork, pace: _Pace, setting: Setting) -> dict[str, Any]:
    tokens, padded = int(work.tokens.sum()), int(work.padded.sum())
    total = work.total(work.padded)
    return {
        "stage": work.stage.title,
        "objective": work.stage.objective,
        "rows": work.rows,
        "left_out": dict(work.left_out),
        "distinct_texts": work.distinct,
        "batches": len(work.padded),
        "steps": work.steps,
        "epochs": round(work.epochs, 3),
        "tokens_an_epoch": tokens,
        "padded_an_epoch": padded,
        "padding_share": round(1 - tokens / padded, 4) if padded else None,
        "longest_batch": int(work.padded.max(initial=0)),
        "seconds": {key: getattr(pace, key) * total for key in ("low", "about", "high")},
        "measurements": _measurements(number, work, setting),
    }


def _measurements(number: int, work: StageWork, setting: Setting) -> int:
    """On dev data: of the base model, and in the stage."""
    if not setting.dev_tokens or not work.steps:
        return 0
    every = setting.validation.every_steps or work.steps_an_epoch
    return -(-work.steps // every) + (number == 0)


def _seconds(
    stages: Sequence[Mapping[str, Any]], paces: Sequence[_Pace], setting: Setting, key: str
) -> dict[str, float]:
    """By phase."""
    forward = [_FORWARD * getattr(pace, key) for pace in paces]
    found = dict(setting.seconds)
    for phase, tokens in setting.once.items():
        found[phase] = found.get(phase, 0.0) + tokens * max(forward, default=0.0)
    found["train"] = sum(stage["seconds"][key] for stage in stages)
    found["validate"] = sum(
        stage["measurements"] * setting.dev_tokens * pace
        for stage, pace in zip(stages, forward, strict=True)
    )
    return found


def _memory(
    works: Sequence[StageWork], paces: Sequence[_Pace], taken: Taken, setting: Setting
) -> dict[str, Any]:
    """What was measured, and what the largest batch will come to.

    Activations grow with a batch's tokens; with `train.cached` with those of a micro-batch alone.
    Weights, gradients and moments do not grow.
    """
    peak, most = taken.peak, setting.micro_batch
    fixed = taken.base + _BYTES_A_TRAINED * setting.trainable
    longest = max((int(work.padded.max(initial=0)) for work in works), default=0)
    probed = max((pace.longest for pace in paces), default=0)
    if most.cached:
        longest, probed = min(longest, most.tokens), min(probed, most.tokens)
    growth = longest / probed if probed else 1.0
    return {
        "device": setting.device,
        "total": setting.memory,
        "before": taken.base,
        "probed": peak,
        "longest_batch": round(min(fixed, peak) + max(0, peak - fixed) * max(1.0, growth)),
        "fits": all(pace.fits for pace in paces),
        "micro_batch": most.state(),
    }
