"""The leaderboard as one HTML page that opens anywhere and asks nothing of the network.

Names, labels and reasons are untrusted text, so autoescaping is on, and the page's
Content-Security-Policy allows its own script alone, by hash. Without JavaScript the table is whole,
in the order of the ranks. The look is that of the comparison's page.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codex_forge.compare import page as comparison
from codex_forge.compare.page.scales import digits_of, scale_of
from codex_forge.compare.page.written import FILTERS, number
from codex_forge.pages import environment_of
from codex_forge.sweep.page.axes import Axis
from codex_forge.sweep.page.facts import (
    Board,
    asked,
    corrected,
    dev_score,
    few,
    gate,
    headline,
    indexes,
    level,
    no_choice,
    optimism,
    others_alike,
    range_of,
    too_high,
    unranked,
)
from codex_forge.sweep.page.keys import keys
from codex_forge.sweep.page.on_test import test_notes, test_sides, test_warning
from codex_forge.sweep.page.table import table, written
from codex_forge.sweep.page.winner import arguments, edges, winner_of

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent
_LOOK = Path(comparison.__file__).parent / "style.css"


def html(board: Board, model: str = "") -> str:
    """The whole page as text; write it as UTF-8.

    Args:
        board: the tree of leaderboard.json.
        model: where the winner's model is; without it, the place within the store.
    """
    from markupsafe import Markup

    style = _text(_LOOK) + _text(_FOLDER / "leaderboard.css")
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            **_shown(board),
            model=model or board["model"],
            style=Markup(style),  # noqa: S704 - ours
            script=Markup(_text(_FOLDER / "leaderboard.js")),  # noqa: S704 - ours
        )
    )
    return re.sub("[\ud800-\udfff]", "\ufffd", page)


def _shown(board: Board) -> dict[str, Any]:
    """What the sections of the page show; a section that got nothing is left out."""
    chosen = bool(board["choice"])
    digits = digits_of(board["metric"])
    return {
        "board": board,
        "headline": headline(board),
        "gate": gate(board),
        "detail": dev_score(board) if chosen else no_choice(board),
        "asked": asked(board),
        "level": level(board),
        "table": table(board),
        "keys": keys(board),
        "unranked": unranked(board),
        "missing": indexes(board["missing"]),
        "test": _test(board),
        "test_notes": list(test_notes(board)),
        "test_warning": test_warning(board),
        **(_chosen(board, digits) if chosen else {}),
    }


def _chosen(board: Board, digits: int) -> dict[str, Any]:
    """What is said of a winner."""
    found = winner_of(board)
    return {
        "lead": few(board) or too_high(board),
        "few": bool(few(board)),
        "others_alike": others_alike(board),
        "optimism": number(optimism(board), digits) if round(optimism(board), digits) else "",
        "corrected": number(corrected(board), digits),
        "winner": {
            "name": found["name"],
            "best": f"{100 * found['best_share']:.0f}\u00a0%",
            "score": number(found["score"], digits),
            "overrides": [(k, written(v)) for k, v in found["overrides"].items()],
            "arguments": arguments(board),
            "edges": list(edges(board)),
        },
    }


def _test(board: Board) -> dict[str, Any] | None:
    """The winner and what stands beside it, on one scale."""
    if not (sides := test_sides(board)):
        return None
    digits = digits_of(board["metric"])
    ends = ("low", "high")
    scale = Axis([side[end] for _, side in sides for end in ends], scale_of(board["metric"]))
    return {
        "sides": [
            {
                "what": what,
                "kind": "winner" if what == "Winner" else "side",
                "name": side["name"],
                "score": number(side["score"], digits),
                "range": range_of(side, digits),
                "x": scale.at(side["score"]),
                **{end: scale.at(side[end]) for end in ends},
            }
            for what, side in sides
        ],
    }


@cache
def _environment() -> Environment:
    environment = environment_of(_FOLDER)
    environment.filters.update(FILTERS, soft_breaks=_breaking("-_=./"), soft_commas=_breaking(","))
    return environment


def _breaking(signs: str) -> Any:
    """A filter: a text that may go on in the next line after each of these signs."""
    from markupsafe import Markup, escape

    def soft(text: str) -> Markup:
        pieces = re.split(f"(?<=[{re.escape(signs)}])", text)
        return Markup("<wbr>").join(escape(piece) for piece in pieces)

    return soft


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
