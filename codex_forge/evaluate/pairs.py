"""Held-out scored and labelled pairs: how well cosines agree with what was said of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge import pair_files
from codex_forge.agreement import (
    CORRELATIONS,
    DECISIONS,
    Agreement,
    agreement,
    best_threshold,
    decisions,
)
from codex_forge.artifact import Artifact
from codex_forge.config.sections import EvaluateConfig
from codex_forge.errors import InputError
from codex_forge.evaluate.adversarial import adversarial
from codex_forge.evaluate.scored_pair import Judged, grouped
from codex_forge.jsonl import write_jsonl
from codex_forge.metrics import NOT_GIVEN, slice_value
from codex_forge.progress import progress

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> unit vectors, shape (texts, dimension)."""

_PARTS = ("dev", "test")
_SLICES = ("category", "phase")
_BLOCK = 8_192
"""Pairs whose vectors are in memory together, if no group is larger."""
_PLACES = 6


def pair_report(
    pairs: Artifact, config: EvaluateConfig, encode: Encode, out: Path
) -> dict[str, Any] | None:
    """Measure a model on the dev and test pairs of a pairs artifact; write them one by one.

    The F1 threshold is chosen on dev and reported on test. What has no value is None, with its
    reason in `undefined`.

    Args:
        pairs: its `scored-dev` and `scored-test` rows are read.
        config: says which shares of common words make a trap.
        encode: the model, with the prompt that scored pairs are trained with; gets each distinct
            text once.
        out: the file `per_pair.jsonl` to write, or the folder to write it into.

    Returns:
        The key `pairs` of `report.json`; None when the artifact has no such rows.

    Raises:
        InputError: the model gives vectors that are not finite.
    """
    judged = [
        Judged.of(part, row) for part in _PARTS for row in pair_files.rows(pairs, f"scored-{part}")
    ]
    if not judged:
        return None
    groups = grouped(judged)
    cosines = _cosines(judged, groups, encode)
    rows = [
        {**pair.told(), "group": judged[group].pair_id, "cosine": cosine}
        for pair, group, cosine in zip(judged, groups.tolist(), cosines.tolist(), strict=True)
    ]
    write_jsonl(out / "per_pair.jsonl" if out.is_dir() else out, rows)
    return _report(judged, cosines, config)


def _cosines(judged: Sequence[Judged], groups: NDArray[np.int64], encode: Encode) -> NDArray[Any]:
    """Cosine of each pair, shape (pairs,); no text of one block of groups is in another."""
    found = np.empty(len(judged))
    for block in progress(list(_blocks(groups)), "blocks of scored pairs"):
        own = [judged[i] for i in block]
        position = {t: i for i, t in enumerate(dict.fromkeys(t for p in own for t in p.texts))}
        vectors = encode(list(position))
        first, second = (vectors[[position[p.texts[side]] for p in own]] for side in (0, 1))
        found[block] = (first * second).sum(axis=1, dtype=np.float64)
    if not np.isfinite(found).all():
        raise InputError(
            "the model gives vectors that are not finite for scored pairs",
            do="train again with a lower train.learning_rate, or without fp16",
        )
    rounded: NDArray[Any] = np.round(found, _PLACES)
    return rounded


def _blocks(groups: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Positions of whole groups, at least `_BLOCK` a block but for the last."""
    order = np.argsort(groups, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(groups[order])) + 1, len(order))
    start = 0
    for end in ends:
        if end - start >= _BLOCK or end == len(order):
            yield order[start:end]
            start = end


def _report(
    judged: Sequence[Judged], cosines: NDArray[Any], config: EvaluateConfig
) -> dict[str, Any]:
    part = np.array([pair.part for pair in judged])
    alike = np.array([pair.alike for pair in judged])
    threshold = best_threshold(cosines[part == "dev"], alike[part == "dev"])
    scores = np.array([np.nan if pair.score is None else pair.score for pair in judged])

    def measured(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        found = _measures(cosines[chosen], scores[chosen], alike[chosen], threshold)
        return {"pairs": int(chosen.sum()), "values": found.values, "undefined": found.undefined}

    slices: dict[str, Any] = {}
    for field in _SLICES:
        values = np.array([slice_value(getattr(pair, field)) for pair in judged])
        there = sorted({str(value) for value in values[part == "test"]})
        there = [] if there == [NOT_GIVEN] else there
        slices[field] = {v: measured((part == "test") & (values == v)) for v in there}
    return {
        **{name: measured(part == name) for name in _PARTS},
        "threshold": threshold,
        "slices": slices,
        "adversarial": adversarial(judged, cosines, config),
    }


def _measures(
    cosines: NDArray[Any], scores: NDArray[Any], alike: NDArray[np.bool_], threshold: float | None
) -> Agreement:
    """All measures by name, those without a value too."""
    if not len(cosines):
        names = (*CORRELATIONS, "roc_auc", "average_precision", *DECISIONS)
        return Agreement(dict.fromkeys(names), dict.fromkeys(names, "there is no such pair"))
    values: dict[str, float | None] = dict.fromkeys(CORRELATIONS)
    undefined = dict.fromkeys(CORRELATIONS, "no pair has a score")
    found = [agreement(cosines, scores, alike)]
    if threshold is None:
        reason = "no dev pair is alike, so that there is no threshold"
        found.append(Agreement(dict.fromkeys(DECISIONS), dict.fromkeys(DECISIONS, reason)))
    else:
        found.append(decisions(cosines, alike, threshold))
    for each in found:
        values |= each.values
        undefined |= each.undefined
    return Agreement(
        values, {name: undefined[name] for name, value in values.items() if value is None}
    )
