"""What the leaderboard says of the score on test: whether the sweep was worth it, what it owes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from codex_forge.compare.page.scales import digits_of
from codex_forge.compare.page.written import number, signed, thousands
from codex_forge.sweep.page.facts import Board, Tree, asked, range_of

_NAMES = 5
"""Trials that are named in a sentence."""


def test_sides(board: Board) -> list[tuple[str, Tree]]:
    """The winner on test, and what stands beside it."""
    test = board["test"] or {}
    named = (
        ("Winner", "winner"),
        ("Config as it stands", "as_it_stands"),
        ("Baseline", "baseline"),
    )
    return [(what, test[key]) for what, key in named if test.get(key)]


def test_notes(board: Board) -> Iterator[str]:
    """What to know about the score on test, but for the warning."""
    if not board["test"]:
        if board["choice"] and (left := len(board["missing"])):
            word = "trial is" if left == 1 else "trials are"
            yield f"Nothing was scored on test: {thousands(left)} {word} missing."
        elif board["choice"]:
            yield "Nothing was scored on test."
        if board["choice"] and (names := board["scored_before"]):
            yield f"Scored on test before: {_named(names)}."
        return
    if names := board["scored_as_run"]:
        yield f"Scored on test before as part of the run itself: {_named(names)}."
    yield from _verdicts(board)
    yield from _harder(board)


def _verdicts(board: Board) -> Iterator[str]:
    """Was the sweep worth it: the winner against what there was without it."""
    digits = digits_of(board["metric"])
    for key, other in (("gain", "the run as it stands"), ("difference", "the baseline")):
        if not (change := board["test"][key]):
            continue
        numbers = f"{signed(change['difference'], digits)} ({range_of(change, digits)})"
        if change["low"] <= 0 <= change["high"]:
            said = f"there is no clear difference between the winner and {other}"
        else:
            word = "better" if change["low"] > 0 else "worse"
            said = f"the winner is {word} than {other}"
        yield f"On test {said}: {numbers}."


def _harder(board: Board) -> Iterator[str]:
    """Scores on dev and on test are of different questions: the baseline shows how different."""
    dev, test = board["baseline"], board["test"]["baseline"]
    if not dev or not test:
        return
    digits, part = digits_of(board["metric"]), board["part"]
    there, here = (number(side["score"], digits) for side in (dev, test))
    if there != here:
        word = "harder" if test["score"] < dev["score"] else "easier"
        yield (
            f"The test {asked(board)} are {word}: the baseline has {there} on {part} and {here} "
            "on test."
        )


def test_warning(board: Board) -> str:
    """What takes away from the score on test; empty when nothing does."""
    test = board["test"]
    if not test or test["once"]:
        return ""
    said = []
    if names := test["scored_before"]:
        said.append(f"Scored on test before: {_named(names)}.")
    if test["known"]:
        said.append(f"Not the first look at the test part: {test['known']}.")
    said.append("Whoever chose by those scores has a score here that is too high as well.")
    return " ".join(said)


def _named(names: Sequence[str]) -> str:
    left = len(names) - _NAMES
    more = f" and {thousands(left)} more" if left > 0 else ""
    return f"{', '.join(names[:_NAMES])}{more}"
