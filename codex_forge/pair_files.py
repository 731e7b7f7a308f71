"""What a pairs artifact holds, for those who read it: rows of a stem over the files of all shards.

Each shard writes its train and dev rows into files of its own (`pairs-train-00001-of-00008.jsonl`);
what belongs to the whole bank (questions, qrels) is written by the first shard alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_forge.artifact import Artifact
from codex_forge.jsonl import read_jsonl
from codex_forge.records import PARTS

CHUNKS = "chunks.jsonl"
"""The chunks of a run that has ready-made data and no corpus."""


def shard_file(stem: str, shard: int, shards: int) -> str:
    """Name of one shard's file of `stem`; without a number when there is one shard."""
    return f"{stem}.jsonl" if shards == 1 else f"{stem}-{shard:05d}-of-{shards:05d}.jsonl"


def files_of(artifact: Artifact, stem: str) -> list[str]:
    """Names of the files of `stem` in the artifact, in the order of the shards."""
    pattern = re.compile(re.escape(stem) + r"(-\d{5}-of-\d{5})?\.jsonl")
    return [name for name in artifact.files if pattern.fullmatch(name)]


def paths_of(artifact: Artifact, stem: str) -> list[Path]:
    """Local, checked copies of the files of `stem`."""
    return [artifact.path(name) for name in files_of(artifact, stem)]


def rows(artifact: Artifact, stem: str) -> Iterator[dict[str, Any]]:
    """All rows of `stem`, such as `pairs-train`, `scored-dev` or `questions-test`."""
    for path in paths_of(artifact, stem):
        yield from read_jsonl(path)


def has_questions(pairs: Artifact) -> bool:
    """Whether any part of the bank has a question."""
    return any(pairs.counts.get(f"questions_{part}") for part in PARTS)
