"""How many positives that nobody told of become negatives, and how hard the negatives are.

    python -m benchmarks.hidden_positives                # both samples, a model too: minutes
    python -m benchmarks.hidden_positives --no-model

Of each question of a sample 30 % of its positives are hidden, by seed; positives are the chunks
that cover half of its expected topics or more, under any alias. Every way of mining is told of the
other 70 % only, and finds three negatives for the same query and positive. Hidden ones among them
are false negatives. Ours is measured in three cases, from what a user may have:

asked   The question has its expected topics, and no list of answers. The hidden are what covers
        the topics, and the guard asks the same matcher: none taken is no merit, but a check.
given   The question has its topics, and `relevant` lists the 70 %: a list that is not complete.
        The guard then lets half coverage pass when the covered topic is generic.
blind   Neither topics nor an index of names: the guard has the 70 % and the texts alone, so that
        it stops what is nearly one of them, and nothing else.

Hardness is the mean cosine of query and negative: of TF-IDF vectors, and of the base model's. The
false negatives of the other ways are hard by nature, so it is given for the true ones as well.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.hidden_bank import (
    CASES,
    ONLY_BM25,
    ONLY_NEAREST,
    Bank,
    Found,
    Model,
    Score,
    bank_of,
    by_library,
    load_model,
    ours,
    score,
    unguarded,
)  # fmt: skip
from benchmarks.side_by_side import machine
from codex_forge.config import load_config

CONFIGS = ("configs/quickstart.yaml", "configs/codex.yaml")


def ways_of(bank: Bank, model: Model | None, cache: Path) -> dict[str, Callable[[], Found]]:
    """What is measured, by its name; the first one is what the others are held against."""
    ways: dict[str, Callable[[], Found]] = {"unguarded BM25 top 3": lambda: unguarded(bank)}
    mixes: list[tuple[str, Mapping[str, Any]]] = [("default mix", {}), ("BM25 only", ONLY_BM25)]
    if model:
        mixes.append(("nearest only", ONLY_NEAREST))
        for margin in (None, 0.05):
            name = "no margin" if margin is None else f"relative margin {margin}"
            ways[f"mine_hard_negatives, {name}"] = _library(bank, model, cache, margin)
    for case in CASES:
        for name, keys in mixes:
            ways[f"ours, {case}, {name}"] = _ours(bank, keys, case, model)
    return ways


def _library(bank: Bank, model: Model, cache: Path, margin: float | None) -> Callable[[], Found]:
    return lambda: by_library(bank, model, cache, margin)


def _ours(
    bank: Bank, keys: Mapping[str, Any], case: str, model: Model | None
) -> Callable[[], Found]:
    return lambda: ours(bank, keys, case, model)


def show(bank: Bank, model: Model | None) -> None:
    """Print a table for one sample."""
    print(f"\n{bank.config.name}: {len(bank.asked)} questions, {len(bank.corpus.chunks)} chunks")
    print(
        f"{'':<44} {'nega-':>6} {'hidden taken':>21} {'TF-IDF cosine':>21} {'model cosine':>21}\n"
        f"{'':<44} {'tives':>6} {'of negs':>10} {'of hidden':>10}"
        f" {'mean':>6} {'ratio':>6} {'true':>7} {'mean':>7} {'ratio':>6} {'true':>6}"
    )
    first: Score | None = None
    with tempfile.TemporaryDirectory() as cache:
        for name, way in ways_of(bank, model, Path(cache)).items():
            found = score(bank, way(), model)
            first = first or found
            print(
                f"{name:<44} {found.negatives:6} {found.taken / max(1, found.negatives):10.2%}"
                f" {found.taken / found.hidden:10.2%} {found.hardness:6.3f}"
                f" {found.hardness / first.hardness:6.2f}"
                f" {found.hardness_of_true / first.hardness_of_true:7.2f}"
                f" {found.model_hardness:7.3f}"
                f" {found.model_hardness / first.model_hardness:6.2f}"
                f" {found.model_hardness_of_true / first.model_hardness_of_true:6.2f}",
                flush=True,
            )


def main() -> None:
    """Measure both samples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--no-model", action="store_true", help="BM25 and our miner alone")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(machine())
    for path in CONFIGS:
        with bank_of(load_config(path), given.seed) as bank:
            show(bank, None if given.no_model else load_model(bank))


if __name__ == "__main__":
    main()
