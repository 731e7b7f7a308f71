"""What data each objective needs; said before torch is imported, and before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codex_forge import pair_files
from codex_forge.artifact import Artifact
from codex_forge.config.train import Objective, StageConfig
from codex_forge.errors import ConfigError, InputError


@dataclass(frozen=True)
class Need:
    """What an objective reads, and how its batches must be made."""

    kind: Literal["pairs", "scored", "texts"]
    """`pairs`: queries with a positive; `scored`: two texts and a number; `texts`: each alone."""
    stem: Literal["pairs", "scored"]
    """The rows it reads first; texts are taken from either (`stem_of`)."""
    negatives: bool = False
    """Its rows hold the mined negatives of a pair as well, `num_negatives` of them."""
    least_negatives: int = 0
    """It teaches nothing with fewer."""
    label: Literal["score", "label"] | None = None
    """The key of a row that holds its number: 0 to 1, or one of 0 and 1."""
    exclusive: bool = False
    """The others of a batch are negatives: none of them may be a positive."""
    apart: bool = False
    """Its two columns are the same text, each encoded with a dropout of its own."""


_SCORES = Need("scored", "scored", label="score")
_LABELS = Need("scored", "scored", label="label")
_TEXTS = Need("texts", "pairs")

NEEDS: dict[Objective, Need] = {
    "multiple_negatives_ranking": Need("pairs", "pairs", negatives=True, exclusive=True),
    "triplet": Need("pairs", "pairs", negatives=True, least_negatives=1),
    "cosent": _SCORES,
    "angle": _SCORES,
    "cosine": _SCORES,
    "contrastive": _LABELS,
    "online_contrastive": _LABELS,
    "simcse": Need("texts", "pairs", exclusive=True, apart=True),
    "tsdae": _TEXTS,
    "distill_embedding": _TEXTS,
    "distill_margin_mse": Need("pairs", "pairs", negatives=True, least_negatives=1),
    "distill_kl": Need("pairs", "pairs", negatives=True, least_negatives=1),
}

_TRAINED_BY = {
    "pairs": "multiple_negatives_ranking or triplet",
    "score": "cosent, angle or cosine",
    "label": "contrastive or online_contrastive",
}


def stem_of(objective: Objective, pairs: Artifact) -> str:
    """The rows of the artifact that an objective reads: `pairs-train` or `scored-train`.

    Objectives that need texts alone take them from scored pairs where there are no others.
    """
    need = NEEDS[objective]
    if need.kind == "texts" and not pair_files.files_of(pairs, "pairs-train"):
        return "scored-train"
    return f"{need.stem}-train"


def check(stage: StageConfig, pairs: Artifact) -> None:
    """Refuse a stage that its pairs cannot train.

    Rows are read until one is met that will do: of pairs that will do, few; of others, all.

    Raises:
        ConfigError: the stage asks for what does not go together.
        InputError: the artifact does not hold what the objective needs.
    """
    need = NEEDS[stage.objective]
    _check_keys(stage, need)
    stem = stem_of(stage.objective, pairs)
    if not pair_files.files_of(pairs, stem):
        raise _other_kind(stage, need, pairs)
    if need.label is not None and not _any_has(pairs, need.label):
        raise _no_label(stage, need, pairs)
    wanted = stage.num_negatives if need.negatives else 0
    if wanted and all(len(row["negatives"]) < wanted for row in pair_files.rows(pairs, stem)):
        raise InputError(
            f"no pair has {wanted} negatives, as many as train.num_negatives of stage "
            f"{stage.title} asks for",
            where=pairs.url,
            do="lower train.num_negatives, or raise pairs.negatives.num",
        )


def _check_keys(stage: StageConfig, need: Need) -> None:
    if stage.num_negatives < need.least_negatives:
        raise ConfigError(
            f"objective {stage.objective} needs {need.least_negatives} mined negative of a pair",
            where=f"train.num_negatives={stage.num_negatives} in stage {stage.title}",
            do=f"set it to {need.least_negatives} or more",
        )
    if stage.objective == "tsdae" and stage.matryoshka_dims:
        raise ConfigError(
            "objective tsdae tells texts again from whole vectors; it has none cut short",
            where=f"train.matryoshka_dims in stage {stage.title}",
            do="set it to [] in this stage",
        )


def _other_kind(stage: StageConfig, need: Need, pairs: Artifact) -> InputError:
    """The artifact holds pairs, of the other kind than is needed."""
    if need.label is not None:
        return InputError(
            f"holds no scored pairs, only queries with positives; objective {stage.objective} of "
            f"stage {stage.title} needs two texts and a {need.label}",
            where=pairs.url,
            do=f"use {_TRAINED_BY['pairs']}, or give pairs with a {need.label} in pairs.data",
        )
    keys = [key for key in ("score", "label") if _any_has(pairs, key)]
    negatives = " and a negative" if need.least_negatives else ""
    return InputError(
        f"holds scored or labelled pairs only; objective {stage.objective} of stage {stage.title} "
        f"needs a query and a positive{negatives}",
        where=pairs.url,
        do=f"use {' or '.join(_TRAINED_BY[key] for key in keys) or 'another objective'}, or give "
        "pairs or triplets in pairs.data",
    )


def _no_label(stage: StageConfig, need: Need, pairs: Artifact) -> InputError:
    other = "label" if need.label == "score" else "score"
    return InputError(
        f"its pairs have a {other}, none has a {need.label}; objective {stage.objective} of stage "
        f"{stage.title} needs a {need.label}",
        where=pairs.url,
        do=f"use {_TRAINED_BY[other]}, or give pairs with a {need.label} in pairs.data",
    )


def _any_has(pairs: Artifact, key: str) -> bool:
    return any(row.get(key) is not None for row in pair_files.rows(pairs, "scored-train"))
