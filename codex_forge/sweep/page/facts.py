"""What the leaderboard says, in sentences that the page and the Markdown share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codex_forge.compare.page.scales import digits_of, scale_of
from codex_forge.compare.page.written import number, thousands
from codex_forge.compare.pair_measures import MEASURES
from codex_forge.sweep.effective import LEAST
from codex_forge.sweep.plan import ranges

Board = Mapping[str, Any]
"""The tree of leaderboard.json."""
Tree = Mapping[str, Any]


def ranked(board: Board) -> list[Tree]:
    """The trials that were scored on the questions of all, best first."""
    found = [trial for trial in board["trials"] if trial["rank"] is not None]
    return sorted(found, key=lambda trial: int(trial["rank"]))


def unranked(board: Board) -> list[Tree]:
    """Trials without a rank, in the order of the plan, each with its state and a reason."""
    told = {trial["name"]: trial for trial in board["missing"]}
    left = [told.pop(t["name"], t) for t in board["trials"] if t["rank"] is None]
    return sorted([*left, *told.values()], key=lambda trial: int(trial["index"]))


def asked(board: Board) -> str:
    """What the trials were scored on."""
    return "scored pairs" if board["metric"] in MEASURES else "questions"


def others_alike(board: Board) -> int:
    """How many trials cannot be told apart from the winner, itself not counted."""
    choice = board["choice"]
    return len(choice["alike"]) - (choice["winner"] in choice["alike"])


def headline(board: Board) -> str:
    """What came of the choice, in a few words."""
    if not board["choice"]:
        return "No trial was chosen"
    trials, best = len(ranked(board)), 1 + others_alike(board)
    if trials == 1:
        return "Only one trial has a score"
    if board["choice"]["too_few_groups"]:
        return f"Too few groups of {asked(board)} to choose among {thousands(trials)} trials"
    word = "trial is" if best == 1 else "trials may be"
    return f"{thousands(best)} of {thousands(trials)} {word} the best"


def no_choice(board: Board) -> str:
    """Why nothing was chosen."""
    if ranked(board):
        return "Some trials have scores, and no winner was chosen among them."
    trials = len(board["trials"])
    if not trials:
        return "The sweep has no trials."
    return (
        f"None of the {thousands(trials)} trials has a score yet."
        if trials > 1
        else ("The one trial has no score yet.")
    )


def dev_score(board: Board) -> str:
    """The winner's dev score with its interval; its name goes before."""
    choice, digits = board["choice"], digits_of(board["metric"])
    won = "has" if len(ranked(board)) == 1 else "is first with" if few(board) else "won with"
    score = f"{number(choice['score'], digits)}{of_all(board)}"
    by = f"{thousands(board['questions'])} {board['part']} {asked(board)}"
    ends = f"{level(board)} interval {range_of(choice, digits)}"
    return f"{won} {board['metric']} {score} on {by} ({ends})"


def few(board: Board) -> str:
    """Why nothing can be chosen by these questions; empty when something can."""
    choice = board["choice"]
    if not choice or not choice["too_few_groups"] or len(ranked(board)) == 1:
        return ""
    return (
        f"Those of one group hang together, and these {thousands(board['questions'])} "
        f"{asked(board)} are worth {choice['groups']:.1f} groups of equal size; a choice needs "
        f"{LEAST}. So any trial may be as good, and no interval here is to be relied on. Put more "
        f"groups into the {board['part']} part."
    )


def optimism(board: Board) -> float:
    """How much the winner's score is expected to be too high, at least 0."""
    return max(0.0, float(board["choice"]["optimism"]))


def corrected(board: Board) -> float:
    """What the winner would score on new questions of the same sort."""
    return float(board["choice"]["score"]) - optimism(board)


def too_high(board: Board) -> str:
    """What the winner's score owes to being the winner's."""
    digits, trials = digits_of(board["metric"]), len(ranked(board))
    if trials == 1:
        return "One trial leaves nothing to choose from, so its score is not too high for that."
    if not round(optimism(board), digits):
        return f"Having been the best of {thousands(trials)} adds next to nothing to its score."
    return (
        f"Having been the best of {thousands(trials)} adds about "
        f"{number(optimism(board), digits)} to its score; on new {board['part']} {asked(board)} "
        f"like these expect {number(corrected(board), digits)}."
    )


def beside(board: Board) -> list[tuple[str, Tree]]:
    """What stands beside the trials on dev."""
    named = (("Config as it stands", "as_it_stands"), ("Baseline", "baseline"))
    return [(what, board[key]) for what, key in named if board[key]]


def indexes(missing: Sequence[Tree]) -> str:
    """The trials to start, as array jobs take them."""
    return ranges(int(trial["index"]) for trial in missing)


def level(board: Board) -> str:
    """The confidence in percent."""
    return f"{100 * board['confidence']:.6g}\u00a0%"


def gate(board: Board) -> str:
    """That the run as it stands has not passed the gate that trials wait for; empty when it has."""
    if not board["gate"]:
        return ""
    started = any(trial["state"] != "missing" for trial in board["trials"])
    after = "; the trials were started all the same" if started else ""
    return f"The run as it stands has not passed sweep.gate: {board['gate']}{after}."


def of_all(board: Board) -> str:
    """What a score is out of, where people do not know it."""
    of = f" of {scale_of(board['metric']):g}"
    return of if asked(board) == "questions" else ""


def range_of(side: Tree, digits: int) -> str:
    """Both ends of an interval."""
    return f"{number(side['low'], digits)} to {number(side['high'], digits)}"
