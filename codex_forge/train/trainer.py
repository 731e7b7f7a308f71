"""The training itself, on sentence-transformers' trainer (which runs under accelerate)."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from transformers import PrinterCallback

from codex_forge.artifact import Artifact, Draft
from codex_forge.config import RunConfig
from codex_forge.config.sections import TrainConfig
from codex_forge.job import Job
from codex_forge.jsonl import write_json
from codex_forge.model.encoder import load_base
from codex_forge.stopping import stop
from codex_forge.train.batches import LengthGroupedBatches
from codex_forge.train.checkpoints import Keeper, keeping
from codex_forge.train.data import as_dataset, read_rows
from codex_forge.train.history import History, write_history
from codex_forge.train.objectives import make_loss
from codex_forge.train.resumable import Pace, ResumableTrainer

log = logging.getLogger("codex_forge")

_VOLATILE = ("model/README.md", "metadata.json", "metrics.jsonl", "loss.svg", "training.log")


def fine_tune(
    job: Job, pairs: Artifact, base: Path, draft: Draft | None, checkpoint: Path | None
) -> dict[str, Any]:
    """Train, save and commit; returns the closing summary, which is also logged.

    The artifact holds `model/` (any SentenceTransformer loads it), `metrics.jsonl`, `loss.svg`,
    `training.log` and `metadata.json`. Only rank 0 has a draft. With a checkpoint's folder the
    run goes on from there. From here on a signal waits for the end of a step.

    Raises:
        Preempted: a signal came; the checkpoint of the last step is stored.
    """
    config = job.config
    with _logging_to(draft) as close_log, _keeping(config.train, draft) as keeper:
        model = load_base(base, config.model)
        log.info("  base model %s on %s", config.model.base, model.device)
        _log_parameters(model)
        rows = read_rows(pairs, "pairs-train", config.train, config.seed)
        dev = _dev_rows(pairs, config)
        with stop.held():
            trainer = make_trainer(
                config, model, rows, dev=dev, scratch=job.scratch, history=History(), keeper=keeper
            )
            started = time.monotonic()
            trainer.run(checkpoint)
            summary = _summary(trainer, len(rows), time.monotonic() - started)
            for key, value in summary.items():
                log.info("  %s: %s", key, value)
            close_log()
            if draft is not None:
                _publish(draft, model, trainer.history, summary, len(rows))
    return summary


def _publish(
    draft: Draft,
    model: SentenceTransformer,
    history: History,
    summary: dict[str, Any],
    pairs: int,
) -> None:
    model.save_pretrained(str(draft.folder / "model"), safe_serialization=True)
    write_history(history, draft.folder)
    write_json(draft.path("metadata.json"), summary)
    base = draft.recipe.inputs["model"].name
    draft.commit({"pairs": pairs, "steps": summary["steps"]}, {"base": base}, volatile=_VOLATILE)


def _keeping(train: TrainConfig, draft: Draft | None) -> AbstractContextManager[Keeper | None]:
    """Rank 0's keeper of checkpoints."""
    if draft is None:
        return nullcontext()
    return keeping(draft.work.checkpoints(train.save_total_limit))


@contextmanager
def _logging_to(draft: Draft | None) -> Iterator[Callable[[], None]]:
    """Write the log to `training.log` as well, until the end or until what is yielded is called."""
    if draft is None:
        yield lambda: None
        return
    handler = logging.FileHandler(draft.path("training.log"), encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def close() -> None:
        log.removeHandler(handler)
        handler.close()

    log.addHandler(handler)
    try:
        yield close
    finally:
        close()


def make_trainer(
    config: RunConfig,
    model: SentenceTransformer,
    rows: list[dict[str, str]],
    *,
    dev: list[dict[str, str]],
    history: History,
    scratch: Path,
    keeper: Keeper | None = None,
) -> ResumableTrainer:
    """The trainer, set up as the config says; prompts as the model will use them."""
    # The card's example; without one the library picks some, with a progress bar of its own.
    example = {"source_sentence": rows[0]["anchor"], "sentences": [rows[0]["positive"]]}
    model.model_card_data.widget = [example]
    trainer = ResumableTrainer(
        model=model,
        args=training_arguments(config, model, bool(dev), scratch),
        train_dataset=as_dataset(rows),
        eval_dataset=as_dataset(dev) if dev else None,
        loss=make_loss(config.train, model),
        history=history,
        pace=Pace(config.train, keeper),
        keeper=keeper,
        scratch=scratch,
    )
    trainer.remove_callback(PrinterCallback)  # what it prints, the history logs
    return trainer


def training_arguments(
    config: RunConfig, model: SentenceTransformer, evaluates: bool, scratch: Path
) -> SentenceTransformerTrainingArguments:
    """The library's training arguments for a run's config."""
    train = config.train
    query, document = model.prompts.get("query", ""), model.prompts.get("document", "")
    columns = ("positive", *(f"negative_{i + 1}" for i in range(train.num_negatives)))
    prompts = {"anchor": query, **dict.fromkeys(columns, document)}
    return SentenceTransformerTrainingArguments(
        output_dir=str(scratch / "trainer"),
        num_train_epochs=train.epochs,
        max_steps=train.max_steps,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=train.batch_size,
        gradient_accumulation_steps=train.gradient_accumulation,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.schedule,
        warmup_steps=train.warmup_ratio if train.warmup_steps is None else train.warmup_steps,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        batch_sampler=LengthGroupedBatches,
        prompts=prompts if query or document else None,
        logging_steps=train.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy="epoch" if evaluates else "no",
        save_strategy="no",  # checkpoints are `Pace`'s
        seed=config.seed,
        data_seed=config.seed,
        use_cpu=model.device.type == "cpu",
        disable_tqdm=not sys.stderr.isatty(),
        report_to="none",
        dataloader_pin_memory=model.device.type == "cuda",
        **_precision(train, model.device),
    )


def _precision(config: TrainConfig, device: torch.device) -> dict[str, bool]:
    wanted = config.precision
    if wanted == "auto":
        wanted = "bf16" if _computes_bf16(device) else "fp32"
    return {"bf16": wanted == "bf16", "fp16": wanted == "fp16"}


def _computes_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return False


def _dev_rows(pairs: Artifact, config: RunConfig) -> list[dict[str, str]]:
    """Dev pairs of every phase, without mined negatives; none is no error."""
    if not pairs.counts.get("pairs_dev"):
        return []
    every = config.train.model_copy(
        update={"phases": ("easy", "medium", "hard"), "max_pairs": None, "num_negatives": 0}
    )
    return read_rows(pairs, "pairs-dev", every, config.seed)


def _log_parameters(model: SentenceTransformer) -> None:
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    log.info("  parameters: %s trainable of %s", f"{trainable:,}", f"{total:,}")


def _summary(trainer: ResumableTrainer, pairs: int, seconds: float) -> dict[str, Any]:
    """What a training run ends with."""
    history = trainer.history
    losses, dev = history.series("loss"), history.series("eval_loss")
    part = 1 - trainer.started_at / max(1, trainer.state.global_step)
    seen = int(trainer.state.epoch * pairs * part) if trainer.state.epoch else 0
    return {
        "steps": trainer.state.global_step,
        "epochs": round(float(trainer.state.epoch or 0), 3),
        "first_loss": losses[0][1] if losses else None,
        "final_loss": losses[-1][1] if losses else None,
        "best_loss": min((value for _, value in losses), default=None),
        "best_dev_loss": min((value for _, value in dev), default=None),
        "seconds": round(seconds, 1),
        "pairs_per_second": round(seen / seconds, 1),
        "resumed_from_step": trainer.started_at or None,
        "checkpoints": trainer.checkpoints_stored,
        "seconds_for_checkpoints": round(trainer.saving_seconds, 2),
        "peak_memory_mib": _peak_memory(),
        "device": str(trainer.args.device),
        "precision": "bf16" if trainer.args.bf16 else "fp16" if trainer.args.fp16 else "fp32",
    }


def _peak_memory() -> int:
    """MiB: of the GPU when there is one, else the resident set of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated() / 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
