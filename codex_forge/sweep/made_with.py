"""Was an artifact made as a config says now? Told from its manifest alone, without the mode itself.

The store is enough: no corpus is read and no model is loaded, so that a login node can ask about a
thousand trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from codex_forge.artifact import Manifest
from codex_forge.config import RunConfig
from codex_forge.config.train import StageConfig

_MISSING = object()
_ELSEWHERE = {"on_bad_record": "corpus.on_bad_record"}
"""Where the config has what a manifest calls otherwise."""


def differences(manifest: Manifest, config: RunConfig) -> list[str]:
    """What the artifact was made with that the config says otherwise now, in words."""
    now = config.model_dump(mode="json")
    found = list(_of_stages(manifest, config))
    for key, kept in _settings(manifest):
        said = _look(now, key)
        if said is _MISSING or _same(kept, said) or _is_resolved(key, said):
            continue
        found += _told(key, kept, said)
    if manifest.kind == "embed" and "embed.engine" not in manifest.settings:
        engine = config.embed.engine
        found += [f"embed.engine was 'torch', now {engine!r}"] if engine != "torch" else []
    found += _of_model(manifest, now)
    return found


def _settings(manifest: Manifest) -> Iterator[tuple[str, Any]]:
    """(config key, value) of a manifest's settings; sections are taken apart once."""
    for key, value in manifest.settings.items():
        if isinstance(value, Mapping):
            for inner, kept in value.items():
                if (key, inner) != ("train", "stages"):
                    yield f"{key}.{inner}", kept
        else:
            yield _ELSEWHERE.get(key, key), value


def _of_stages(manifest: Manifest, config: RunConfig) -> Iterator[str]:
    """Several stages stand in a manifest as they were resolved."""
    if manifest.kind != "train":
        return
    stages = config.train.resolved_stages if config.train.stages else ()
    now = {str(n): stage.model_dump(mode="json") for n, stage in enumerate(stages, 1)}
    before = manifest.settings.get("train", {}).get("stages") or {}
    names = sorted(StageConfig.model_fields)
    for number in sorted({*now, *before}):
        one, other = before.get(number, {}), now.get(number, {})
        for name in names:
            if one.get(name) != other.get(name):
                key = f"train.stages[{number}].{name}"
                yield f"{key} was {one.get(name)!r}, now {other.get(name)!r}"


def _of_model(manifest: Manifest, now: Mapping[str, Any]) -> Iterator[str]:
    """The base model by its name: whether its files are the same is seen when it is used."""
    if manifest.kind != "train":
        return
    before = manifest.config.get("model", {})
    for key in ("base", "revision"):
        if before.get(key) != now["model"][key]:
            yield f"model.{key} was {before.get(key)!r}, now {now['model'][key]!r}"


def _look(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part, _MISSING) if isinstance(tree, Mapping) else _MISSING
    return tree


def _same(kept: Any, said: Any) -> bool:
    """Whether the config says all that is kept; a manifest leaves out what makes no difference."""
    if isinstance(kept, Mapping) and isinstance(said, Mapping):
        return all(key not in said or _same(value, said[key]) for key, value in kept.items())
    return bool(kept == said)


def _told(key: str, kept: Any, said: Any) -> Iterator[str]:
    """What differs, key by key where both are sections."""
    if not isinstance(kept, Mapping) or not isinstance(said, Mapping):
        yield f"{key} was {kept!r}, now {said!r}"
        return
    for inner, value in kept.items():
        if inner in said and not _same(value, said[inner]):
            yield from _told(f"{key}.{inner}", value, said[inner])


def _is_resolved(key: str, said: Any) -> bool:
    """A manifest holds what `auto` came to."""
    return key == "embed.precision" and said == "auto"
