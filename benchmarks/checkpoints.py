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
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback

from benchmarks.side_by_side import machine
from benchmarks.train import Bench, parser
from codex_forge.artifact import Draft, Recipe, begin
from codex_forge.model.encoder import load_base
from codex_forge.storage import Store
from codex_forge.train.checkpoints import keeping
from codex_forge.train.ready import getting_ready
from codex_forge.train.stages import run_stages


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
    known = parser(__doc__)
    known.add_argument("--every", type=int, default=10, help="steps between checkpoints")
    known.add_argument("--repeats", type=int, default=3)
    known.add_argument("--store", help="a folder or s3:// prefix; a temporary folder if not given")
    given = known.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _compare(Bench(given, Path(folder)), given)


def _compare(bench: Bench, given: argparse.Namespace) -> None:
    config = bench.config_of(7)
    often = config.train.model_copy(update={"save_steps": given.every})
    saving = config.model_copy(update={"train": often})

    def none(scratch: Path, _: str) -> None:
        with getting_ready(config, bench.pairs, bench.base, scratch) as ready:
            run_stages(ready.course, ready.rows, None)

    def ours(scratch: Path, url: str) -> None:
        draft = begin(Store(url), Recipe("train", "bench", {}, {}), scratch, force=True)
        assert isinstance(draft, Draft)
        with (
            keeping(draft.work.checkpoints(2)) as keeper,
            getting_ready(saving, bench.pairs, bench.base, scratch, keeper=keeper) as ready,
        ):
            run_stages(ready.course, ready.rows, None)
            spent = ready.course.clock.seconds
        draft.lease.release(0)
        share = spent["checkpoint"] / (spent["checkpoint"] + spent["train"])
        print(f"  ours stood still for {spent['checkpoint']:.2f} s ({share:.1%} of the training)")

    def stock(scratch: Path, url: str) -> None:
        model = load_base(bench.base, config.model)
        arguments = bench.arguments(config, model, str(scratch))
        arguments.save_strategy, arguments.save_steps = "steps", given.every
        arguments.save_total_limit = 2
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=bench.rows(config),
            loss=MultipleNegativesRankingLoss(model),
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
