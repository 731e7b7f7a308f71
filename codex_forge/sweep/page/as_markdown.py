"""The leaderboard as Markdown, for a pull request or a ticket."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from codex_forge.compare.page.scales import digits_of
from codex_forge.compare.page.written import number, plain
from codex_forge.spreadsheets import markdown_cell
from codex_forge.sweep.page.facts import (
    Board,
    Tree,
    beside,
    dev_score,
    few,
    gate,
    headline,
    indexes,
    no_choice,
    range_of,
    ranked,
    too_high,
    unranked,
)
from codex_forge.sweep.page.on_test import test_notes, test_sides, test_warning
from codex_forge.sweep.page.winner import arguments, edges

_NONE = "-"


def markdown(board: Board, model: str = "") -> str:
    """The choice, the trials by rank, and what is missing.

    Args:
        board: the tree of leaderboard.json.
        model: where the winner's model is; without it, the place within the store.
    """
    lines = [
        f"# Sweep {markdown_cell(board['name'])}",
        "",
        f"**{markdown_cell(headline(board))}.**",
    ]
    winner = _winner(board, model or board["model"])
    parts = (part(board) for part in (_trials, _beside, _missing))
    for part in (_choice(board), _test(board), winner, *parts):
        if found := list(part):
            lines += ["", *found]
    return "\n".join([*lines, ""])


def _choice(board: Board) -> Iterator[str]:
    if not board["choice"]:
        yield no_choice(board)
    else:
        yield _score(board)
    if said := gate(board):
        yield ""
        yield markdown_cell(said)


def _score(board: Board) -> str:
    winner = board["choice"]["winner"]
    return markdown_cell(f"{winner} {dev_score(board)}. {few(board) or too_high(board)}")


def _test(board: Board) -> Iterator[str]:
    for what, side in test_sides(board):
        yield f"- {what} on test: {_side(board, side)}"
    yield from (f"- {markdown_cell(note)}" for note in test_notes(board))
    if warning := test_warning(board):
        yield f"- **{markdown_cell(warning)}**"


def _winner(board: Board, model: str) -> Iterator[str]:
    """What to do with it."""
    if not board["choice"]:
        return
    yield from (f"- {markdown_cell(said)}" for said in edges(board))
    yield f"- The winner's model: {markdown_cell(model)}"
    if given := arguments(board):
        yield from ("", "What it sets, for `make`:", "", *_fenced(given))


def _fenced(line: str) -> list[str]:
    """A line to copy, within a fence that it cannot close."""
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", line, fence]


def _trials(board: Board) -> Iterator[str]:
    if not (rows := ranked(board)):
        return
    keys = [markdown_cell(key) for key in board["keys"]]
    heads = [
        "rank",
        "trial",
        *keys,
        board["metric"],
        "interval",
        "behind",
        "best in resamples",
        "alike",
    ]
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    yield from (_row(row, board["keys"], digits_of(board["metric"])) for row in rows)


def _row(row: Tree, keys: Sequence[str], digits: int) -> str:
    behind = row["behind"]
    values = (plain(row["overrides"][key]) if key in row["overrides"] else _NONE for key in keys)
    cells = [
        str(row["rank"]),
        markdown_cell(row["name"]),
        *(markdown_cell(value) for value in values),
        number(row["score"], digits),
        range_of(row, digits),
        number(behind["difference"], digits) if behind else _NONE,
        f"{row['best_share']:.0%}",
        "yes" if row["alike"] else "no",
    ]
    return f"| {' | '.join(cells)} |"


def _beside(board: Board) -> Iterator[str]:
    for what, side in beside(board):
        yield f"- {what} on {board['part']}: {_side(board, side)}"


def _side(board: Board, side: Tree) -> str:
    digits = digits_of(board["metric"])
    ends = range_of(side, digits)
    return f"{number(side['score'], digits)} ({ends}), {markdown_cell(side['name'])}"


def _missing(board: Board) -> Iterator[str]:
    if not (left := unranked(board)):
        return
    yield f"{len(left)} of {len(board['trials'])} trials have no rank:"
    yield ""
    for trial in left:
        said = f": {trial['said']}" if trial["said"] else ""
        text = f"{trial['index']} {trial['name']} ({trial['state']}){said}"
        yield f"- {markdown_cell(text)}"
    if board["missing"]:
        yield ""
        yield (
            "`python -m jobs.sweep CONFIG.yaml` runs only what is missing; as indexes of an array: "
            f"`{indexes(board['missing'])}`."
        )
