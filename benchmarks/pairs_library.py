"""Mining against `mine_hard_negatives` of sentence-transformers, for the same queries.

The library embeds the corpus and the queries with a model and takes what is nearest; ours looks at
words and names, and needs no model. So this compares what a user waits for, not equal work: ours is
the whole door (reading, matching, splits, leak checks, mining), theirs the negatives alone.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from codex_forge.config import load_config
from codex_forge.corpus import find_files, read_corpus
from codex_forge.jsonl import read_jsonl
from jobs.pairs import DOOR

_CONFIG = "configs/quickstart.yaml"
_NEGATIVES = 3


def beside_the_library(most: int) -> None:
    """Print seconds and negatives of both, for `most` pairs of the sample, or all."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        if DOOR.main([_CONFIG, f"store={folder}"]):
            raise SystemExit("ours failed")
        ours = time.perf_counter() - start
        every = [
            row for path in Path(folder).rglob("pairs-train.jsonl") for row in read_jsonl(path)
        ]
    step = max(1, len(every) // most)
    rows = every[::step][:most]
    theirs, found = by_library(rows)
    mine = sum(len(row["negatives"]) for row in rows)
    whole = 1000 * ours / len(every)
    alone = 1000 * theirs / len(rows)
    print(f"ours, the whole door:  {len(every):6} pairs, {ours:6.1f} s, {whole:6.2f} s per 1,000")
    print(f"mine_hard_negatives:   {len(rows):6} pairs, {theirs:6.1f} s, {alone:6.2f} s per 1,000")
    print(f"negatives of the same {len(rows)} pairs: ours {mine}, theirs {found}")
    print(f"theirs takes {alone / whole:.1f} times as long per pair, {theirs / ours:.1f} in all")


def by_library(rows: list[dict[str, Any]]) -> tuple[float, int]:
    """Seconds that the library takes for the negatives of some pairs, and how many it finds.

    It looks in the whole corpus, with its recommended margin; loading the model does not count.
    """
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    from codex_forge.model.encoder import load_base
    from codex_forge.model.locate import locate

    config = load_config(_CONFIG)
    model = load_base(locate(config.model).folder, config.model)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = read_corpus(find_files(config.corpus), "fail", Path(scratch))
        texts = list(corpus.chunks.texts())
    chosen = [{"anchor": row["query"], "positive": row["positive"]} for row in rows]
    start = time.perf_counter()
    found = mine_hard_negatives(
        Dataset.from_list(chosen),
        model,
        corpus=texts,
        num_negatives=_NEGATIVES,
        relative_margin=0.05,
        verbose=False,
    )
    return time.perf_counter() - start, len(found)
