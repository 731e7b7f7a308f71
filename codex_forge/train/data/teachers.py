"""The teachers' vectors of every text of a training: computed once, and kept in files.

A file holds one teacher's unit vectors as float16, in the order of the texts. Its name tells what
it was made from, so that a run that goes on, or another one, uses it without loading the teacher.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from codex_forge.artifact import hash_json
from codex_forge.config import RunConfig
from codex_forge.config.sections import ModelConfig
from codex_forge.errors import InputError, TryAgain
from codex_forge.model import locate
from codex_forge.model.locate import BaseModel
from codex_forge.train import ranks
from codex_forge.train.layers.kept import KeptFile

if TYPE_CHECKING:
    from codex_forge.model.encoder import Encoder

log = logging.getLogger("codex_forge")

_BLOCK = 512
"""Texts that are encoded together; a job that is asked to stop stops after them."""
_BYTES = 2

Halves = NDArray[np.float16]
Floats = NDArray[np.float32]


class Texts(Protocol):
    """Of a `TextTable`, what teachers read."""

    @property
    def digest(self) -> str:
        """Hash of all texts and roles in their order."""

    def __len__(self) -> int: ...

    def text(self, number: int) -> str:
        """A text, without a prompt."""

    def role(self, number: int) -> str:
        """`query` or `document`."""


def find_teachers(config: RunConfig) -> list[BaseModel]:
    """Where the teachers are, and what an artifact records of them; torch-free.

    Raises:
        ConfigError: one of them is not here; says how to get it.
    """
    trusted = config.model.trust_remote_code
    return [
        locate.locate(
            ModelConfig(base=base, trust_remote_code=trusted), "train.distillation.teachers"
        )
        for base in config.train.distillation.teachers
    ]


def teacher_vectors(
    config: RunConfig, table: Texts, folder: Path, teachers: Sequence[BaseModel] | None = None
) -> list[Halves]:
    """Each teacher's unit vectors of all texts, shape (texts, its width), mapped from files.

    All ranks must call it.

    Args:
        config: the run's; `train.distillation` says which teachers and prompts.
        table: the texts.
        folder: holds the files; made when it is not there.
        teachers: what `find_teachers` found, when that is known already.

    Raises:
        ConfigError: a teacher is not here.
        InputError: a teacher gives numbers that are none.
        TryAgain: there is no room for the files.
        Preempted: a signal came.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = find_teachers(config) if teachers is None else teachers
    return [_vectors(config, table, folder, teacher) for teacher in found]


def _vectors(config: RunConfig, table: Texts, folder: Path, teacher: BaseModel) -> Halves:
    said, name = config.train.distillation, teacher.identity.name
    key = hash_json([teacher.identity.digest, said.query_prompt, said.document_prompt])
    stem = f"teacher-{key[:16]}-{table.digest[:16]}"
    path = next((p for p in folder.glob(f"{stem}-*.f16") if _is_whole(p, table)), None)
    is_missing = any(ranks.any_of(path is None))
    if path is None or is_missing:
        path = _made(config, table, folder / stem, teacher)
        _free()
    else:
        log.info("  teacher %s: vectors of %d texts are there", name, len(table))
    shape = (len(table), _width(path))
    vectors: Halves = np.memmap(path, np.float16, mode="r", shape=shape)
    return vectors


def _width(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _is_whole(path: Path, table: Texts) -> bool:
    return path.stat().st_size == _BYTES * len(table) * _width(path)


def _made(config: RunConfig, table: Texts, stem: Path, teacher: BaseModel) -> Path:
    """Encode all texts into a file, block by block; ranks that see the folder share the work."""
    encoder = _load(config, teacher)
    row = _BYTES * encoder.dimension
    path = stem.with_name(f"{stem.name}-{encoder.dimension}.f16")
    starts = range(0, len(table), _BLOCK)

    def block(number: int) -> memoryview:
        texts = range(starts[number], min(starts[number] + _BLOCK, len(table)))
        vectors = _finite(_encoded(encoder, table, texts), teacher)
        return memoryview(vectors.astype(np.float16).tobytes())

    file = KeptFile(path, row * len(table), math.inf)
    what = f"blocks of {_BLOCK} texts read by teacher {teacher.identity.name}"
    if not file.provide([row * start for start in starts], block, what):
        raise TryAgain(
            f"the vectors of teacher {teacher.identity.name} cannot be kept",
            where=path.parent,
            do=f"make room for {row * len(table) / 2**30:.1f} GiB and run again",
        )
    log.info(
        "  teacher %s: vectors of %d texts, %d numbers each",
        teacher.identity.name,
        len(table),
        encoder.dimension,
    )
    return path


def _encoded(encoder: Encoder, table: Texts, numbers: range) -> Floats:
    """Unit vectors of texts, each with the prompt of its role, shape (texts, dimension)."""
    vectors = np.empty((len(numbers), encoder.dimension), dtype=np.float32)
    for role, encode in (("query", encoder.encode_query), ("document", encoder.encode_document)):
        own = [row for row, number in enumerate(numbers) if table.role(number) == role]
        if own:
            vectors[own] = encode([table.text(numbers[row]) for row in own])
    return vectors


def _load(config: RunConfig, teacher: BaseModel) -> Encoder:
    """The teacher, with the config's prompts when it brings none of its own."""
    from codex_forge.model.encoder import Encoder, load_base

    said, brings = config.train.distillation, bool(locate.prompts(teacher.folder))
    given = ModelConfig(
        base=teacher.identity.name,
        query_prompt="" if brings else said.query_prompt,
        document_prompt="" if brings else said.document_prompt,
        trust_remote_code=config.model.trust_remote_code,
        device=config.model.device,
    )
    return Encoder(load_base(teacher.folder, given))


def _finite(vectors: Floats, teacher: BaseModel) -> Floats:
    if not np.isfinite(vectors).all():
        raise InputError(
            "this teacher gives vectors with numbers that are not finite",
            where=f"train.distillation.teachers {teacher.identity.name!r}",
            do="take another teacher",
        )
    return vectors


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
