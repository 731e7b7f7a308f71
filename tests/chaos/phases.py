"""In which part of its work a job is, told from what it has said and committed."""

from __future__ import annotations

import re
from pathlib import Path

from tests.chaos.checks import Work

_STEP = re.compile(r"  step (\d+) of \d+: loss")
_RESUMED = re.compile(r"going on from a checkpoint: step-(\d+)")
_STORED = re.compile(r"checkpoint of step (\d+) is (?:on the store|stored)")
_BLOCKS = re.compile(r"rows: (\d+) blocks were there already")

_AT_WORK = {
    "pairs": "mining",
    "train": "training",
    "embed": "embedding",
    "evaluate": "loading, evaluating",
}


def phase_of(mode: str, said: str, before: Work, now: Work) -> str:
    """The phase that a run is in, which has written `said` and found `before` on the store."""
    lines = said.splitlines()
    last = lines[-1] if lines else ""
    if re.search(rf" {mode}: [\d.]+ s$", last):
        return "ending"
    if "wrote " in said or "precision:" in said or now.versions - before.versions:
        return "publishing"
    if not now.leases - before.leases:
        return "start-up"
    has_begun = {
        "pairs": "entities" in said,
        "train": "  step " in said or "left out" in said,
        "embed": bool(now.blocks - before.blocks or _BLOCKS.search(said)),
        "evaluate": True,
    }
    return _AT_WORK[mode] if has_begun[mode] else "loading"


def steps_taken(said: str) -> int:
    """The last step that a training has logged; 0 when it has taken none."""
    return max(map(int, _STEP.findall(said)), default=0)


def step_resumed_from(said: str) -> int | None:
    """Where a training began; None when it did not come so far."""
    if found := _RESUMED.search(said):
        return int(found[1])
    return 0 if "base model" in said else None


def step_promised(said: str) -> int:
    """The last checkpoint that a training has called stored; 0 when none."""
    return max(map(int, _STORED.findall(said)), default=0)


def blocks_found(said: str) -> int | None:
    """How many blocks an embedding says it need not make again; None when it says nothing."""
    found = _BLOCKS.search(said)
    return int(found[1]) if found else None


def numbers_of_blocks_in(temporary: Path) -> frozenset[int]:
    """Blocks that a killed embedding had made, and not yet committed when it was killed."""
    return frozenset(int(path.stem) for path in temporary.glob("*/rows-*/*.parquet"))
