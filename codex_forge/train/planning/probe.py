"""`--plan`: all is made ready as for the training, a few steps are probed, and thrown away."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch

from codex_forge.artifact import Artifact
from codex_forge.job import Job
from codex_forge.train.dev.validation import documents_of, queries_of
from codex_forge.train.encoding import Collate
from codex_forge.train.planning.gauge import Gauge, memory_of
from codex_forge.train.planning.plan import Setting, plan
from codex_forge.train.planning.plan_lines import show
from codex_forge.train.ready import Ready, getting_ready
from codex_forge.train.stages import make_step

_BYTES = 4
"""Of a number in a checkpoint: the weights, and two moments of what is trained."""


def plan_training(job: Job, pairs: Artifact, base: Path) -> None:
    """Say what the training will take; writes no artifact."""
    with getting_ready(job.config, pairs, base, job.scratch) as ready:
        gauge = Gauge(ready.model.device)
        show(plan(ready.works, ready.course.batches, _Probe(ready), gauge, _setting(ready)))


class _Probe:
    """Real steps of a stage, by its number, on rows of it."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self._number = -1

    def __call__(self, number: int, rows: list[int]) -> float:
        """Seconds of one step."""
        if number != self._number:
            self._begin(number)
        batch = self._collate(rows)
        started = time.perf_counter()
        self._ready.model.train()
        loss = self._step(batch)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
        float(loss.detach())  # a GPU is done when the number is here
        return time.perf_counter() - started

    def _begin(self, number: int) -> None:
        course, rows = self._ready.course, self._ready.rows[number]
        self._number = number
        self._step = make_step(course, number)
        self._collate = Collate(rows)
        trained = [p for p in self._step.parameters() if p.requires_grad]
        # As small as a step can be: the model stays what it is for the next stage's probe.
        self._optimizer = torch.optim.AdamW(trained, lr=1e-9, weight_decay=0.0, fused=True)


def _setting(ready: Ready) -> Setting:
    course = ready.course
    train, table = course.config.train, course.tower.table
    dev = {table.add(text, "query") for text in queries_of(ready.dev)}
    dev |= {table.add(text, "document") for text in documents_of(ready.dev)}
    tokens = int(table.lengths[sorted(dev)].sum()) if dev else 0
    disk = {"checkpoint": _BYTES * (ready.parameters + 2 * ready.trainable)}
    return Setting(
        device=str(course.model.device),
        memory=memory_of(course.model.device),
        trainable=ready.trainable,
        micro_batch=course.tower.memory,
        validation=train.validation,
        dev_tokens=tokens,
        seconds=_passed(course.clock.seconds),
        disk=disk,
        disk_free=shutil.disk_usage(course.scratch).free,
    )


def _passed(seconds: dict[str, float]) -> dict[str, Any]:
    """What getting ready took; the training will take as long."""
    return {phase: spent for phase, spent in seconds.items() if spent > 0}
