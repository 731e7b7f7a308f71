"""Making pairs against `mine_hard_negatives` of sentence-transformers, on the shipped sample.

    python -m benchmarks.pairs

Ours: the whole mode `pairs` (matching, splits, leak check, BM25 and entity negatives). Theirs: only
the negatives, by a model's vectors, for the same queries; a subset, since the model is slow on a
CPU. Both are reported per 1,000 queries.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import machine
from codex_forge.config import load_config
from codex_forge.jsonl import read_jsonl
from jobs.pairs import DOOR


def main() -> None:
    """Measure seconds per 1,000 queries of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        DOOR.main(["configs/quickstart.yaml", f"store={folder}"])
        ours = time.perf_counter() - start
        rows = list(read_jsonl(Path(folder) / "pairs" / "quickstart" / "pairs-train.jsonl"))
    seconds = mine(rows, arguments.queries)
    print(machine())
    print(f"ours, whole mode:         {1000 * ours / len(rows):.2f} s per 1,000 pairs")
    print(f"mine_hard_negatives only: {1000 * seconds / arguments.queries:.2f} s per 1,000 pairs")


def mine(rows: list[dict[str, Any]], queries: int) -> float:
    """Seconds that the library takes for the negatives of `queries` pairs over all positives."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    from codex_forge.model.encoder import load_base
    from codex_forge.model.locate import locate

    config = load_config("configs/quickstart.yaml")
    model = load_base(locate(config.model).folder, config.model)
    chosen = [{"anchor": r["query"], "positive": r["positive"]} for r in rows[:queries]]
    corpus = list(dict.fromkeys(row["positive"] for row in rows))
    start = time.perf_counter()
    mine_hard_negatives(
        Dataset.from_list(chosen),
        model,
        corpus=corpus,
        num_negatives=3,
        relative_margin=0.05,
        range_max=30,
        verbose=False,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
