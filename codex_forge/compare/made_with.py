"""The settings that made a model: what the config says differently, and what always matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codex_forge.artifact import Artifact
from codex_forge.config import flatten
from codex_forge.config.pairs import PairsConfig
from codex_forge.config.sections import EmbedConfig
from codex_forge.config.train import TrainConfig

_ALWAYS = (
    "pairs.synthesis.templates",
    "pairs.synthesis.synthetic_expansion",
    "pairs.negatives.num",
    "train.objective",
    "train.epochs",
    "train.learning_rate",
    "train.batch_size",
    "train.num_negatives",
)
_OF_MACHINES = ("train.logging_steps", "train.micro_batch_tokens")
_SECTIONS = (("pairs", PairsConfig), ("train", TrainConfig), ("embed", EmbedConfig))


def told_settings(made: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """The base model, and settings of `pairs`, `train` and `embed` as rows of key and value.

    Args:
        made: the artifacts behind a result, by their kind.

    Returns:
        Rows of `key`, `value` and `default`, which is None for the first of them, `model.base`.
    """
    found: list[dict[str, Any]] = []
    if maker := made.get("train") or made.get("embed"):
        base = maker.manifest.inputs.get("model")
        found.append({"key": "model.base", "value": base.name if base else "", "default": None})
    for kind, section in _SECTIONS:
        if kind in made:
            given = flatten({kind: made[kind].manifest.settings.get(kind, {})})
            default = flatten({kind: section().model_dump(mode="json")})
            found += [
                {"key": key, "value": value, "default": default.get(key)}
                for key, value in given.items()
                if key not in _OF_MACHINES and (key in _ALWAYS or value != default.get(key, value))
            ]
    return found


def template_of(query: str, pairs: Mapping[str, Any]) -> str | None:
    """The template that a query was made by: of those that fit, the one that says most itself.

    Args:
        query: the text of a row whose source makes queries of names.
        pairs: the `pairs` settings.
    """
    synthesis = pairs.get("synthesis", {})
    sets = synthesis.get("template_sets", ())
    every = [*synthesis.get("templates", ()), *(t for s in sets for t in s["templates"])]
    fits = [template for template in every if _fits(query, template)]
    return max(fits, key=len, default=None)


def _fits(query: str, template: str) -> bool:
    before, _, after = template.partition("{name}")
    room = len(query) > len(before) + len(after)
    return room and query.startswith(before) and query.endswith(after)
