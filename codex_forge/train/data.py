"""Train pairs as the data set of the sentence-transformers trainer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from codex_forge import pair_files
from codex_forge.artifact import Artifact
from codex_forge.config.sections import TrainConfig
from codex_forge.errors import InputError
from codex_forge.seeded import draw

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger("codex_forge")


def read_rows(pairs: Artifact, stem: str, config: TrainConfig, seed: int) -> list[dict[str, str]]:
    """The pairs of a stem (`pairs-train`) as rows `anchor`, `positive`, `negative_1` ....

    Pairs of other phases are left out, and so are pairs with fewer than `num_negatives` negatives;
    of what is left at most `max_pairs` are drawn by seed. All of it is logged.

    Raises:
        InputError: nothing is left.
    """
    drawn: list[tuple[float, dict[str, str]]] = []
    other_phase = few_negatives = 0
    for number, pair in enumerate(pair_files.rows(pairs, stem)):
        if pair["phase"] not in config.phases:
            other_phase += 1
        elif len(pair["negatives"]) < config.num_negatives:
            few_negatives += 1
        else:
            drawn.append((draw(seed, "train", number, pair["query_id"]), _row(pair, config)))
    log.info(
        "  %d pairs; left out: %d of other phases, %d with too few negatives",
        len(drawn),
        other_phase,
        few_negatives,
    )
    if not drawn:
        raise InputError(
            "no pair is left to train on",
            where=f"{pairs.url}/{stem}",
            do="widen train.phases, or lower train.num_negatives",
        )
    if config.max_pairs is not None and len(drawn) > config.max_pairs:
        drawn.sort(key=lambda pair: pair[0])
        drawn = drawn[: config.max_pairs]
        log.info("  %d of them drawn by seed (train.max_pairs)", len(drawn))
    if config.num_negatives == 0 and min(len(drawn), config.batch_size) < 2:  # noqa: PLR2004
        raise InputError(
            "a single pair without negatives teaches nothing",
            where=f"{pairs.url}/{stem}",
            do="raise train.batch_size, train.max_pairs or train.num_negatives",
        )
    return [row for _, row in drawn]


def as_dataset(rows: list[dict[str, str]]) -> Dataset:
    """Rows as a `datasets.Dataset`."""
    from datasets import Dataset

    return Dataset.from_list(rows)


def _row(pair: dict[str, Any], config: TrainConfig) -> dict[str, str]:
    negatives = pair["negatives"][: config.num_negatives]
    return {
        "anchor": pair["query"],
        "positive": pair["positive"],
        **{f"negative_{i}": text for i, text in enumerate(negatives, start=1)},
    }
