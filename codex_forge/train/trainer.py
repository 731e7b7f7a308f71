"""The training itself: model, texts and rows are made ready, the stages run, the model is saved."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from codex_forge.artifact import Artifact, Draft
from codex_forge.config.train import TrainConfig
from codex_forge.job import Job
from codex_forge.jsonl import write_json
from codex_forge.stopping import stop
from codex_forge.train import checkpoints, ranks
from codex_forge.train.checkpoints import Keeper, keeping
from codex_forge.train.ready import Ready, getting_ready
from codex_forge.train.report.card import write_card
from codex_forge.train.report.card_facts import facts_of
from codex_forge.train.report.history import write_history
from codex_forge.train.report.reporting import reporting
from codex_forge.train.report.sinks import FOLDER
from codex_forge.train.report.summary import RunFacts, log_summary, peak_memory_mib, summarise
from codex_forge.train.stages import run_stages

log = logging.getLogger("codex_forge")

_VOLATILE = (
    "model/README.md", "metadata.json", "metrics.jsonl", "loss.svg", "dev.svg", "training.log",
)  # fmt: skip


def fine_tune(
    job: Job, pairs: Artifact, base: Path, draft: Draft | None, checkpoint: Path | None
) -> None:
    """Train, save and commit.

    The artifact holds `model/` (any SentenceTransformer loads it), `metrics.jsonl`, `loss.svg`,
    `training.log` and `metadata.json`. Only rank 0 has a draft. With a checkpoint's folder the
    run goes on from there. From here on a signal waits for the end of a step.

    Raises:
        Preempted: a signal came; the checkpoint of the last step is stored.
    """
    train = job.config.train
    told = checkpoints.read_state(checkpoint) if checkpoint is not None else {}
    folder = draft.folder if draft is not None else None
    with (
        _logging_to(draft) as close_log,
        _keeping(train, draft) as keeper,
        reporting(job.config, folder, told.get("reports")) as reporter,
        getting_ready(
            job.config, pairs, base, job.scratch, keeper=keeper, reporter=reporter
        ) as ready,
        stop.held(),
    ):
        run_stages(ready.course, ready.rows, checkpoint)
        ready.make_whole()
        measures = ready.measures()
        summary = _summary(ready)
        log_summary(summary)
        reporter.close()
        close_log()
        if draft is not None:
            facts = facts_of(
                job.config,
                ready.model,
                base,
                summary,
                counts=pairs.counts,
                verdict="pass" if train.require_audit else None,
                measures=measures,
            )
            _publish(draft, ready, summary, facts)


def _publish(draft: Draft, ready: Ready, summary: dict[str, Any], card: dict[str, Any]) -> None:
    folder = draft.folder / "model"
    ready.model.save_pretrained(str(folder), safe_serialization=True, create_model_card=False)
    write_card(folder, card)
    write_history(ready.course.history, draft.folder)
    write_json(draft.path("metadata.json"), summary)
    counts = {"pairs": sum(map(len, ready.rows)), "steps": summary["steps"]}
    told = {"base": draft.recipe.inputs["model"].name, "micro_batch": summary["micro_batch"]}
    reports = [path for path in draft.folder.glob(f"{FOLDER}/**/*") if path.is_file()]
    volatile = (*_VOLATILE, *(p.relative_to(draft.folder).as_posix() for p in reports))
    draft.commit(counts, told, volatile=volatile)


def _summary(ready: Ready) -> dict[str, Any]:
    course = ready.course
    for other in ranks.from_all(course.tally.state())[1:]:
        course.tally.add_up(other)
    facts = RunFacts(
        device=str(course.model.device),
        precision=course.tower.precision,
        ranks=ranks.world_size(),
        trainable_parameters=ready.trainable,
        parameters=ready.parameters,
        peak_memory_mib=peak_memory_mib(),
        micro_batch=course.tower.memory.state(),
        resumed_from_step=course.resumed_from,
        checkpoints=course.keeper.stored if course.keeper else 0,
    )
    return summarise(
        course.done, clock=course.clock, tally=course.tally, facts=facts, planned=ready.planned
    )


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
