"""The leaderboard in a few lines, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from codex_forge.compare.page.scales import digits_of
from codex_forge.compare.page.written import number
from codex_forge.sweep.page.facts import (
    Board,
    dev_score,
    few,
    gate,
    no_choice,
    of_all,
    range_of,
    too_high,
)
from codex_forge.sweep.page.on_test import test_notes, test_sides, test_warning
from codex_forge.sweep.page.winner import arguments, edges

_SIGNS = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2212": "-"})
"""What not every terminal shows."""


def text(board: Board, model: str = "") -> str:
    """The choice, its score on test, and what to do with it.

    Args:
        board: the tree of leaderboard.json.
        model: where the winner's model is; without it, the place within the store.
    """
    lines = [f"  {_printable(line)}" for line in _lines(board)]
    if board["choice"]:
        lines.append(f"  Its model: {_printable(model or board['model'])}")
    if given := arguments(board):
        lines.append(f"  What it sets: {given}")
    return "\n".join([*lines, ""])


def _lines(board: Board) -> Iterator[str]:
    if not board["choice"]:
        yield no_choice(board)
    else:
        yield f"{board['choice']['winner']} {dev_score(board)}. {few(board) or too_high(board)}"
    digits = digits_of(board["metric"])
    for what, side in test_sides(board):
        score = f"{number(side['score'], digits)}{of_all(board)}"
        yield f"{what} on test: {score} ({range_of(side, digits)})"
    yield from test_notes(board)
    yield from filter(None, [test_warning(board)])
    yield from edges(board)
    yield from filter(None, [gate(board)])


def _printable(line: str) -> str:
    plain = line.translate(_SIGNS)
    return "".join(sign if sign.isprintable() else " " for sign in plain)
