"""What a trial is called: by what it has otherwise than the run, so that more trials rename none.

A label depends on the trial's own overrides alone, in the order of their keys.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from codex_forge.errors import ConfigError

_LONGEST = 100
"""Letters of a name."""
_SHORTEST_LABEL = 10
_HASH = 8
_TAIL = 16
_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,22}[A-Za-z0-9])?")
_TAKEN = re.compile(r"(?:base|bm25|hybrid|chroma|dev|all|fold\d+)")
"""Endings of other artifacts' names."""


def label_of(overrides: Mapping[str, Any]) -> str:
    """What differs, in words that a name may hold: `epochs-2-learning_rate-1e-05`."""
    if not overrides:
        return "as-it-stands"
    return "-".join(f"{_short(key)}-{_text(overrides[key])}" for key in sorted(overrides))


def name_of(run: str, label: str) -> str:
    """The trial's name; one that is too long ends in a hash.

    Raises:
        ConfigError: the run's own name is too long.
    """
    name = f"{run}-{label}"
    if len(name) <= _LONGEST:
        return name
    room = _LONGEST - len(run) - 1
    if room < _SHORTEST_LABEL:
        raise ConfigError(
            f"the name {run!r} leaves no room for those of trials",
            where="name",
            do="choose a shorter one",
        )
    kept = label[: max(0, room - _HASH - 1)].rstrip("._-")
    return "-".join(filter(None, (run, kept, _hash(label))))


def _short(key: str) -> str:
    """Most of what is swept is a key of `train`: that goes without saying."""
    return key.removeprefix("train.")


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, int | float):
        return repr(value).removesuffix(".0").replace("+", "")
    if isinstance(value, str):
        return _word(value)
    return _hash(value)


def _word(value: str) -> str:
    """A word as it is; of a path or a sentence its end and a hash."""
    if _PLAIN.fullmatch(value) and not _TAKEN.fullmatch(value.rsplit("-", 1)[-1]):
        return value
    tail = re.sub(r"[^A-Za-z0-9._]+", "-", value.rstrip("/").rsplit("/", 1)[-1])[:_TAIL]
    return "-".join(filter(None, (tail.strip("._-"), _hash(value))))


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH]
