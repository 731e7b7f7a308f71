"""What to do with the winner: what it sets, to be pasted, and whether to look further."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import yaml

from codex_forge.sweep.page.facts import Board, Tree, ranked
from codex_forge.sweep.page.table import is_number, written

_BMP = 0xFFFF


def winner_of(board: Board) -> Tree:
    """The row of the winner of a choice."""
    name = board["choice"]["winner"]
    return next(trial for trial in board["trials"] if trial["name"] == name)


def arguments(board: Board) -> str:
    """What the winner sets, as make takes it; empty when there is nothing to set.

    Quoted twice: by the shell that starts make, and by the one that make starts.
    """
    overrides = winner_of(board)["overrides"] if board["choice"] else {}
    if not overrides:
        return ""
    each = (shlex.quote(f"{key}={_value(value)}") for key, value in overrides.items())
    return f"ARGS='{_inside(' '.join(each))}'"


def _inside(text: str) -> str:
    """Within quotes of the shell; make takes two dollar signs for one."""
    return text.replace("$", "$$").replace("'", "'\"'\"'")


def _value(value: object) -> str:
    """A value on one line, as the config reads it: text as it is where it stays text, else JSON."""
    if isinstance(value, str) and value.isprintable() and _stays(value):
        return value
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _stays(text: str) -> bool:
    try:
        return bool(yaml.safe_load(text) == text)
    except yaml.YAMLError:
        return False


def _escaped(sign: str) -> str:
    code = ord(sign)
    return f"\\u{code:04x}" if code <= _BMP else f"\\U{code:08x}"


def edges(board: Board) -> Iterator[str]:
    """Keys of which the winner has the lowest or the highest value: better ones may lie beyond."""
    if not board["choice"]:
        return
    found = winner_of(board)
    for key in board["keys"]:
        values = [trial["overrides"].get(key) for trial in ranked(board)]
        # A seed has a size, and no order that means anything; a trial without the key has the
        # config's own value, which is not known here.
        if key.endswith("seed") or not all(is_number(value) for value in values):
            continue
        low, high, own = min(values), max(values), found["overrides"][key]
        if low < high and own in (low, high):
            word = "lowest" if own == low else "highest"
            yield f"{written(own)} is the {word} value tried of {key}."
