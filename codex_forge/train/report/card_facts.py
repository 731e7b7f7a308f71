"""What the model card tells, gathered from the run, the trained model and the base model's card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from codex_forge.config import RunConfig
from codex_forge.config.sections import ModelConfig

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NAME = "README.md"
_FROM_BASE = ("language", "license", "license_name", "license_link")
"""Of the base model's front matter: it holds for what is made of it."""


def facts_of(
    config: RunConfig,
    model: SentenceTransformer,
    base: Path,
    summary: Mapping[str, Any],
    *,
    counts: Mapping[str, int],
    verdict: str | None,
    measures: tuple[Mapping[str, Any], Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """What the card tells.

    Args:
        config: the run's.
        model: the trained model.
        base: the base model's folder.
        summary: `summary.summarise`.
        counts: of the pairs artifact.
        verdict: of the audit of the pairs; None when it was not asked for.
        measures: of the base model and of this one on dev data; None without any.
    """
    stages = config.train.resolved_stages
    return {
        "name": config.run_name,
        "base": config.model.base,
        "base_model": hub_id(config.model),
        "from_base": front_matter(base),
        "dimension": int(model.get_embedding_dimension() or 0),
        "max_seq_length": model.max_seq_length,
        "prompts": {name: text for name, text in model.prompts.items() if text},
        "matryoshka_dims": sorted({dim for stage in stages for dim in stage.matryoshka_dims}),
        "stages": [
            {**told, "learning_rate": stage.learning_rate, "batch_size": stage.batch_size}
            for told, stage in zip(summary["stages"], stages, strict=True)
        ],
        "summary": summary,
        "seed": config.seed,
        "counts": dict(counts),
        "verdict": verdict,
        "measures": measures,
    }


def hub_id(config: ModelConfig) -> str | None:
    """The base model's name on the model hub; None for a folder, or one inside a package."""
    is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", config.base) and not config.base.startswith(".")
    return config.base if is_name and not Path(config.base).is_dir() else None


def front_matter(base: Path) -> dict[str, Any]:
    """Licence and language from the base model's own card; empty when it says nothing."""
    path = base / NAME
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    try:
        told = yaml.safe_load(found.group(1)) if found else {}
    except yaml.YAMLError:
        told = {}
    if not isinstance(told, dict):
        return {}
    return {key: told[key] for key in _FROM_BASE if isinstance(told.get(key), str | list)}
