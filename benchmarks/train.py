"""Training against the stock trainer: same pairs, loss, steps, seed; only the batches differ.

    python -m benchmarks.train

Ours groups rows of like length; the stock side uses the library's no-duplicates sampler.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import BatchSamplers

from benchmarks.side_by_side import machine, side_by_side
from codex_forge.config import RunConfig, load_config
from codex_forge.corpus import find_files, read_corpus
from codex_forge.model.encoder import load_base
from codex_forge.model.locate import locate
from codex_forge.train.history import History
from codex_forge.train.trainer import make_trainer


def rows_of(config: RunConfig, count: int) -> list[dict[str, str]]:
    """Pairs of a name and its chunk, from the sample."""
    corpus = read_corpus(find_files(config.corpus), "reject")
    text_of = {chunk.filename: chunk.text for chunk in corpus.chunks}
    rows = [
        {"anchor": name, "positive": text_of[entity.filename]}
        for entity in corpus.entities
        for name in entity.names
    ]
    return rows[:: max(1, len(rows) // count)][:count]


def main() -> None:
    """Measure pairs a second of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    overrides = ["train.num_negatives=0", "train.batch_size=32", "train.epochs=1"]
    config = load_config("configs/quickstart.yaml", overrides)
    rows = rows_of(config, arguments.pairs)
    base = locate(config.model).folder

    def train(stock: bool) -> None:
        model: SentenceTransformer = load_base(base, config.model)
        with tempfile.TemporaryDirectory() as scratch:
            trainer: Any = make_trainer(
                config, model, rows, dev=[], history=History(), scratch=Path(scratch)
            )
            if stock:
                trainer.args.batch_sampler = BatchSamplers.NO_DUPLICATES
            trainer.train()

    print(machine())
    ratio = side_by_side(
        f"train {len(rows)} pairs", lambda: train(False), lambda: train(True), arguments.repeats
    )
    print(f"stock trainer's time / ours: {ratio:.2f}")


if __name__ == "__main__":
    main()
