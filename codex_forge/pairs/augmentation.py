"""Changed copies of a text by small random operations on its words, its label kept.

Random deletion, swap and duplication after EDA (Wei & Zou 2019, "Easy Data Augmentation
Techniques for Boosting Performance on Text Classification Tasks"), without its synonyms, which
would need a thesaurus of every language; a duplicated word stands for the inserted one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from codex_forge.config.pairs import AugmentationConfig
from codex_forge.entities import normalise
from codex_forge.search import words
from codex_forge.seeded import generator

_UNSPACED = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED += "\U00020000-\U000323af"
"""Han characters and kana, which are written without spaces."""
_UNIT = re.compile(f"(\\s*)([{_UNSPACED}]{{1,2}}|[^\\s{_UNSPACED}]+)")
_TRIES = 8
"""Draws for one copy before it is given up: short texts have few different copies."""


@dataclass(frozen=True)
class _Unit:
    """A word, or two characters of a script without spaces, and the space before it."""

    space: str
    text: str
    fixed: bool

    @property
    def joint(self) -> str:
        """What stands between the unit and a copy of it."""
        return "" if re.match(f"[{_UNSPACED}]", self.text) else " "


_Change = Callable[[list[_Unit], int, random.Random], list[_Unit]]


def augmented(
    text: str,
    copies: int,
    config: AugmentationConfig,
    seed: int,
    key: object,
    names: Iterable[str] = (),
) -> list[str]:
    """At most `copies` changed copies of a text, different from it and from each other.

    Each copy has one operation done to it, drawn among those whose share is not 0, on that share
    of the words and at least one. A text of a single word has no copies. Chinese and Japanese,
    which write no spaces, are changed by pieces of two characters, about the length of a word;
    other scripts without spaces (Thai, Khmer) by what their spaces separate.

    Args:
        text: a query, or either text of a scored pair.
        copies: how many are wanted; fewer come when the text has no more different ones.
        config: shares of the words that the operations change.
        seed: of the run.
        key: names the text, such as its id; equal seeds and keys give equal copies.
        names: what the text is about; none of their words is deleted.
    """
    units = _units(text, [normalise(name) for name in names])
    changes = [(change, share) for change, share in _changes(config) if share > 0]
    if not changes or len(units) < 2:  # noqa: PLR2004
        return []
    seen = {_compared(text)}
    found: list[str] = []
    for copy in range(copies):
        rng = generator(seed, "augmented", key, copy)
        for _ in range(_TRIES):
            change, share = rng.choice(changes)
            number = max(1, round(share * len(units)))
            changed = "".join(u.space + u.text for u in change(units, number, rng)).strip()
            if words(changed) and _compared(changed) not in seen:
                seen.add(_compared(changed))
                found.append(changed)
                break
    return found


def _changes(config: AugmentationConfig) -> Iterable[tuple[_Change, float]]:
    return ((_delete, config.deletion), (_swap, config.swap), (_duplicate, config.duplication))


def _compared(text: str) -> str:
    """White space makes no difference to a tokenizer, nor does case to most."""
    return "".join(text.casefold().split())


def _units(text: str, names: Sequence[str]) -> list[_Unit]:
    fixed = {word for name in names for word in words(name)}

    def is_fixed(piece: str) -> bool:
        if re.match(f"[{_UNSPACED}]", piece):  # a piece of a name is no word of it
            return any(normalise(piece) in name for name in names)
        return not fixed.isdisjoint(words(normalise(piece)))

    return [_Unit(space, piece, is_fixed(piece)) for space, piece in _UNIT.findall(text)]


def _delete(units: list[_Unit], number: int, rng: random.Random) -> list[_Unit]:
    """Drop some units, never all."""
    free = [i for i, unit in enumerate(units) if not unit.fixed]
    most = min(number, len(free), len(units) - 1)
    dropped = set(rng.sample(free, most))
    return [unit for i, unit in enumerate(units) if i not in dropped]


def _swap(units: list[_Unit], number: int, rng: random.Random) -> list[_Unit]:
    """Let pairs of units change places; the spaces stay."""
    changed = list(units)
    for _ in range(number):
        a, b = rng.sample(range(len(changed)), 2)
        one, other = changed[a], changed[b]
        changed[a] = replace(other, space=one.space)
        changed[b] = replace(one, space=other.space)
    return changed


def _duplicate(units: list[_Unit], number: int, rng: random.Random) -> list[_Unit]:
    """Say some units twice."""
    twice = set(rng.sample(range(len(units)), min(number, len(units))))
    changed = []
    for i, unit in enumerate(units):
        changed.append(unit)
        if i in twice:
            changed.append(replace(unit, space=unit.joint))
    return changed
