"""What checkpoints cost training: ours, the stock trainer's with a blocking upload, and none.

    python -m benchmarks.checkpoints
    python -m benchmarks.checkpoints --store s3://bucket/prefix

All three take the same steps over the same pairs. The stock side saves with the library and copies
each checkpoint to the store in a callback, as is usually done; ours uploads beside the training.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import fsspec
from sentence_transformers import SentenceTransformerTrainer
from transformers import TrainerCallback

from benchmarks.side_by_side import machine
from benchmarks.train import rows_of
from codex_forge.artifact import Draft, Recipe, begin
from codex_forge.config import load_config
from codex_forge.model.encoder import load_base
from codex_forge.model.locate import locate
from codex_forge.storage import Store
from codex_forge.train.checkpoints import keeping
from codex_forge.train.data import as_dataset
from codex_forge.train.history import History
from codex_forge.train.objectives import make_loss
from codex_forge.train.trainer import make_trainer, training_arguments


class BlockingUpload(TrainerCallback):  # type: ignore[misc]
    """Copies each saved checkpoint to the store before training goes on."""

    def __init__(self, url: str) -> None:
        """`url` is a folder or an S3 prefix."""
        self._url = url

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Upload the newest checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        fs, path = fsspec.core.url_to_fs(f"{self._url}/stock")
        fs.put(str(folder), f"{path}/{folder.name}", recursive=True)


def main() -> None:
    """Measure the seconds of all three in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=960)
    parser.add_argument("--every", type=int, default=10, help="steps between checkpoints")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--store", help="a folder or s3:// prefix; a temporary folder if not given")
    given = parser.parse_args()
    overrides = ["train.num_negatives=0", "train.batch_size=32", "train.save_minutes=0"]
    config = load_config("configs/quickstart.yaml", [*overrides, f"train.save_steps={given.every}"])
    rows = rows_of(config, given.pairs)
    base = locate(config.model).folder

    def none(scratch: Path, _: str) -> None:
        trainer = make_trainer(
            config, load_base(base, config.model), rows, dev=[], history=History(), scratch=scratch
        )
        trainer.run(None)

    def ours(scratch: Path, url: str) -> None:
        draft = begin(Store(url), Recipe("train", "bench", {}, {}), scratch, force=True)
        assert isinstance(draft, Draft)
        with keeping(draft.work.checkpoints(2)) as keeper:
            trainer = make_trainer(
                config,
                load_base(base, config.model),
                rows,
                dev=[],
                history=History(),
                scratch=scratch,
                keeper=keeper,
            )
            trainer.run(None)
        draft.lease.release(0)
        share = 100 * trainer.saving_seconds / (time.perf_counter() - started)
        print(f"  ours stood still for {trainer.saving_seconds:.2f} s ({share:.1f} %)")

    def stock(scratch: Path, url: str) -> None:
        model = load_base(base, config.model)
        arguments = training_arguments(config, model, False, scratch)
        arguments.save_strategy, arguments.save_steps = "steps", given.every
        arguments.save_total_limit = 2
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=as_dataset(rows),
            loss=make_loss(config.train, model),
            callbacks=[BlockingUpload(url)],
        )
        trainer.train()

    print(machine())
    seconds: dict[str, list[float]] = {"none": [], "ours": [], "stock": []}
    for _ in range(given.repeats):
        for name, train in (("none", none), ("ours", ours), ("stock", stock)):
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                train(Path(folder), given.store or f"{folder}/store")
                seconds[name].append(time.perf_counter() - started)
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds["none"], strict=True))
        print(f"{name:<6} {statistics.median(times):6.2f} s, {ratio:.2f} times training alone")


if __name__ == "__main__":
    main()
