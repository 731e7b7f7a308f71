"""Training against the stock trainer: same pairs, loss, batch size, epochs, precision and seeds.

    python -m benchmarks.train                                # all layers train
    python -m benchmarks.train --freeze-layers 4              # the bottom 4 are frozen
    python -m benchmarks.train --device cuda --precision bf16 --pairs 20000 --batch-size 256

The stock side is `SentenceTransformerTrainer` as its documentation sets it up: columns of text, the
library's no-duplicates sampler, `requires_grad = False` for what is frozen. Both take the same
number of steps; what is timed is the training alone, without loading, dev measurements and saving.
Ours tokenises before (and computes frozen layers before): those seconds are said beside.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import PrinterCallback

from benchmarks.side_by_side import machine
from codex_forge.artifact import Artifact, open_artifact
from codex_forge.config import RunConfig, load_config
from codex_forge.model.encoder import Encoder, load_base
from codex_forge.model.locate import locate
from codex_forge.storage import Store
from codex_forge.train.dev.dev_reading import read_dev_set
from codex_forge.train.dev.validation import measure
from codex_forge.train.layers.anatomy import freeze
from codex_forge.train.ready import Ready, getting_ready, precision_of
from codex_forge.train.stages import run_stages
from jobs.pairs import DOOR as PAIRS


@dataclass(frozen=True)
class Outcome:
    """Of one training."""

    seconds: float
    before: float
    """Seconds spent before the first step: tokenising, frozen layers."""
    metric: float
    """ndcg@10 of the dev questions."""
    tokens: int
    """That went through the model, without padding; 0 when not counted."""


class Bench:
    """Both sides on the same pairs."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        """Make the pairs of the sample in `folder`."""
        self.given, self.folder = given, folder
        config = self.config_of(7)
        if PAIRS.main([given.config, f"store={folder}/store"]):
            raise SystemExit("the pairs were not made")
        self.pairs: Artifact = open_artifact(
            Store(config.store), "pairs", config.run_name, folder / "copies"
        )
        self.base = locate(config.model).folder

    def config_of(self, seed: int) -> RunConfig:
        """The run's config under one seed."""
        given = self.given
        return load_config(
            given.config,
            [
                f"store={self.folder}/store",
                f"seed={seed}",
                f"model.device={given.device}",
                f"train.max_pairs={given.pairs}",
                f"train.batch_size={given.batch_size}",
                f"train.num_negatives={given.num_negatives}",
                f"train.epochs={given.epochs}",
                f"train.learning_rate={given.learning_rate}",
                f"train.precision={given.precision}",
                f"train.freeze_layers={given.freeze_layers}",
                f"train.compile={str(given.compile).lower()}",
                "train.validation.keep=last",
                f"train.validation.max_chunks={given.dev_chunks}",
                "train.phases=[easy, medium, hard]",
                "train.save_minutes=0",
                "train.logging_steps=1000",
            ],
        )

    def ours(self, seed: int) -> Outcome:
        """Train with `codex_forge.train`."""
        config = self.config_of(seed)
        with (
            tempfile.TemporaryDirectory() as scratch,
            getting_ready(config, self.pairs, self.base, Path(scratch)) as ready,
        ):
            run_stages(ready.course, ready.rows, None)
            ready.make_whole()
            spent = ready.course.clock.seconds
            before = spent["tokenize"] + spent.get("frozen", 0.0)
            metric = self.metric_of(ready.model, config)
            return Outcome(spent["train"], before, metric, ready.course.tally.tokens)

    def stock(self, seed: int) -> Outcome:
        """Train with the library alone."""
        config = self.config_of(seed)
        rows = self.rows(config)
        model = load_base(self.base, config.model)
        if config.train.freeze_layers:
            freeze(model, embeddings=True, layers=config.train.freeze_layers)
        with tempfile.TemporaryDirectory() as scratch:
            trainer = SentenceTransformerTrainer(
                model=model,
                args=self.arguments(config, model, scratch),
                train_dataset=rows,
                loss=MultipleNegativesRankingLoss(model, scale=config.train.scale),
            )
            trainer.remove_callback(PrinterCallback)
            started = time.perf_counter()
            trainer.train()
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        return Outcome(seconds, 0.0, self.metric_of(model, config), 0)

    def arguments(
        self, config: RunConfig, model: SentenceTransformer, scratch: str
    ) -> SentenceTransformerTrainingArguments:
        """The library's defaults but for what both sides share."""
        train = config.train
        precision = precision_of(train, model.device)
        return SentenceTransformerTrainingArguments(
            output_dir=scratch,
            num_train_epochs=train.epochs,
            per_device_train_batch_size=train.batch_size,
            learning_rate=train.learning_rate,
            warmup_steps=train.warmup_ratio,
            weight_decay=train.weight_decay,
            batch_sampler=BatchSamplers.NO_DUPLICATES,
            bf16=precision == "bf16",
            fp16=precision == "fp16",
            seed=config.seed,
            use_cpu=model.device.type == "cpu",
            save_strategy="no",
            report_to="none",
            logging_steps=1000,
            disable_tqdm=True,
        )

    def rows(self, config: RunConfig) -> Dataset:
        """The pairs that ours trains on, as text."""
        with (
            tempfile.TemporaryDirectory() as scratch,
            getting_ready(self._unfrozen(config), self.pairs, self.base, Path(scratch)) as ready,
        ):
            return Dataset.from_dict(_texts(ready))

    def _unfrozen(self, config: RunConfig) -> RunConfig:
        train = config.train.model_copy(update={"freeze_layers": 0})
        return config.model_copy(update={"train": train})

    def metric_of(self, model: SentenceTransformer, config: RunConfig) -> float:
        """ndcg@10 of the dev questions, by the library's own encoding."""
        encoder = Encoder(model.eval())
        dev = read_dev_set(self.pairs, config.train.validation, 7)

        def encode(texts: Any, role: str) -> np.ndarray[Any, np.dtype[np.float32]]:
            return (
                encoder.encode_query(texts) if role == "query" else encoder.encode_document(texts)
            )

        return float(measure(dev, encode, scale=20.0, batch_size=64)["ndcg@10"])


def _texts(ready: Ready) -> dict[str, list[str]]:
    table = ready.course.tower.table
    return {
        name: [table.text(int(number)) for number in numbers]
        for name, numbers in ready.rows[0].columns.items()
    }


def _flops(ready_parameters: int, tokens: int) -> float:
    """Of forward and backward: 6 a parameter and token (Kaplan et al., 2020), without attention."""
    return 6.0 * ready_parameters * tokens


def parser(doc: str | None) -> argparse.ArgumentParser:
    """What both sides are given."""
    found = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--config", default="configs/quickstart.yaml")
    found.add_argument("--pairs", type=int, default=1280)
    found.add_argument("--batch-size", type=int, default=32)
    found.add_argument("--num-negatives", type=int, default=1)
    found.add_argument("--epochs", type=float, default=1.0)
    found.add_argument("--learning-rate", type=float, default=1e-4)
    found.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    found.add_argument("--freeze-layers", type=int, default=0)
    found.add_argument("--dev-chunks", type=int, default=1000)
    found.add_argument("--compile", action="store_true")
    found.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    return found


def main() -> None:
    """Train both in turn, under each seed."""
    known = parser(__doc__)
    known.add_argument("--seeds", type=int, default=3)
    known.add_argument("--peak-tflops", type=float, help="of the device in this precision")
    given = known.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given, Path(folder))
        found = []
        for seed in range(7, 7 + given.seeds):
            found.append((bench.ours(seed), bench.stock(seed)))
            gc.collect()
            _say(f"seed {seed}", *found[-1], given)
    print(machine())
    print(f"ratio of training time, median: {_median(s.seconds / o.seconds for o, s in found):.2f}")
    total = _median(s.seconds / (o.seconds + o.before) for o, s in found)
    print(f"with what comes before the first step: {total:.2f}")
    for name, side in (
        ("ours", [o.metric for o, _ in found]),
        ("stock", [s.metric for _, s in found]),
    ):
        print(
            f"dev ndcg@10 {name}: {statistics.mean(side):.4f} ({min(side):.4f} to {max(side):.4f})"
        )


def _say(title: str, ours: Outcome, stock: Outcome, given: argparse.Namespace) -> None:
    pairs = given.pairs * given.epochs
    print(
        f"{title}: ours {ours.seconds:.1f} s ({pairs / ours.seconds:.1f} pairs/s; "
        f"{ours.before:.1f} s before), stock {stock.seconds:.1f} s "
        f"({pairs / stock.seconds:.1f} pairs/s), ratio {stock.seconds / ours.seconds:.2f}, "
        f"dev ndcg@10 {ours.metric:.4f} and {stock.metric:.4f}"
    )
    if given.peak_tflops:
        rate = _flops(_layers(given), ours.tokens) / ours.seconds / 1e12
        print(f"  ours: {rate:.1f} TFLOP/s, {rate / given.peak_tflops:.1%} of the peak")


def _layers(given: argparse.Namespace) -> int:
    """Parameters outside the embeddings."""
    config = load_config(given.config, [])
    model = load_base(locate(config.model).folder, config.model)
    return sum(p.numel() for name, p in model.named_parameters() if "embeddings" not in name)


def _median(values: Any) -> float:
    return float(statistics.median(values))


if __name__ == "__main__":
    main()
