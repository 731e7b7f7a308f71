"""All that stands before the first step: model, texts, rows, what is frozen, and teachers."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from codex_forge.artifact import Artifact
from codex_forge.config import RunConfig
from codex_forge.config.train import TrainConfig
from codex_forge.model.encoder import load_base
from codex_forge.model.lasting import CACHE_VARIABLE
from codex_forge.train import ranks
from codex_forge.train.checkpoints import Keeper
from codex_forge.train.data.distillation import Teacher, labels_for
from codex_forge.train.data.rows import Rows, read_rows
from codex_forge.train.data.teachers import teacher_vectors
from codex_forge.train.data.texts import TextTable
from codex_forge.train.dev.dev_reading import read_dev_set
from codex_forge.train.dev.dev_set import DevSet, log_dev_set
from codex_forge.train.dev.measuring import Measuring
from codex_forge.train.dev.metric import metric_of
from codex_forge.train.dev.validation import Measures
from codex_forge.train.encoding import MICRO_BATCH, Collate, Tower
from codex_forge.train.guards import MicroBatch
from codex_forge.train.layers import anatomy as layers
from codex_forge.train.layers import dropout, lora, words
from codex_forge.train.layers.activations import ActivationCache
from codex_forge.train.layers.frozen import Frozen
from codex_forge.train.planning.forecast import Forecast, StageWork, count_work, planned_of
from codex_forge.train.report.history import History
from codex_forge.train.report.reporting import Reporter
from codex_forge.train.report.summary import Clock, Tally
from codex_forge.train.stages import Course, make_batches

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger("codex_forge")

_PROBED = 8
"""Texts whose vectors must stay the same when adapters are merged."""


@dataclass
class Ready:
    """A training that could begin."""

    course: Course
    rows: list[Rows]
    """Of each stage."""
    works: list[StageWork]
    """What each stage does, as counted."""
    trainable: int
    parameters: int
    frozen: Frozen | None
    dev: DevSet

    @property
    def planned(self) -> dict[str, Any]:
        """What was foretold, for the summary. All ranks must ask for it."""
        found = planned_of(self.works)
        found["tokens"] = sum(ranks.from_all(found["tokens"]))
        return {**found, "seconds": self.course.forecast.seconds}

    @property
    def model(self) -> SentenceTransformer:
        """The model that trains."""
        return self.course.model

    def measures(self) -> tuple[Measures, Measures] | None:
        """Of the base model and of the model as it is now on dev data; None without any."""
        measuring = self.course.measuring
        if measuring is None or measuring.base is None:
            return None
        with self.course.clock("validate"):
            found = measuring.now()
        return None if found is None else (measuring.base, found)

    def make_whole(self) -> None:
        """Put frozen layers back and merge adapters: the model is as it will be saved."""
        _take_back(self.model)
        if self.frozen is not None:
            self.frozen.restore()
            self.course.tower.cache = None
        if self.course.config.train.lora is not None:
            table = self.course.tower.table
            lora.merge(self.model, [table.text(i) for i in range(min(_PROBED, len(table)))])
        self.model.eval()


@contextmanager
def getting_ready(
    config: RunConfig,
    pairs: Artifact,
    base: Path,
    scratch: Path,
    *,
    keeper: Keeper | None = None,
    reporter: Reporter | None = None,
) -> Iterator[Ready]:
    """Make all ready for the first step.

    Args:
        config: the run's.
        pairs: what to train on.
        base: the base model's folder.
        scratch: where files of the run go.
        keeper: of checkpoints; rank 0's.
        reporter: hears the metric history.

    Raises:
        ConfigError: the config asks for what this model or these pairs cannot give.
        InputError: nothing is left to train on.
    """
    clock, tally, history = Clock(), Tally(), History(reporter)
    with clock("load"):
        model = load_base(base, config.model)
    log.info("  base model %s on %s", config.model.base, model.device)
    with clock("tokenize"):
        table = TextTable(model, scratch)
        stages = config.train.resolved_stages
        rows = [read_rows(pairs, stage, table, config.seed) for stage in stages]
        dev = read_dev_set(pairs, config.train.validation, config.seed)
        metric = metric_of(config.train.validation, dev)
        longest = int(table.lengths.max())
    frozen = _prepare(model, config)
    trainable, parameters = layers.parameters(model)
    log.info("  parameters: %s trainable of %s", f"{trainable:,}", f"{parameters:,}")
    memory = _memory(config.train, model, longest)
    precision = precision_of(config.train, model.device)
    tower = Tower(model, table, memory, precision=precision, tally=tally)
    measuring = None
    if metric is not None:
        log_dev_set(dev)
        history.metric = metric
        with clock("tokenize"):
            measuring = Measuring(dev, metric, tower, history, config.train)
    with clock("teacher"):
        rows, teacher = _taught(config, rows, table, _kept_in(scratch))
    if frozen is not None:
        with clock("frozen"):
            tower.cache = _cache(config.train, tower, frozen, _kept_in(scratch))
    if config.train.compile:
        tower.run = torch.compile(model, dynamic=True)
    lengths = table.lengths
    batches = [make_batches(config, i, own, lengths) for i, own in enumerate(rows)]
    works = [
        count_work(stage, own, each, Collate(own), tower.cut, lengths)
        for stage, own, each in zip(stages, rows, batches, strict=True)
    ]
    planned = planned_of(works)
    course = Course(
        config=config,
        tower=tower,
        scratch=scratch,
        history=history,
        keeper=keeper,
        clock=clock,
        tally=tally,
        measuring=measuring,
        teacher=teacher,
        reporter=reporter,
        batches=batches,
        forecast=Forecast(planned["steps"], sum(work.total(work.padded) for work in works)),
    )
    try:
        yield Ready(course, rows, works, trainable, parameters, frozen, dev)
    finally:
        _take_back(model)


def _prepare(model: SentenceTransformer, config: RunConfig) -> Frozen | None:
    """Freeze, adapt and set the dropout, as the config says."""
    train = config.train
    if train.dropout is not None:
        dropout.set_dropout(model, train.dropout)
    frozen = None
    if train.freeze_layers:
        frozen = Frozen(model, train.freeze_layers)
    elif train.freeze_embeddings:
        layers.freeze(model, embeddings=True, layers=0)
    if train.lora is not None:
        lora.adapt(model, train.lora, freeze_layers=train.freeze_layers, seed=config.seed)
    dropout.install(model)
    words.install(model)
    return frozen


def _take_back(model: SentenceTransformer) -> None:
    """Let the library's own modules run again, as they are when the model is saved."""
    dropout.remove(model)
    words.remove(model)


def _memory(train: TrainConfig, model: SentenceTransformer, longest: int) -> MicroBatch:
    tokens = train.micro_batch_tokens or MICRO_BATCH.get(model.device.type, MICRO_BATCH["cuda"])
    return MicroBatch(tokens, cached=train.cached, longest=longest)


def _kept_in(scratch: Path) -> Path:
    """Where frozen layers' activations and teachers' vectors are kept, for other runs as well."""
    return Path(os.environ.get(CACHE_VARIABLE) or scratch / "kept")


def _cache(train: TrainConfig, tower: Tower, frozen: Frozen, folder: Path) -> ActivationCache:
    return ActivationCache(
        folder,
        tower.table,
        frozen,
        dtype=tower.dtype,
        limit_gib=train.frozen_cache_gib,
        tokens_per_forward=tower.memory.tokens,
    )


def _taught(
    config: RunConfig, rows: list[Rows], table: TextTable, folder: Path
) -> tuple[list[Rows], Teacher | None]:
    """The rows with what the teachers say of them, and the teachers' vectors."""
    if not any(own.objective.startswith("distill_") for own in rows):
        return rows, None
    vectors = teacher_vectors(config, table, folder)
    teacher = Teacher(vectors, config.train.distillation.weights)
    labels = [labels_for(own.objective, teacher, own.columns) for own in rows]
    taught = [
        own if said is None else replace(own, labels=said)
        for own, said in zip(rows, labels, strict=True)
    ]
    return taught, teacher


def precision_of(train: TrainConfig, device: torch.device) -> str:
    """`bf16`, `fp16` or `fp32`."""
    if train.precision != "auto":
        return train.precision
    return "bf16" if _computes_bf16(device) else "fp32"


def _computes_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return False
