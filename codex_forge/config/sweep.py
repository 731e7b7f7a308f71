"""The section `sweep` of a run's YAML: which trials there are, and what they are chosen by."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field, field_validator, model_validator

from codex_forge.config.section import Section

DEFAULT_GRID: dict[str, tuple[Any, ...]] = {
    "train.learning_rate": (1e-5, 2e-5, 5e-5),
    "train.epochs": (2.0, 4.0, 6.0),
    "train.warmup_steps": (50, 100, 200),
}
"""What is tried when the config names nothing."""


class SweepGateConfig(Section):
    """What the run as it stands must have reached, by its comparison, before trials start."""

    min_tier: str = "good"
    """The lowest of `compare.tiers` that passes, judged at the lower end of the interval."""
    min_measure_tier: str | None = None
    """The lowest of `compare.measure_tiers` that passes; none is asked for when not given."""
    require_improved: bool = True
    """The verdict must be `improved`."""
    must_pass: bool = True
    """Every query of `evaluate.must_pass` must find its answer."""


class SweepConfig(Section):
    """Trials: the run again and again with other settings, chosen between on dev questions."""

    grid: dict[str, tuple[Any, ...]] | None = None
    """Config key -> values; every combination is a trial. Without `grid` and `trials`:
    `train.learning_rate` 1e-5, 2e-5, 5e-5; `train.epochs` 2, 4, 6; `train.warmup_steps` 50, 100,
    200."""
    trials: tuple[dict[str, Any], ...] = ()
    """More trials, each a mapping of config keys to values."""
    metric: str = Field(default="rubric", min_length=1)
    """Chooses the winner: a measure of the dev questions (`rubric`, `ndcg@10` ...), or, where there
    are scored pairs alone, of the dev pairs (`spearman`, `roc_auc` ...)."""
    gate: SweepGateConfig = SweepGateConfig()

    @field_validator("grid", mode="before")
    @classmethod
    def _keys_may_be_nested(cls, value: object) -> object:
        """On the command line `sweep.grid.train.epochs=[2, 4]` makes a tree."""
        return _flat(value) if isinstance(value, dict) else value

    @field_validator("grid")
    @classmethod
    def _each_key_has_values(
        cls, value: dict[str, tuple[Any, ...]] | None
    ) -> dict[str, tuple[Any, ...]] | None:
        for key, values in (value or {}).items():
            if not values:
                raise ValueError(f"{key} has no values; give some, or leave it out")
        return value

    @model_validator(mode="after")
    def _names_something(self) -> SweepConfig:
        if self.grid == {} and not self.trials:
            raise ValueError("the grid is empty; leave it out for the usual one, or give keys")
        return self

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The grid that is meant."""
        if self.grid is not None:
            return self.grid
        return {} if self.trials else DEFAULT_GRID

    def __hash__(self) -> int:
        """A mapping has none; nothing changes it here."""
        return hash(json.dumps(self.model_dump(mode="json"), sort_keys=True))


def _flat(tree: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found
