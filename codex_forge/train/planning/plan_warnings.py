"""What of a plan will not do, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codex_forge.train.planning.forecast import StageWork

_USABLE = 0.9
"""Of a device's memory; the rest are fragments and what is not counted."""
_MANY_LEFT_OUT = 0.2
_CHOSEN = ("other ", "not drawn")
"""Pairs left out for such reasons are left out on purpose."""


def warnings_of(works: Sequence[StageWork], plan: Mapping[str, Any]) -> list[str]:
    """Stages without a step, pairs that were lost, too little memory or disk."""
    return [
        *(said for work in works for said in _about_rows(work)),
        *_about_memory(plan["memory"]),
        *_about_disk(plan["disk"]),
    ]


def _about_rows(work: StageWork) -> list[str]:
    title, said = work.stage.title, []
    if not work.steps:
        said.append(
            f"stage {title} has no step: its {work.rows} rows fill no batch of "
            f"{work.stage.batch_size}; lower train.batch_size, or widen its data"
        )
    lost = {why: n for why, n in work.left_out.items() if not why.startswith(_CHOSEN)}
    if sum(lost.values()) > _MANY_LEFT_OUT * (work.rows + sum(lost.values())):
        reasons = ", ".join(f"{count:,} {why}" for why, count in lost.items())
        said.append(f"stage {title} leaves out many pairs: {reasons}")
    return said


def _about_memory(memory: Mapping[str, Any]) -> list[str]:
    said = []
    need, total = memory["longest_batch"], memory["total"]
    halved = memory["micro_batch"]["halved"]
    if not memory["fits"]:
        said.append(
            f"the probe ran out of memory ({gib(total)} on {memory['device']}); set "
            "train.cached=true, or lower train.batch_size or model.max_seq_length"
        )
    elif need > _USABLE * total:
        said.append(
            f"the largest batch needs about {gib(need)}, and {memory['device']} has {gib(total)}; "
            "set train.cached=true, or lower train.batch_size or model.max_seq_length"
        )
    if halved:
        said.append(
            f"memory ran out with {halved[0][0]:,} tokens together; set train.cached=true and "
            f"train.micro_batch_tokens={memory['micro_batch']['tokens']} to be spared that"
        )
    return said


def _about_disk(disk: Mapping[str, int]) -> list[str]:
    needed = {what: size for what, size in disk.items() if what != "free"}
    need = sum(needed.values())
    if need <= disk["free"]:
        return []
    parts = ", ".join(f"{what} {gib(size)}" for what, size in needed.items())
    return [
        f"the disk has {gib(disk['free'])} free, and {gib(need)} are needed ({parts}); "
        "lower train.frozen_cache_gib, or set TMPDIR to a larger disk"
    ]


def gib(size: int) -> str:
    """Bytes in GiB, or in MiB when they are few."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"
