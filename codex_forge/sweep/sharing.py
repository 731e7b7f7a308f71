"""What a trial reads of its run, and what is made once for all trials that need it otherwise.

Pairs follow from `corpus`, `pairs` and, where those are changed, the seed; an audit also from
`model` and `audit`. Trials that agree in these share them, under a name that says just that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from codex_forge.config import RunConfig, changed
from codex_forge.sweep.labels import label_of, name_of

Overrides = Mapping[str, Any]


class Before(NamedTuple):
    """A mode that runs before the training, and its config."""

    mode: Literal["embed", "pairs", "audit"]
    config: RunConfig

    @property
    def name(self) -> str:
        """Of the artifact that it makes."""
        return self.config.embed_name if self.mode == "embed" else self.config.run_name


class Shared(NamedTuple):
    """What a trial uses, and what has to be made for that."""

    use: dict[str, str]
    before: tuple[Before, ...]


def shared(config: RunConfig, tried: RunConfig, overrides: Overrides) -> Shared:
    """What a trial shares.

    Args:
        config: the run's.
        tried: the same with the trial's overrides.
        overrides: what the trial sets otherwise.
    """
    use = {"pairs": config.pairs_name, "audit": config.audit_name}
    use |= {"base": config.use.base or config.name, "sweep": config.name}
    before: list[Before] = []
    overrides = _other(config, overrides)
    asks_model = tried.pairs.negatives.nearest > 0
    of_pairs = _of_pairs(overrides, asks_model=asks_model)
    if of_pairs:
        made = _renamed(config, of_pairs, {"base": use["base"]})
        if asks_model and touches(of_pairs, "corpus", "model"):
            made = _renamed(config, of_pairs, {})
            based = changed(made, {"embed.model": "base"}, where=made.name)
            before.append(Before("embed", based))
            use["base"] = made.name
        before.append(Before("pairs", made))
        use["pairs"] = made.run_name
    of_audit = {**of_pairs, **_only(overrides, "audit", "model")}
    if of_audit and tried.train.require_audit:
        audited = _renamed(config, of_audit, {"pairs": use["pairs"]})
        before.append(Before("audit", audited))
        use["audit"] = audited.run_name
    return Shared(use, tuple(before))


def _other(config: RunConfig, overrides: Overrides) -> dict[str, Any]:
    """The overrides that say something else than the run does."""
    now = config.model_dump(mode="json")
    return {key: value for key, value in overrides.items() if value_at(now, key) != value}


def value_at(tree: Any, key: str) -> Any:
    """What a config's tree has at a dotted key; None where a section on the way is not given."""
    for part in key.split("."):
        tree = None if tree is None else tree[part]
    return tree


def _of_pairs(overrides: Overrides, *, asks_model: bool) -> dict[str, Any]:
    """The overrides that make other pairs; the seed alone changes the training alone."""
    model = ("model",) if asks_model else ()
    found = _only(overrides, "corpus", "pairs")
    return _only(overrides, "corpus", "pairs", "seed", *model) if found else {}


def _renamed(config: RunConfig, overrides: Overrides, use: Mapping[str, str]) -> RunConfig:
    name = name_of(config.name, label_of(overrides))
    marked = {**use, "sweep": config.name}
    own = {**overrides, "name": name, "use": marked, "embed.chroma": {}}
    return changed(config, own, where=name)


def touches(overrides: Overrides, *sections: str) -> bool:
    """Whether a key of one of the sections is set."""
    return bool(_only(overrides, *sections))


def _only(overrides: Overrides, *sections: str) -> dict[str, Any]:
    return {key: value for key, value in overrides.items() if key.partition(".")[0] in sections}
